"""Measures one number of sessions, on control planes of its own."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks._scale_numbers import Creation, Empty, Idle, Notebooks, Restart, Size
from local_cluster.control_plane import CLIENT, OPERATOR, ControlPlane, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress, tail
from tests.support.audit import READS, Audit, Call
from tests.support.bare_client import BareClient
from tests.support.empty_hub import EmptyHub
from tests.support.local_operator import LocalOperator
from tests.support.many_sessions import CHILDREN, NOTEBOOK, RUN, Body, children_of, namespace, profile, session, spread
from tests.support.site import PATHS

NAMESPACES = [f"bench-{number:02}" for number in range(50)]
LATE = "late"
"""The namespace of the session that comes while the operator starts."""
SETTINGS = {"NAMESPACE": "default", "IDENTITY": "bench"}
SETTLED = timedelta(seconds=12)
"""A status is held back for 8 s: when nothing was written for longer, nothing will be."""
START_SECONDS = 900
PASSES_SECONDS = 900
SLOWEST = 3.0
"""Sessions that are made each second at least; else it is given up."""
HEARTBEAT = 15.0
PACE = 0.5
HUB_DELAY = 2.5


def measure(progress: Progress, sessions: int) -> Size:
    """Measure everything with so many sessions."""
    with progress.step(f"{sessions:,} sessions: bare client creates their children"):
        bare = _bare(progress, sessions)
    with _bench(progress, RUN, sessions) as bench:
        empty = bench.start_empty()
        creation = bench.create(bare)
        restart = bench.restart()
        idle = bench.idle()
        return Size(sessions, empty, creation, restart, idle, round(bench.highest, 1))


def measure_notebooks(progress: Progress, sessions: int) -> Notebooks:
    """Restart with notebooks beside a JupyterHub that takes its time."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="af-bench-"))
        hub = stack.enter_context(EmptyHub(Path(directory), HUB_DELAY))
        bench = stack.enter_context(_bench(progress, NOTEBOOK, sessions, hub.settings))
        bench.start_empty()
        bench.create_sessions()
        return Notebooks(sessions, bench.restart().writes)


def _bare(progress: Progress, sessions: int) -> float:
    bodies = [child for body in spread(sessions, NAMESPACES, RUN) for child in children_of(body)]

    async def create(plane: ControlPlane) -> float:
        async with BareClient(plane) as client:
            await client.create_all(map(namespace, NAMESPACES))
            await asyncio.to_thread(plane.calm)
            begin = time.monotonic()
            await client.create_all(bodies)
            return sessions / (time.monotonic() - begin)

    with control_plane(progress) as plane:
        return asyncio.run(create(plane))


@contextmanager
def _bench(progress: Progress, spec: Body, sessions: int, settings: dict[str, str] | None = None) -> Iterator[_Bench]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="af-bench-")))
        plane = stack.enter_context(control_plane(progress))
        operator = LocalOperator(plane.kubeconfig(OPERATOR), directory, SETTINGS | (settings or {}))
        audit = stack.enter_context(Audit(plane.audit_log))
        stack.enter_context(operator)
        yield _Bench(progress, plane, operator, audit, spread(sessions, NAMESPACES, spec))


