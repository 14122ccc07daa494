"""What was written, and by whom: the API server's audit log from a moment on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from af_operator.reconcile import QUIET
from local_cluster.facility import SYSTEM_NAMESPACE
from tests.support.tenant import audit_log

OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:af-operator"
DASK_OPERATOR = f"system:serviceaccount:{SYSTEM_NAMESPACE}:dask-operator"
JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"
READS = ("get", "list", "watch")


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes
    ----------
    resource
        Plural, with its subresource: ``jobs``, ``analysissessions/status``.
    name
        Empty where the server made it (``generateName``).
    code
        HTTP status; an apply that created the object has 201.
    source
        IP address of the client.
    """

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    source: str
    received: datetime

    @property
    def created(self) -> bool:
        """Whether an object came of it: by a POST, or by a server-side apply."""
        return self.code == 201 and "/" not in self.resource

    def __str__(self) -> str:
        return f"{self.received:%H:%M:%S.%f} {self.verb} {self.resource} {self.namespace}/{self.name} {self.code}"


class Audit:
    """The audit log from now on: that of the local cluster, or another's.

    The file stays open: when the server rotates it, the open one is read to its end and the new one from its start.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or audit_log()
        self._file = self._path.open(encoding="utf-8")
        self._file.seek(0, 2)
        self._calls: list[Call] = []
        self._partial = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def writes(self, *users: str, namespace: str | None = None) -> list[Call]:
        """Return what these users wrote (all users when none is named), in one namespace or everywhere."""
        calls = self.calls(*users, namespace=namespace)
        return [call for call in calls if call.verb not in READS]

    def calls(self, *users: str, namespace: str | None = None) -> list[Call]:
        """Return what these users asked, reads and watches that have ended included."""
        self.news()
        return [c for c in self._calls if (not users or c.user in users) and namespace in (None, c.namespace)]

    def news(self, *users: str) -> list[Call]:
        """Return the part of that which nobody has heard of yet."""
        found = [c for line in self._lines() if (c := _call(json.loads(line)))]
        self._calls += found
        return [c for c in found if not users or c.user in users]

    def created(self, *users: str, namespace: str) -> list[str]:
        """Return ``resource/name`` of each creation: an object that was created twice is there twice."""
        found = self.writes(*users, namespace=namespace)
        return [f"{w.resource}/{w.name}" for w in found if w.created and w.resource != "events"]

    def _lines(self) -> Iterator[str]:
        yield from self._rest()
        if self._path.stat().st_ino != _inode(self._file):
            self._file.close()
            self._file = self._path.open(encoding="utf-8")
            yield from self._rest()

    def _rest(self) -> Iterator[str]:
        *lines, self._partial = (self._partial + self._file.read()).split("\n")
        yield from lines


def all_told(audit: Audit, namespace: str) -> bool:
    """Return whether the operator holds back no status of this namespace any more."""
    last = max(w.received for w in audit.writes(OPERATOR, namespace=namespace))
    return datetime.now(UTC) - last > QUIET + timedelta(seconds=2)


def _inode(file: Any) -> int:
    return os.fstat(file.fileno()).st_ino


def _call(event: dict[str, Any]) -> Call | None:
    ref = event.get("objectRef")
    if ref is None or event["stage"] != "ResponseComplete":
        return None
    parts = (ref.get("resource", ""), ref.get("subresource"))
    return Call(
        user=event["user"]["username"],
        verb=event["verb"],
        resource="/".join(p for p in parts if p),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        source=event.get("sourceIPs", [""])[0],
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
    )
