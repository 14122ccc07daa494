"""What is asked, and what is known of Spark at one moment. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

FIELDS = frozenset({"pool", "most", "keep", "threads", "resources", "quiet", "drain", "leaving"})
Needs = tuple[tuple[str, float], ...]
"""What a task asks for: ``(("GPU", 1.0), ("cpus", 1.0))``."""


@dataclass(frozen=True)
class Pool:
    """What is asked of one pool.

    Attributes
    ----------
    pool
        What its user calls it; empty where its size is not a matter of demand.
    most
        Workers that it may have; what they cannot do is wanted of the next pool that is like it.
    keep
        Workers that may stay; None when all may.
    threads
        Tasks that a worker runs at a time.
    resources
        What a worker has for tasks that ask: ``{"GPU": 1}``.
    quiet
        Seconds for which less must have been wanted before less is wanted.
    drain
        Seconds for a worker that goes to finish what it runs and to move its blocks.
    leaving
        It is on its way out, and never grows.
    """

    group: str
    pool: str = ""
    most: int = 0
    keep: int | None = None
    threads: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    quiet: float = 30.0
    drain: float = 60.0
    leaving: bool = False

    @classmethod
    def parse(cls, group: str, options: Mapping[str, Any]) -> Pool:
        """Return it; raises ValueError for what is not understood."""
        if not isinstance(options, dict) or not FIELDS.issuperset(options):
            raise ValueError(f"pool {group}: write an object with {', '.join(sorted(FIELDS))}")
        return cls(group, **options)

    def has(self, worker: Worker) -> bool:
        """Return whether the worker is one of the pool's."""
        return worker.name.startswith(f"{self.group}-worker-")

    def at_once(self, needs: Needs) -> int:
        """Return how many tasks with these needs one worker runs at a time."""
        threads = max(1, self.threads)
        has = {**self.resources, "cpus": threads}
        return min([threads, *(int(has.get(name, 0) // amount) for name, amount in needs)])


@dataclass(frozen=True)
class Worker:
    """One that the master knows; `cores_used` is right only while it is alive."""

    id: str
    name: str
    host: str
    ui: str
    state: str
    cores_used: int


@dataclass(frozen=True)
class Executor:
    """One of a driver's. Of its `memory` for storage `cached` is taken; `held` is all that would have to move."""

    id: str
    host: str
    cores: int
    running: int
    started: int
    held: int
    cached: int
    memory: int


@dataclass(frozen=True)
class Driver:
    """What a driver said last: what its stages are worth in slots, by resource profile, and what these ask for."""

    ui: str = ""
    executors: tuple[Executor, ...] = ()
    slots: Mapping[int, int] = field(default_factory=dict)
    needs: Mapping[int, Needs] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """What is known at one moment; `drivers` are by the id of their application."""

    workers: Sequence[Worker]
    drivers: Mapping[str, Driver]

    @cached_property
    def executors(self) -> Mapping[str, Sequence[Executor]]:
        """By host."""
        found: dict[str, list[Executor]] = {}
        for executor in (e for driver in self.drivers.values() for e in driver.executors):
            found.setdefault(executor.host, []).append(executor)
        return found

    @cached_property
    def alive(self) -> Sequence[Worker]:
        """Those that may get new tasks, as far as the master knows."""
        return [worker for worker in self.workers if worker.state == "ALIVE"]

    def on(self, workers: Collection[Worker]) -> list[Executor]:
        """Return the executors of these workers."""
        return [executor for worker in workers for executor in self.executors.get(worker.host, ())]

    def unknown_cores(self, worker: Worker) -> int:
        """Return how many of its cores are an executor's of which no driver speaks: it may run anything.

        Where all drivers have spoken it has only just started: it runs nothing yet, and holds nothing.
        """
        if all(driver.ui for driver in self.drivers.values()):
            return 0
        return max(0, worker.cores_used - sum(executor.cores for executor in self.on([worker])))

    def loss(self, worker: Worker) -> tuple[int, int, str]:
        """Order workers by what is lost when they go."""
        executors = self.on([worker])
        running = self.unknown_cores(worker) + sum(executor.running for executor in executors)
        return running, sum(executor.held for executor in executors), worker.name

    def is_busy(self) -> bool:
        """Return whether there is something to compute, as far as one can tell."""
        known = any(driver.slots or any(e.running for e in driver.executors) for driver in self.drivers.values())
        return known or any(map(self.unknown_cores, self.alive))