class _Bench:
    """One control plane, its operator, and the sessions to be created."""

    def __init__(
        self, progress: Progress, plane: ControlPlane, operator: LocalOperator, audit: Audit, sessions: Sequence[Body]
    ) -> None:
        self._progress, self._plane, self._operator, self._audit = progress, plane, operator, audit
        self._sessions = sessions
        self._keys = len(sessions) + 1
        self.highest = 0.0

    def start_empty(self) -> Empty:
        """Start the operator where there is nothing but a catalogue."""
        self._create([*map(namespace, (*NAMESPACES, LATE)), profile()])
        with self._step("operator starts without any"):
            begin = time.monotonic()
            self._operator.start()
            self._operator.wait_ready(START_SECONDS)
            seconds = time.monotonic() - begin
            self._settle()
        self._plane.calm()
        return Empty(round(seconds, 2), round(self._operator.memory_mib(), 1))

    def create(self, bare: float) -> Creation:
        """Create the sessions, and have the operator make their children."""
        begin = datetime.now(UTC)
        made = self.create_sessions()
        calls = self._calls(begin)
        reads = [call for call in calls if call.verb in ("get", "list")]
        writes = [call for call in calls if call.verb not in READS]
        number = len(self._sessions)
        rate = number / (max(call.received for call in made) - begin).total_seconds()
        return Creation(round(bare, 1), round(rate, 1), round(len(writes) / number, 2), round(len(reads) / number, 2))

    def create_sessions(self) -> list[Call]:
        """Create them one after the other; return the creations of their children, once nothing is written any more."""
        begin, children, wanted = datetime.now(UTC), 0, CHILDREN * len(self._sessions)
        with self._step("created, and served by the operator"):
            self._create(self._sessions)

            def served() -> bool:
                nonlocal children
                children += len(_creations(self._news()))
                self._say(f"{children:,} children of {wanted:,}")
                return children >= wanted

            self._until(served, 60 + len(self._sessions) / SLOWEST)
            self._settle()
        self._look_at_memory()
        return _creations(self._calls(begin))

    def restart(self) -> Restart:
        """Stop the operator, list everything, start it again, and create one session more."""
        self._operator.stop()
        self._plane.calm()
        with self._step("bare client lists everything"):
            # The faster of two: the first one may have to wait for what the server has still to do.
            listed = min(self._list(), self._list())
        begin, clock = datetime.now(UTC), time.monotonic()
        with self._step("operator starts again"):
            self._operator.start()
            self._operator.wait_ready(START_SECONDS)
            ready = time.monotonic()
        late, asked = session("late", LATE, RUN), datetime.now(UTC)
        self._create([late])
        with self._step("operator looks at each"):
            self._until(lambda: self._operator.looked_at(self._keys + 1), PASSES_SECONDS)
            passed, cpu = time.monotonic(), self._operator.cpu_seconds()
        self._settle()
        self._look_at_memory()
        calls = self._calls(begin)
        served = max(call.received for call in _creations(calls) if call.namespace == LATE)
        others = [call for call in calls if call.namespace != LATE]
        return Restart(
            list_seconds=round(listed, 2),
            ready_seconds=round(ready - clock, 2),
            passes_seconds=round(passed - ready, 2),
            cpu_seconds=round(cpu, 2),
            writes=sum(call.verb not in READS for call in others),
            reads=sum(call.verb == "get" for call in others),
            late_seconds=round((served - asked).total_seconds(), 2),
        )

    def idle(self) -> Idle:
        """Let a minute pass."""
        begin, before = datetime.now(UTC), self._operator.cpu_seconds()
        with self._step("a minute in which nothing happens"):
            time.sleep(60)
        cpu = self._operator.cpu_seconds() - before
        return Idle(len(self._calls(begin)), round(cpu, 2), round(self._operator.memory_mib(), 1))

    def _calls(self, since: datetime) -> list[Call]:
        """Return what the operator has asked."""
        return [call for call in _without_lease(self._audit.calls(OPERATOR)) if call.received >= since]

    def _news(self) -> list[Call]:
        """Return what it has asked since the last time."""
        return _without_lease(self._audit.news(OPERATOR))

    def _settle(self) -> None:
        """Wait until nothing was written for so long that nothing will be."""
        last = datetime.now(UTC)

        def settled() -> bool:
            nonlocal last
            last = max([last, *(call.received for call in self._news() if call.verb not in READS)])
            return datetime.now(UTC) - last > SETTLED and self._operator.looked_at(1)

        self._until(settled, PASSES_SECONDS)

    def _until(self, check: Callable[[], bool], seconds: float) -> None:
        def alive() -> bool:
            if not self._operator.running():
                raise ClusterError(f"the operator has ended. The end of its log:\n{tail(self._operator.log)}")
            return check()

        self._said = time.monotonic()
        if not poll(alive, seconds, PACE):
            raise ClusterError(
                f"not within {seconds:.0f} s. The end of the operator's log:\n{tail(self._operator.log)}"
            )

    def _create(self, bodies: Sequence[Body]) -> None:
        async def create() -> None:
            # One after the other, as kubectl does.
            async with BareClient(self._plane, CLIENT, at_once=1) as client:
                await client.create_all(bodies)

        asyncio.run(create())

    def _list(self) -> float:
        async def everything() -> float:
            async with BareClient(self._plane) as client:
                begin = time.monotonic()
                await client.list_all(PATHS)
                return time.monotonic() - begin

        return asyncio.run(everything())

    def _look_at_memory(self) -> None:
        self.highest = max(self.highest, self._operator.highest_memory_mib())

    def _step(self, what: str) -> AbstractContextManager[None]:
        return self._progress.step(f"{len(self._sessions):,} sessions: {what}")

    def _say(self, what: str) -> None:
        if time.monotonic() - self._said > HEARTBEAT:
            self._said = time.monotonic()
            self._progress.note(f"… {what}")


def _without_lease(calls: Sequence[Call]) -> list[Call]:
    """Return calls but those about the Lease, which is renewed by the clock."""
    return [call for call in calls if call.resource != "leases"]


def _creations(calls: Sequence[Call]) -> list[Call]:
    """Return the creations of children."""
    return [call for call in calls if call.created and call.resource != "events"]
