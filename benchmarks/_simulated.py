"""One pool from 0 to a thousand workers, on nodes that are simulated: what those take for it who ask for the pods."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from benchmarks import _ground
from benchmarks._engines import DASK_KUBERNETES, NATIVE, OWN_WAY, Shape, plain
from benchmarks._ground import Ground, Spent
from benchmarks._requests import AF, BARE, DASK, Requests
from local_cluster.control_plane import NODES, ControlPlane, Options
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress
from local_cluster.simulated_nodes import PODS_EACH
from tests.support import many_sessions
from tests.support.audit import Audit
from tests.support.bare_client import BareClient, collection, kind_path

Body = dict[str, Any]
WHERE = "bench"
PODS = kind_path("v1", "pods", WHERE)
CLUSTERS, GROUPS = (kind_path("kubernetes.dask.org/v1", kind, WHERE) for kind in ("daskclusters", "daskworkergroups"))
SESSION = f"{kind_path('analysisfacility.io/v1alpha1', 'analysissessions', WHERE)}/session"
RUNNING = "fieldSelector=status.phase%3DRunning"
START_SECONDS = 60.0
LIMIT = 600.0
PACE = 0.5


@dataclass(frozen=True)
class Growth:
    """What one way took.

    Attributes
    ----------
    seconds
        From the edit until the last pod was ready, which KWOK says together with Running.
    requests
        Of all clients, until nobody wrote any more.
    spent
        By each operator.
    """

    title: str
    workers: int
    seconds: float
    requests: Requests
    spent: Mapping[str, Spent]

    def body(self) -> Body:
        """Return the numbers as JSON has them."""
        spent = {name: {what: round(number, 2) for what, number in vars(s).items()} for name, s in self.spent.items()}
        return {**vars(self), "requests": self.requests.body(), "spent": spent}


class Way(Protocol):
    """Somebody who makes workers' pods."""

    title: str
    operators: Collection[str]

    def start(self, plane: ControlPlane, most: int) -> None:
        """Make everything but the workers."""

    def grow(self, plane: ControlPlane, workers: int) -> None:
        """Ask for the workers."""


class SessionPool:
    """The pool of an AnalysisSession."""

    def __init__(self, engine: str) -> None:
        self.title = self._engine = engine
        self.operators: Collection[str] = (AF, DASK) if engine == DASK_KUBERNETES else (AF,)

    def start(self, plane: ControlPlane, most: int) -> None:
        """See ``Way.start``."""
        spec = {"mode": "Interactive", "dask": _pool(0)}
        for body in (_ground.profile(self._engine, most), many_sessions.session("session", WHERE, spec)):
            plane.request("POST", collection(body), body)
        _until_scheduler_runs(plane)

    def grow(self, plane: ControlPlane, workers: int) -> None:
        """See ``Way.grow``."""
        plane.request("PATCH", SESSION, {"spec": {"dask": _pool(workers)}})


class PlainGroup:
    """A DaskCluster and a DaskWorkerGroup, with the pods that a session has."""

    title = OWN_WAY
    operators: Collection[str] = (DASK,)

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def start(self, plane: ControlPlane, most: int) -> None:
        """See ``Way.start``."""
        plane.request("POST", CLUSTERS, plain("DaskCluster", "plain", self._shape.plain_cluster("plain")))
        _until_scheduler_runs(plane)
        plane.request("POST", GROUPS, plain("DaskWorkerGroup", "plain-cpu", self._shape.plain_group("plain")))

    def grow(self, plane: ControlPlane, workers: int) -> None:
        """See ``Way.grow``; this is what ``KubeCluster.scale`` sends."""
        plane.request("PATCH", f"{GROUPS}/plain-cpu/scale", {"spec": {"replicas": workers}})


