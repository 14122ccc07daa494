"""What clients ask of the API server, by its own audit log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from local_cluster import control_plane
from tests.support.audit import DASK_OPERATOR, OPERATOR, READS, Audit

AF, DASK, CONTROLLERS, SCHEDULER, NODES = "af-operator", "dask-operator", "controllers", "scheduler", "nodes"
BARE = "bare client"
OPERATORS = (AF, DASK)
"""Of these requests about no object count, too: they are made for nothing else."""
ON_CLUSTER = {OPERATOR: AF, DASK_OPERATOR: DASK, "system:serviceaccount:kube-system:*": CONTROLLERS}
ON_CONTROL_PLANE = {
    control_plane.OPERATOR: AF,
    control_plane.DASK_OPERATOR: DASK,
    control_plane.CLIENT: BARE,
    control_plane.CONTROLLERS: CONTROLLERS,
    control_plane.SCHEDULER: SCHEDULER,
    control_plane.NODES: NODES,
}


@dataclass(frozen=True)
class Asked:
    """Requests of one client.

    Attributes
    ----------
    reads
        Get, list and watch of objects in the namespace.
    probes
        Requests about no object at all, such as ``GET /version``.
    writes
        All others in the namespace, those that failed too.
    """

    reads: int = 0
    probes: int = 0
    writes: int = 0

    def __add__(self, other: Asked) -> Asked:
        return Asked(self.reads + other.reads, self.probes + other.probes, self.writes + other.writes)

    @property
    def read(self) -> int:
        """Everything that changes nothing."""
        return self.reads + self.probes

    @property
    def total(self) -> int:
        """All of them."""
        return self.read + self.writes


@dataclass(frozen=True)
class Requests:
    """Requests for one step, by client.

    Attributes
    ----------
    elsewhere
        Of the operators in other namespaces: what was measured was not alone.
    last
        When the last write was received.
    """

    by: Mapping[str, Asked]
    elsewhere: int = 0
    last: datetime | None = None

    def of(self, *clients: str) -> Asked:
        """Return those of some clients together."""
        return sum((self.by.get(client, Asked()) for client in clients), Asked())

    @property
    def operators(self) -> Asked:
        """Those of both operators."""
        return self.of(*OPERATORS)

    @property
    def all(self) -> Asked:
        """Those of every client."""
        return self.of(*self.by)

    def __add__(self, other: Requests) -> Requests:
        by = {client: self.of(client) + other.of(client) for client in (*self.by, *other.by)}
        return Requests(by, self.elsewhere + other.elsewhere, other.last or self.last)

    def body(self) -> dict[str, dict[str, int]]:
        """Return the counts as JSON has them."""
        return {
            client: {"reads": asked.reads, "probes": asked.probes, "writes": asked.writes}
            for client, asked in self.by.items()
            if asked.total
        }


class Log(Audit):
    """The audit log from now on, reads included.

    Parameters
    ----------
    clients
        What to call those who count, by the pattern of their user names.
    path
        The log; that of the local cluster if left out.
    """

    def __init__(self, clients: Mapping[str, str], path: Path | None = None) -> None:
        super().__init__(path)
        self._clients = clients

    def since_last(self, namespace: str | None) -> Requests:
        """Count what came since this was asked before, in one namespace or in all.

        Requests about all namespaces (watches, leases) do not count.
        """
        events = [e for e in map(json.loads, self._lines()) if e["stage"] == "ResponseComplete"]
        named = [(client, event) for event in events if (client := self._client(event))]
        return counted(named, namespace)

    def _client(self, event: Mapping[str, Any]) -> str | None:
        user = event["user"]["username"]
        return next((client for pattern, client in self._clients.items() if fnmatchcase(user, pattern)), None)


def counted(events: Iterable[tuple[str, Mapping[str, Any]]], namespace: str | None) -> Requests:
    """Count audit events, each with its client."""
    found: dict[str, Counter[str]] = {}
    elsewhere, last = 0, None
    for client, event in events:
        what = _what(client, event, namespace)
        if what == "elsewhere":
            elsewhere += client in OPERATORS
        elif what:
            found.setdefault(client, Counter())[what] += 1
        if what == "writes":
            last = datetime.fromisoformat(event["requestReceivedTimestamp"])
    return Requests({client: Asked(**numbers) for client, numbers in found.items()}, elsewhere, last)


def _what(client: str, event: Mapping[str, Any], namespace: str | None) -> str | None:
    """Return as what a request counts, if at all."""
    ref = event.get("objectRef")
    if ref is None:
        return "probes" if client in OPERATORS else None
    where = ref.get("namespace")
    if where is None or ref.get("resource") == "leases":
        return None
    if namespace not in (None, where):
        return "elsewhere"
    return "reads" if event["verb"] in READS else "writes"
