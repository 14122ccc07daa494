"""What is known from one question to the next: who goes, who has gone, and what was wanted lately."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from . import spark_api
from .demand import demand
from .model import Cluster, Driver, Pool, Worker

log = logging.getLogger("af.spark")

SECONDS = 1.0
"""For which an answer waits for drivers and workers, who are asked side by side."""
AT_ONCE = 32
PACE = 1.0
"""Seconds between two times that drivers are asked, however often somebody asks here."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the workers that nobody asked for: who asks may do it once a minute, and who has come
and died in between is lost all the same."""
TOLD_AT_ONCE = 500
"""Workers that are told to go in one form, of which the master takes no more than a thousand lines."""
ACTIVE_STEP = 300
"""Seconds to which it is told when something was computed last: whoever is told of each change has little to do."""
REMEMBERED = 3600.0
"""Seconds for which it is known who was told to go while the master does not know them."""
MOST_WANTED = 1_000_000
T = TypeVar("T")


@dataclass
class Going:
    """A worker that was told to go: since when, when the master last knew it, and whether it has nothing left."""

    name: str
    since: float
    seen: float
    done: bool = False


class Agent:
    """Who goes, who has gone, and what was wanted lately."""

    def __init__(self, spark: spark_api.Spark) -> None:
        self._spark = spark
        self._one_at_a_time = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._drivers: dict[str, Driver] = {}
        self._asked_drivers = -math.inf
        self._going: dict[str, Going] = {}
        self._names: dict[str, str] = {}
        self._lost = 0
        self._wanted: dict[str, deque[tuple[float, int]]] = {}
        self._elastic: frozenset[str] = frozenset()
        self._fixed: dict[str, int] = {}
        self._active = time.time()
        self._started: dict[tuple[str, str], int] = {}

    def pools(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Set right who goes, and return how each pool is; raises Unready."""
        pools = [Pool.parse(group, options) for group, options in body["pools"].items()]
        with self._one_at_a_time:
            cluster = self._look()
            self._elastic = frozenset(pool.pool for pool in pools if pool.pool)
            self._note_lost(cluster)
            self._note_activity(cluster)
            self._let_go(pools, cluster)
            wanted = demand(pools, cluster)
            states = {pool.group: self._state(pool, cluster, wanted[pool.group]) for pool in pools}
        return {"pools": states, "active": int(self._active // ACTIVE_STEP) * ACTIVE_STEP, "lost": self._lost}

    def keep_looking(self, ended: threading.Event) -> None:
        """Look at who comes and who is lost, whether somebody asks or not."""
        while not ended.wait(LOOK_EVERY):
            with suppress(spark_api.Unready):
                self.look()

    def look(self) -> None:
        """Note who has come, and who was lost; raises Unready."""
        with self._one_at_a_time:
            workers, _ = self._spark.look()
            self._note_going(workers, {})
            self._note_lost(Cluster(workers, {}))

    def scale(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Want so many workers from now on; None: as the tasks ask. Raises ValueError with what is possible."""
        pool, workers = body["pool"], body["workers"]
        if pool not in self._elastic:
            elastic = ", ".join(sorted(self._elastic)) or "none"
            raise ValueError(f"pool {pool!r} is not elastic (elastic: {elastic}): change its size with `af scale`")
        if workers is None:
            self._fixed.pop(pool, None)
        elif isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0:
            self._fixed[pool] = workers
        else:
            raise ValueError("workers is a number, or null")
        return {}

    def _look(self) -> Cluster:
        workers, apps = self._spark.look()
        deadline, drivers = time.monotonic() + SECONDS, {}
        if time.monotonic() - self._asked_drivers >= PACE:
            self._asked_drivers = time.monotonic()
            for app in apps:
                known = self._drivers.get(app, Driver())
                drivers[app] = self._threads.submit(self._spark.ask_driver, app, known)
        asked = [w for w in workers if w.state == "DECOMMISSIONED" and not self._is_done(w)]
        nothing_left = _answers({w.id: self._threads.submit(self._spark.has_no_executor, w) for w in asked}, deadline)
        said = _answers(drivers, deadline)
        # What one said last stands while it is too busy to answer: its tasks wait all the same.
        self._drivers = {app: said.get(app) or self._drivers.get(app, Driver()) for app in apps}
        self._note_going(workers, nothing_left)
        return Cluster(workers, self._drivers)

    def _is_done(self, worker: Worker) -> bool:
        return worker.id in self._going and self._going[worker.id].done

    def _note_going(self, workers: Sequence[Worker], nothing_left: Mapping[str, bool]) -> None:
        now = time.monotonic()
        for worker in workers:
            if worker.state == "DECOMMISSIONED":
                self._going.setdefault(worker.id, Going(worker.name, now, now))
            if going := self._going.get(worker.id):
                going.seen = now
                going.done |= worker.state == "DEAD" or nothing_left.get(worker.id, False)
        self._going = {id_: going for id_, going in self._going.items() if now - going.seen < REMEMBERED}

    def _note_lost(self, cluster: Cluster) -> None:
        """Count who is dead, or came again under its name as a new one. Who is only not there yet may still come."""
        dead = {worker.id for worker in cluster.workers if worker.state == "DEAD"}
        alive = {worker.id: worker.name for worker in cluster.alive}
        again = set(alive.values())
        gone = {id_ for id_, name in self._names.items() if id_ in dead or (id_ not in alive and name in again)}
        self._lost += len(gone - self._going.keys())
        self._names = {id_: name for id_, name in self._names.items() if id_ not in gone} | alive

    def _note_activity(self, cluster: Cluster) -> None:
        started = {(app, e.id): e.started for app, driver in cluster.drivers.items() for e in driver.executors}
        if cluster.is_busy() or any(number != self._started.get(key, 0) for key, number in started.items()):
            self._active = time.time()
        self._started = started

    def _let_go(self, pools: Sequence[Pool], cluster: Cluster) -> None:
        """Tell those who are too many."""
        told: list[Worker] = []
        now = time.monotonic()
        for pool in pools:
            for worker in filter(pool.has, cluster.workers):
                if (going := self._going.get(worker.id)) and now - going.since >= pool.drain:
                    going.done = True
            workers = [worker for worker in cluster.alive if pool.has(worker)]
            staying = [worker for worker in workers if worker.id not in self._going]
            surplus = 0 if pool.keep is None else max(0, len(staying) - pool.keep)
            told += sorted(staying, key=cluster.loss)[:surplus]
            # A master that has started again gives them executors, which they do not start.
            told += [worker for worker in workers if worker.id in self._going]
        self._decommission(told[:TOLD_AT_ONCE])

    def _decommission(self, workers: Sequence[Worker]) -> None:
        if not workers:
            return
        try:
            self._spark.decommission(workers)
        except spark_api.SILENT as error:
            log.warning("The master was not told who goes; it is told again: %s", error)
            return
        now = time.monotonic()
        for worker in workers:
            if worker.id not in self._going:
                log.info("Worker %s goes", worker.name)
                self._going[worker.id] = Going(worker.name, now, now)

    def _state(self, pool: Pool, cluster: Cluster, wanted: int) -> dict[str, Any]:
        workers = [worker for worker in cluster.workers if pool.has(worker)]
        # One that came again under its name is a new one.
        new = {worker.name for worker in workers if worker.state == "ALIVE" and worker.id not in self._going}
        going = {w.name: self._is_done(w) for w in workers if w.id in self._going and w.name not in new}
        return {
            "wanted": min(MOST_WANTED, self._fixed.get(pool.pool, self._recent_maximum(pool, wanted))),
            "workers": sorted({worker.name for worker in workers if worker.state != "DEAD"}),
            "retiring": sorted(name for name, done in going.items() if not done),
            "retired": sorted(name for name, done in going.items() if done),
            "stuck": [],
        }

    def _recent_maximum(self, pool: Pool, wanted: int) -> int:
        """Return the most that was wanted within the quiet time."""
        now = time.monotonic()
        samples = self._wanted.setdefault(pool.group, deque())
        samples.append((now, wanted))
        while samples[0][0] < now - pool.quiet:
            samples.popleft()
        return max(number for _, number in samples)


def _answers(asked: Mapping[str, Future[T]], deadline: float) -> dict[str, T]:
    """Return who has answered in time; what is late is not waited for."""
    done, late = wait(asked.values(), timeout=max(0.0, deadline - time.monotonic()))
    for future in late:
        future.cancel()
    return {key: future.result() for key, future in asked.items() if future in done and not future.exception()}
