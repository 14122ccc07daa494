"""Where a way is measured without a cluster: a control plane of its own, and the operators that it needs."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._dask_operator import DaskOperator
from benchmarks._requests import AF, DASK, ON_CONTROL_PLANE, Log, Requests
from local_cluster.control_plane import OPERATOR, ControlPlane, Options, control_plane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import Progress, tail
from tests.support import many_sessions
from tests.support.local_operator import LocalOperator
from tests.support.local_process import LocalProcess

Body = dict[str, Any]
SETTINGS = {"NAMESPACE": "default", "IDENTITY": "bench"}
SETTLED = timedelta(seconds=12)
"""A status is held back for 8 s: when nothing was written for longer, nothing will be."""
LIMIT = 600.0
PACE = 1.0


def profile(engine: str, workers: int) -> Body:
    """Return a catalogue for this engine of Dask, with room for so many workers."""
    body = many_sessions.profile()
    room = {"nodePools": [{"name": "cpu"}], "limits": {"workers": workers}, "dask": {"engine": engine}}
    return {**body, "spec": body["spec"] | room}


@dataclass(frozen=True)
class Spent:
    """What a process has computed, in seconds, and what it holds, in MiB."""

    cpu: float
    memory: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.cpu - other.cpu, self.memory - other.memory)


class Ground:
    """A control plane in use."""

    def __init__(self, plane: ControlPlane, operators: Mapping[str, LocalProcess], log: Log) -> None:
        self.plane, self._operators, self._log = plane, operators, log

    def settle(self) -> Requests:
        """Wait until nothing is written any more; return what was asked since the last time, in any namespace.

        Raises
        ------
        ClusterError
            It goes on, or an operator has ended.
        """
        found, begin = Requests({}), datetime.now(UTC)

        def settled() -> bool:
            nonlocal found
            self._check()
            found += self._log.since_last(None)
            return datetime.now(UTC) - max(begin, found.last or begin) > SETTLED

        if not poll(settled, LIMIT, PACE):
            raise ClusterError(f"somebody still writes after {LIMIT:.0f} s: {found.body()}")
        return found

    def spent(self) -> dict[str, Spent]:
        """Return what each operator has taken until now."""
        return {name: Spent(process.cpu_seconds(), process.memory_mib()) for name, process in self._operators.items()}

    def _check(self) -> None:
        for name, process in self._operators.items():
            if not process.running():
                raise ClusterError(f"{name} has ended. The end of its log:\n{tail(process.log)}")


@contextmanager
def opened(progress: Progress, operators: Collection[str], options: Options) -> Iterator[Ground]:
    """Start a control plane, and these operators on it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="af-bench-")))
        plane = stack.enter_context(control_plane(progress, options))
        log = stack.enter_context(Log(ON_CONTROL_PLANE, plane.audit_log))
        started: dict[str, LocalProcess] = {}
        if DASK in operators:
            started[DASK] = dask = stack.enter_context(DaskOperator(plane, directory))
            dask.start_and_wait()
        if AF in operators:
            started[AF] = ours = stack.enter_context(LocalOperator(plane.kubeconfig(OPERATOR), directory, SETTINGS))
            ours.start()
            ours.wait_ready()
        ground = Ground(plane, started, log)
        ground.settle()
        yield ground
