"""What runs in the Dask cluster under test. It goes there by value: nothing of this is installed in its image."""

from __future__ import annotations

import sys
import time
from typing import Any

import cloudpickle
from distributed import Scheduler, SchedulerPlugin

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Record(SchedulerPlugin):
    """Remembers who came and went, and how often each task was computed."""

    name = "record"

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.came: list[tuple[float, str]] = []
        self.went: list[tuple[float, str]] = []
        self.known: dict[str, str] = {}

    def transition(self, key: str, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Count a result."""
        if (start, finish) == ("processing", "memory"):
            self.done[key] = self.done.get(key, 0) + 1

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Note a worker that comes."""
        self.known[worker] = str(scheduler.workers[worker].name)
        self.came.append((time.time(), self.known[worker]))

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Note a worker that goes."""
        self.went.append((time.time(), self.known.get(worker, worker)))


def workers(dask_scheduler: Scheduler) -> list[str]:
    """Return the names of all workers that the scheduler knows, in whatever state."""
    return [str(ws.name) for ws in dask_scheduler.workers.values()]


def last_change(dask_scheduler: Scheduler, since: float) -> float | None:
    """Return when a worker came or went last; None if none has since then."""
    found = dask_scheduler.plugins[Record.name]
    return max((at for at, _ in (*found.came, *found.went) if at >= since), default=None)


def record(dask_scheduler: Scheduler) -> tuple[dict[str, int], list[tuple[float, str]], list[tuple[float, str]]]:
    """Return how often each task was computed, who came and who went."""
    found = dask_scheduler.plugins[Record.name]
    return found.done, found.came, found.went
