"""What lets a session's user read what is theirs, and in where ports are: a Role for single objects. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from af_operator.model import Manifest, Session
from af_operator.render import render


def of_user(session: Session, name: str, pod: str) -> Iterator[Manifest]:
    """Yield the right to read the Secret of this name, and to forward ports to this pod; all are called alike."""
    yield render(__package__, "role", name=name, pod=pod)
    yield render(__package__, "rolebinding", name=name, user=session.spec.user)


def to_log(session: Session, name: str) -> Iterator[Manifest]:
    """Yield the right to read the ConfigMap of this name, which keeps a log; all are called alike."""
    yield render(__package__, "log_role", name=name)
    yield render(__package__, "rolebinding", name=name, user=session.spec.user)
