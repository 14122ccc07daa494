"""What the operators ask of the API server, by its own audit log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.audit import DASK_OPERATOR, OPERATOR, READS, Audit

NAMES = {OPERATOR: "af-operator", DASK_OPERATOR: "dask-operator"}


@dataclass(frozen=True)
class Requests:
    """Requests for one step, by operator.

    Attributes
    ----------
    reads
        Get, list and watch of objects in the namespace.
    probes
        Requests about no object at all, such as ``GET /version``.
    writes
        All others in the namespace, those that failed too.
    elsewhere
        In other namespaces: what was measured was not alone.
    """

    reads: dict[str, int]
    probes: dict[str, int]
    writes: dict[str, int]
    elsewhere: int

    @property
    def read(self) -> int:
        """Everything that changes nothing."""
        return sum(self.reads.values()) + sum(self.probes.values())

    @property
    def written(self) -> int:
        """Everything that is meant to change something."""
        return sum(self.writes.values())


class Log(Audit):
    """The audit log from now on, reads included."""

    def since_last(self, namespace: str) -> Requests:
        """Count what came since this was asked before. Cluster-wide requests (watches, leases) do not count."""
        events = [e for e in map(json.loads, self._lines()) if _counts(e)]
        here = [e for e in events if e.get("objectRef", {}).get("namespace") == namespace]
        reads = [e for e in here if e["verb"] in READS]
        writes = [e for e in here if e["verb"] not in READS]
        probes = [e for e in events if "objectRef" not in e]
        elsewhere = [e for e in events if e.get("objectRef", {}).get("namespace") not in (None, namespace)]
        foreign = [e for e in elsewhere if e["objectRef"].get("resource") != "leases"]
        return Requests(_by_operator(reads), _by_operator(probes), _by_operator(writes), len(foreign))


def _counts(event: dict[str, Any]) -> bool:
    return event["user"]["username"] in NAMES and event["stage"] == "ResponseComplete"


def _by_operator(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    found = dict.fromkeys(NAMES.values(), 0)
    for event in events:
        found[NAMES[event["user"]["username"]]] += 1
    return found
