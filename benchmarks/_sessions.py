"""What a hundred sessions cost their operators, without nodes: nothing but the objects themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import _ground
from benchmarks._engines import DASK_KUBERNETES, ENGINES, NATIVE
from benchmarks._ground import Ground, Spent
from benchmarks._requests import AF, DASK
from local_cluster.control_plane import ADMIN, DASK_OPERATOR, OPERATOR, Options
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from tests.support import many_sessions
from tests.support.audit import Audit, Call
from tests.support.bare_client import BareClient

Body = dict[str, Any]
NAMESPACES = [f"bench-{number}" for number in range(10)]
FIRST = 20
"""Sessions before those that count: modules, connections and their buffers are there once."""
POOLS = {"cpu": 2, "more": 1}
WORKERS = sum(POOLS.values())
USERS = {AF: OPERATOR, DASK: DASK_OPERATOR}
MADE = {NATIVE: (AF, "pods", WORKERS), DASK_KUBERNETES: (DASK, "deployments", WORKERS + 1)}
"""Who makes what of each session, if all is well; dask-kubernetes has a Deployment for the scheduler, too."""


@dataclass(frozen=True)
class Cost:
    """What one session costs one operator.

    Attributes
    ----------
    objects, statuses
        Objects that it makes, and its writes through ``/status``.
    requests
        All that it asks.
    cpu
        CPU seconds.
    memory
        MiB that stay.
    """

    objects: float
    statuses: float
    requests: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Sessions:
    """What sessions of two pools and three workers cost each operator that their engine needs."""

    engine: str
    sessions: int
    costs: Mapping[str, Cost]

    def of_all(self, what: str) -> float:
        """Return one of the numbers, of all operators together."""
        return float(sum(getattr(cost, what) for cost in self.costs.values()))


def measure(progress: Progress, sessions: int) -> list[Sessions]:
    """Measure both engines, one after the other, each on a control plane of its own."""
    return [_one(progress, engine, sessions) for engine in ENGINES]


def _one(progress: Progress, engine: str, sessions: int) -> Sessions:
    operators = (AF, DASK) if engine == DASK_KUBERNETES else (AF,)
    bodies = many_sessions.spread(FIRST + sessions, NAMESPACES, {"mode": "Interactive", "dask": _dask()})
    catalogue = _ground.profile(engine, WORKERS)
    with _ground.opened(progress, operators, Options()) as ground:
        with progress.step(f"{engine}: {FIRST} sessions, for what is there once"):
            _create(ground, [*map(many_sessions.namespace, NAMESPACES), catalogue, *bodies[:FIRST]])
            ground.settle()
        with progress.step(f"{engine}: {sessions} sessions"), Audit(ground.plane.audit_log) as audit:
            before = ground.spent()
            _create(ground, bodies[FIRST:])
            requests, after = ground.settle(), ground.spent()
            calls = {name: audit.calls(USERS[name]) for name in operators}
    _check(engine, sessions, calls)
    asked = {name: requests.of(name).total for name in operators}
    costs = {name: cost(calls[name], asked[name], after[name] - before[name], sessions) for name in operators}
    return Sessions(engine, sessions, costs)


def cost(calls: Sequence[Call], requests: int, spent: Spent, sessions: int) -> Cost:
    """Return the cost for each of so many sessions."""
    made = sum(call.created and call.resource != "events" for call in calls)
    statuses = sum(call.resource.endswith("/status") for call in calls)
    numbers = (made, statuses, requests, spent.cpu, spent.memory)
    return Cost(*(round(number / sessions, 3) for number in numbers))


def _check(engine: str, sessions: int, calls: Mapping[str, Sequence[Call]]) -> None:
    """See that no session went without workers: else the numbers are for nothing."""
    who, what, each = MADE[engine]
    made = sum(call.created and call.resource == what for call in calls[who])
    if made != sessions * each:
        raise ClusterError(f"{engine}: {who} has made {made} {what}, and not {sessions * each}")


def _dask() -> Body:
    shape = {"nodePool": "cpu", "size": "small"}
    return {"pools": [{"name": name, **shape, "workers": {"min": n, "max": n}} for name, n in POOLS.items()]}


def _create(ground: Ground, bodies: Sequence[Body]) -> None:
    async def create() -> None:
        # One after the other, as kubectl does.
        async with BareClient(ground.plane, ADMIN, at_once=1) as client:
            await client.create_all(bodies)

    asyncio.run(create())
