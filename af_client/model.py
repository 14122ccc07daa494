"""An ``AnalysisSession`` as its user sees it: light, frozen, read from the object as the API server sends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from af_client.errors import GROUP
from af_client.storage import StoredFile, stored_file

API_VERSION = f"{GROUP}/v1alpha1"
KIND = "AnalysisSession"
PLURAL = "analysissessions"
Body = Mapping[str, Any]
REPLICAS = "replicas"
"""In a component's section of the spec, and what it calls them as a pool in its status."""
TIMED_OUT = frozenset({"DeadlineExceeded", "LifetimeExceeded"})


@dataclass(frozen=True)
class Condition:
    """One condition; `status` is True, False or None for Unknown."""

    type: str
    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True)
class Pool:
    """Workers of one pool."""

    component: str
    name: str
    ready: int
    desired: int


@dataclass(frozen=True)
class Results:
    """What a run left; `files` may name fewer than `count`: the manifest at `url` has all."""

    url: str
    count: int
    bytes: int
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class Run:
    """The headless program."""

    pod: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    wall_seconds: float | None = None
    peak_memory_bytes: int | None = None
    attempts: int | None = None
    results: Results | None = None
    started: datetime | None = None
    disruptions: int | None = None
    last_disruption: str | None = None


ENDED = frozenset({"Succeeded", "Failed", "Refused"})
"""Phases in which nothing more will happen."""


@dataclass(frozen=True)
class Session:
    """A session and its status; `body` is the whole object."""

    name: str
    namespace: str
    uid: str
    user: str
    mode: str
    suspended: bool
    deleting: bool
    finalizers: tuple[str, ...]
    """Who keeps a session that is being deleted: until they let go it stays."""
    phase: str
    conditions: tuple[Condition, ...]
    pools: tuple[Pool, ...]
    run: Run
    pods: Mapping[str, Mapping[str, Sequence[str]]]
    """Component -> pool, or what they are in it -> names of the pods that have a log; some where they are many."""
    endpoints: Mapping[str, str]
    """Name -> URL, of all components; ``component/name`` where several call one the same."""
    last_activity: datetime | None
    """When its user, a run or a task last did something, as far as the operator knows."""
    created: datetime | None
    body: Body = field(repr=False, compare=False)

    @classmethod
    def parse(cls, body: Body) -> Session:
        """Read an object. A status that belongs to an older spec counts as none."""
        meta, spec = body["metadata"], body.get("spec", {})
        status = body.get("status") or {}
        if status.get("observedGeneration", 0) < meta.get("generation", 0):
            status = {}
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            uid=meta.get("uid", ""),
            user=spec.get("user", ""),
            mode=spec.get("mode", ""),
            suspended=bool(spec.get("suspend")),
            deleting="deletionTimestamp" in meta,
            finalizers=tuple(meta.get("finalizers") or ()),
            phase=status.get("phase", ""),
            conditions=tuple(_condition(c) for c in status.get("conditions", [])),
            pools=_pools(status.get("components") or {}),
            run=_run(status.get("run") or {}),
            pods={name: part.get("pods") or {} for name, part in (status.get("components") or {}).items()},
            endpoints=_endpoints(status),
            last_activity=_time(status.get("lastActivity")),
            created=_time(meta.get("creationTimestamp")),
            body=body,
        )

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of this type, or None."""
        return next((c for c in self.conditions if c.type == kind), None)

    @property
    def headless(self) -> bool:
        """Whether the session runs a program and ends."""
        return self.mode == "Headless"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen: the run is over, or the spec was refused."""
        complete = self.condition("RunComplete")
        return self.phase in ENDED or bool(complete and complete.status)

    def has(self, component: str) -> bool:
        """Return whether the session asks for a component, such as ``notebook``."""
        return self.body.get("spec", {}).get(component) is not None

    def serves(self, component: str) -> bool:
        """Return whether a component answers; other parts of the session may still be on their way."""
        ready = self.condition(f"{component.capitalize()}Ready")
        return bool(ready and ready.status and component in self.endpoints)

    @property
    def arrived(self) -> bool:
        """Whether a user who waits for the session has what they wait for: its end, or its readiness."""
        return self.ended or (not self.headless and self.phase == "Ready")

    @property
    def settled(self) -> bool:
        """Whether the end is known with its exit code: the Job's end may be seen a moment before its pod's."""
        known = self.run.exit_code is not None or self.run.pod is None or self.run.reason in TIMED_OUT
        return self.arrived and (known or not self.headless)

    @property
    def exit_code(self) -> int:
        """What a command line ends with for this session: the program's code; 124 when its time was over."""
        if self.run.reason in TIMED_OUT:
            return TIMEOUT_CODE
        if self.run.exit_code:
            return self.run.exit_code & 0xFF or 1
        return 0 if self.phase == "Succeeded" else 1


TIMEOUT_CODE = 124
"""As timeout(1)."""


def _condition(entry: Body) -> Condition:
    status = {"True": True, "False": False}.get(entry["status"])
    return Condition(entry["type"], status, entry.get("reason", ""), entry.get("message", ""))


def _pools(components: Body) -> tuple[Pool, ...]:
    return tuple(
        Pool(component, name, pool["ready"], pool["desired"])
        for component, entry in sorted(components.items())
        for name, pool in sorted((entry.get("pools") or {}).items())
    )


def _endpoints(status: Body) -> dict[str, str]:
    components = sorted((status.get("components") or {}).items())
    told = [(component, *each) for component, entry in components for each in (entry.get("endpoints") or {}).items()]
    often = Counter(name for _, name, _ in told)
    # Operators before components had their own say them at the top.
    found = dict(status.get("endpoints") or {})
    return found | {f"{component}/{name}" if often[name] > 1 else name: url for component, name, url in told}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _run(entry: Body) -> Run:
    results = entry.get("results")
    return Run(
        pod=entry.get("pod"),
        exit_code=entry.get("exitCode"),
        reason=entry.get("reason"),
        wall_seconds=entry.get("wallSeconds"),
        peak_memory_bytes=entry.get("peakMemoryBytes"),
        attempts=entry.get("attempts"),
        started=_time(entry.get("startTime")),
        disruptions=entry.get("disruptions"),
        last_disruption=entry.get("lastDisruption"),
        results=Results(
            results["url"],
            results["count"],
            results["bytes"],
            tuple(stored_file(f) for f in results.get("files", [])),
        )
        if results
        else None,
    )
