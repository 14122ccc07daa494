"""What lets a session's user read what is theirs, and in where ports are: a Role for single objects. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from af_operator.model import Body, Manifest, Session
from af_operator.render import render


def of_user(
    session: Session, name: str, pod: str, *, secrets: Sequence[str] = (), readers: Sequence[str] = ()
) -> Iterator[Manifest]:
    """Yield the right to read the Secret of this name, and to forward ports to this pod; all are called alike.

    Parameters
    ----------
    secrets
        Names of more Secrets to read.
    readers
        Who has the right beside the session's user, as the API server knows them.
    """
    yield render(__package__, "role", name=name, secrets=[name, *secrets], pod=pod)
    yield render(__package__, "rolebinding", name=name, subjects=_subjects(session.spec.user, *readers))


def to_log(session: Session, name: str) -> Iterator[Manifest]:
    """Yield the right to read the ConfigMap of this name, which keeps a log; all are called alike."""
    yield render(__package__, "log_role", name=name)
    yield render(__package__, "rolebinding", name=name, subjects=_subjects(session.spec.user))


def _subjects(*users: str) -> list[Body]:
    # A service account is a user, too: system:serviceaccount:<namespace>:<name>.
    return [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user} for user in users]
