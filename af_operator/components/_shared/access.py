"""What lets a session's user in where tokens and ports are: a Role for one Secret and one pod, and who has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from af_operator.model import Manifest, Session
from af_operator.render import render


def of_user(session: Session, name: str, pod: str) -> Iterator[Manifest]:
    """Yield the right to read the Secret of this name, and to forward ports to this pod; all are called alike."""
    yield render(__package__, "role", name=name, pod=pod)
    yield render(__package__, "rolebinding", name=name, user=session.spec.user)