class BarePods:
    """Pods, made by the least that a client can be: what the control plane and KWOK take for them is the floor."""

    title = BARE
    operators: Collection[str] = ()

    def __init__(self, shape: Shape) -> None:
        self._spec = shape.worker_pod()

    def start(self, plane: ControlPlane, most: int) -> None:
        """See ``Way.start``: pods need nothing else."""

    def grow(self, plane: ControlPlane, workers: int) -> None:
        """See ``Way.grow``."""

        async def create() -> None:
            async with BareClient(plane) as client:
                await client.create_all(self._pods(workers))

        asyncio.run(create())

    def _pods(self, workers: int) -> Iterator[Body]:
        for number in range(workers):
            metadata = {"name": f"bare-{number:04}", "namespace": WHERE}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self._spec}


def measure(progress: Progress, workers: int) -> list[Growth]:
    """Measure all ways, one after the other, each on a control plane of its own."""
    shapes: list[Shape] = []
    session = SessionPool(DASK_KUBERNETES)
    found = [
        _one(progress, SessionPool(NATIVE), workers),
        _one(progress, session, workers, lambda plane: shapes.append(_shape(plane))),
    ]
    return [*found, *(_one(progress, way(shapes[0]), workers) for way in (PlainGroup, BarePods))]


def _one(
    progress: Progress, way: Way, workers: int, look: Callable[[ControlPlane], None] = lambda plane: None
) -> Growth:
    nodes = math.ceil((workers + 1) / PODS_EACH) + 1
    with _ground.opened(progress, way.operators, Options(nodes=nodes)) as ground:
        with progress.step(f"{way.title}: all but the workers"):
            ground.plane.request("POST", "/api/v1/namespaces", many_sessions.namespace(WHERE))
            way.start(ground.plane, workers)
            ground.settle()
        with progress.step(f"{way.title}: 0 → {workers:,} workers"):
            growth = _grow(ground, way, workers)
        look(ground.plane)
    return growth


def _grow(ground: Ground, way: Way, workers: int) -> Growth:
    before, there = ground.spent(), _running(ground.plane)
    seconds = _until_running(ground.plane, workers, lambda: way.grow(ground.plane, workers))
    requests, after = ground.settle(), ground.spent()
    if (now := _running(ground.plane)) != there + workers:
        raise ClusterError(f"{way.title}: {now - there} workers run where {workers} were asked for")
    spent = {name: after[name] - before[name] for name in after}
    return Growth(way.title, workers, round(seconds, 2), requests, spent)


def _until_running(plane: ControlPlane, workers: int, grow: Callable[[], None]) -> float:
    """Return the seconds from the edit until KWOK has said of so many pods that they run.

    By the audit log: a watch takes its time from what is measured, and the server ends one that is slow.
    """
    ran: dict[str, datetime] = {}
    begin = datetime.now(UTC)
    with Audit(plane.audit_log) as audit:
        grow()

        def all_run() -> bool:
            for call in audit.news(NODES):
                if call.resource == "pods/status" and call.code == 200:
                    ran.setdefault(call.name, call.received)
            return len(ran) >= workers

        if not poll(all_run, LIMIT, PACE):
            raise ClusterError(f"{len(ran)} pods run after {LIMIT:.0f} s, where {workers} were asked for")
    return (max(ran.values()) - begin).total_seconds()


def _pool(workers: int) -> Body:
    number = {"min": workers, "max": workers}
    return {"pools": [{"name": "cpu", "nodePool": "cpu", "size": "small", "workers": number}]}


def _shape(plane: ControlPlane) -> Shape:
    cluster = plane.request("GET", f"{CLUSTERS}/session")
    groups = plane.request("GET", GROUPS)["items"]
    return Shape(cluster["spec"], next(g["spec"] for g in groups if g["metadata"]["name"] != "session-default"))


def _running(plane: ControlPlane) -> int:
    return len(plane.request("GET", f"{PODS}?{RUNNING}")["items"])


def _until_scheduler_runs(plane: ControlPlane) -> None:
    if not poll(lambda: _running(plane) > 0, START_SECONDS):
        raise ClusterError(f"no scheduler runs within {START_SECONDS:.0f} s")
