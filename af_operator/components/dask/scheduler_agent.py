"""Runs inside the Dask scheduler, as a preload: lets workers go without losing results, and says how many are needed.

One request, ``POST /af/v1/pools``, says what should be, and is answered at once with what is. Asking again is always
right: whoever asks may die and forget at any moment, for all that is under way is known here alone. Where the
scheduler dies, there is nothing left to lose.

    {"pools": {"zmumu-gpu-1a2b3c": {"keep": 2, "threads": 1, "resources": {"GPU": 1}, "quiet": 30}}}
    {"pools": {"zmumu-gpu-1a2b3c": {"wanted": 0, "workers": [], "retiring": [], "retired": [], "stuck": []}}}

``POST /af/v1/scale`` is for whoever works in the session, ``{"pool": "gpu", "workers": 2}``: so many are wanted,
whatever the tasks ask for, until ``{"pool": "gpu", "workers": null}``.

``GET /af/v1/versions`` says which Dask and which Python this is.

A pool is known by the name of its group of workers, which are called ``<group>-worker-<hex>``. `keep` is how many
workers may stay; the others are chosen here (idle first, then fewest bytes), take no new tasks, finish what they run,
and have their results copied away. In `retired` stands who has nothing left: their pods may be deleted. In `stuck`
stands who holds results that no other worker can take.

It needs nothing but distributed, so that it runs in any image that has Dask.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import platform
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Scheduler
from distributed import __version__ as distributed_version
from distributed.core import Status
from distributed.http.utils import RequestHandler

log = logging.getLogger("distributed.af")

SAMPLE = 1000
"""Tasks that are looked at to know what waits; more of them are counted as being alike."""
MEMORY_SHARE = 0.6
"""Of the workers' memory; beyond it Dask begins to spill."""
PACE = 0.2
"""Seconds between two looks at a worker that goes."""
ACTIVE_STEP = 300
"""Seconds to which it is told when something was computed last: whoever is told of each change has little to do."""
LINGER = 0.2
"""Seconds for which an answer waits for those that go: idle ones are gone by then, and need no second question."""
RETIRED_KEPT = 600.0
"""Seconds for which it is told of those that were retired and have ended: so long their pods may be there."""
STUCK_PAUSE = 5.0
"""Seconds until a worker is tried again that could not give its results away."""
Weighted = tuple[Any, float]
"""A task, and how many that are like it it stands for."""
FIELDS = frozenset({"pool", "most", "keep", "threads", "resources", "quiet", "drain", "leaving"})


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
        Seconds for a worker that goes to finish what it runs; then its tasks run again elsewhere.
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

    def has(self, name: str) -> bool:
        """Return whether the worker of this name is one of the pool's."""
        return name.startswith(f"{self.group}-worker-")


class Agent:
    """Who goes, who has gone, and what was wanted lately."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._retired: dict[str, float] = {}
        self._stuck: dict[str, float] = {}
        self._wanted: dict[str, deque[tuple[float, int]]] = {}
        self._elastic: frozenset[str] = frozenset()
        self._fixed: dict[str, int] = {}
        self._active = time.time()
        self._transitions = -1

    def active(self) -> int:
        """Return the time when there was last something to compute, as far as one who asks now and then can tell."""
        transitions = self._scheduler.transition_counter
        if transitions != self._transitions or any(ws.processing for ws in self._scheduler.workers.values()):
            self._active, self._transitions = time.time(), transitions
        return int(self._active // ACTIVE_STEP) * ACTIVE_STEP

    def answer(self, pools: Collection[Pool]) -> dict[str, Any]:
        """Set right who goes, and return how each pool is."""
        self._forget()
        self._elastic = frozenset(pool.pool for pool in pools if pool.pool)
        answers, demand = {}, self._demand(pools)
        for pool in pools:
            self._settle(pool)
            names = sorted(str(ws.name) for ws in self._workers(pool))
            answers[pool.group] = {
                "wanted": self._fixed.get(pool.pool, self._recent_maximum(pool, demand[pool.group])),
                "workers": names,
                "retiring": [n for n in names if n in self._retiring],
                "retired": sorted(n for n in self._retired if pool.has(n)),
                "stuck": [n for n in names if n in self._stuck],
            }
        return answers

    async def retires(self) -> bool:
        """Wait a moment for workers that go; return whether one of them has nothing left by then."""
        retiring = set(self._retiring.values())
        return bool(retiring and (await asyncio.wait(retiring, timeout=LINGER))[0])

    def scale(self, pool: str, workers: int | None) -> None:
        """Want so many workers from now on; None: as the tasks ask. Raises ValueError with what is possible."""
        if pool not in self._elastic:
            elastic = ", ".join(sorted(self._elastic)) or "none"
            raise ValueError(f"pool {pool!r} is not elastic (elastic: {elastic}): change its size with `af scale`")
        if workers is None:
            self._fixed.pop(pool, None)
        elif isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0:
            self._fixed[pool] = workers
        else:
            raise ValueError("workers is a number, or null")

    def _workers(self, pool: Pool) -> list[Any]:
        return [ws for ws in self._scheduler.workers.values() if pool.has(str(ws.name))]

    def _forget(self) -> None:
        """Forget who is gone. One that came again under its name is a new one, and holds nothing."""
        states, now = {str(ws.name): ws.status for ws in self._scheduler.workers.values()}, time.monotonic()
        gone = (None, Status.closing_gracefully)
        self._retired = {n: t for n, t in self._retired.items() if states.get(n) in gone and now - t < RETIRED_KEPT}
        self._retiring = {n: t for n, t in self._retiring.items() if not t.done()}
        self._stuck = {n: t for n, t in self._stuck.items() if n in states and now - t < STUCK_PAUSE}

    def _settle(self, pool: Pool) -> None:
        workers = self._workers(pool)
        retiring = [ws for ws in workers if ws.name in self._retiring or ws.name in self._retired]
        keep = len(workers) if pool.keep is None else pool.keep
        surplus = len(workers) - len(retiring) - keep
        if surplus > 0:
            staying = [ws for ws in workers if ws not in retiring and ws.name not in self._stuck]
            for ws in sorted(staying, key=_loss)[:surplus]:
                self._retiring[ws.name] = asyncio.create_task(self._retire(ws, pool.drain))
        for ws in [ws for ws in retiring if ws.name in self._retiring][: max(0, -surplus)]:
            self._retiring.pop(ws.name).cancel()  # who is retired stays so: its pod may be on its way out already

    async def _retire(self, ws: Any, drain: float) -> None:
        name, deadline = str(ws.name), time.monotonic() + drain
        try:
            await self._copy_away(ws)  # from here on no new tasks are sent to it
            await self._finish_tasks(ws, deadline)
            while not self._holds_nothing(ws):
                await self._copy_away(ws)
                await self._finish_tasks(ws, deadline)
                await asyncio.sleep(PACE)
            self._release_copies(ws)
            self._retired[name] = time.monotonic()
            log.info("Worker %s has nothing left", name)
        except asyncio.CancelledError:
            self._keep(ws)
            raise
        except NoRoom:
            log.warning("Worker %s holds results that no other worker can take", name)
            self._stuck[name] = time.monotonic()
        finally:
            self._retiring.pop(name, None)
        if name in self._retired and self._is_known(ws):
            # Whose pod is not removed in time starts again, as a worker that holds nothing.
            await self._scheduler.remove_worker(ws.address, stimulus_id=f"af-retired-{time.time()}", expected=True)

    async def _copy_away(self, ws: Any) -> None:
        """Have what the worker alone holds copied to others."""
        done = await self._scheduler.retire_workers(workers=[ws.address], close_workers=False, remove=False)
        if ws.address not in done and self._is_known(ws):
            raise NoRoom

    def _release_copies(self, ws: Any) -> None:
        # Were they still counted, the next one that goes would give up its own for them, and both would be gone.
        copies = [ts.key for ts in ws.has_what if len(ts.who_has) > 1]
        if copies and self._is_known(ws):
            self._scheduler.request_remove_replicas(ws.address, copies, stimulus_id=f"af-gone-{time.time()}")

    async def _finish_tasks(self, ws: Any, deadline: float) -> None:
        """Wait for what it runs; what waits at it goes to others, who would otherwise wait for nothing."""
        while self._has_tasks(ws) and self._is_known(ws):
            if time.monotonic() > deadline:
                self._take_back(ws)
                return
            for ts in list(ws.processing):
                self._give_away(ts, ws)
            await asyncio.sleep(PACE)

    def _take_back(self, ws: Any) -> None:
        """Have its tasks run anew elsewhere, now: were they lost with it, Dask would count that as their failure."""
        log.info("Worker %s does not come to an end: %d tasks run anew elsewhere", ws.name, len(ws.processing))
        released = {ts.key: "released" for ts in ws.processing}
        self._scheduler.transitions(released, stimulus_id=f"af-take-back-{time.time()}")

    def _give_away(self, ts: Any, ws: Any) -> None:
        """Move a task as Dask's work stealing does: a worker that runs it already refuses."""
        able = self._scheduler.valid_workers(ts)
        others = (self._scheduler.running if able is None else able & self._scheduler.running) - {ws}
        stealing = self._scheduler.extensions.get("stealing")  # not there where Dask's configuration says so
        if others and stealing:
            thief = min(others, key=lambda other: (other.occupancy, other.address))
            stealing.move_task_request(ts, ws, thief)

    def _has_tasks(self, ws: Any) -> bool:
        # A task that was about to be moved to it before it went comes late: when the other worker has let go of it.
        stealing = self._scheduler.extensions.get("stealing")
        moving = stealing.in_flight.values() if stealing else ()
        return bool(ws.processing) or any(each["thief"] is ws for each in moving)

    def _holds_nothing(self, ws: Any) -> bool:
        # Two that go at once may have only each other's copies: a copy counts where it stays.
        staying = self._scheduler.running - {ws}
        done = not self._has_tasks(ws) and all(_held_by(ts, staying) for ts in ws.has_what)
        return done or not self._is_known(ws)

    def _is_known(self, ws: Any) -> bool:
        return self._scheduler.workers.get(ws.address) is ws

    def _keep(self, ws: Any) -> None:
        if self._is_known(ws) and ws.status is Status.closing_gracefully:
            stimulus = f"af-stay-{time.time()}"
            message = {"op": "worker-status-change", "status": Status.running.name, "stimulus_id": stimulus}
            self._scheduler.stream_comms[ws.address].send(message)

    def _recent_maximum(self, pool: Pool, wanted: int) -> int:
        """Return the most that was wanted within the quiet time."""
        now = time.monotonic()
        samples = self._wanted.setdefault(pool.group, deque())
        samples.append((now, wanted))
        while samples[0][0] < now - pool.quiet:
            samples.popleft()
        return max(number for _, number in samples)

    def _demand(self, pools: Collection[Pool]) -> dict[str, int]:
        """Return how many workers of each pool would have something to do, or hold the results that there are."""
        demand: dict[str, int] = {}
        overflow: dict[frozenset[tuple[str, float]], list[Weighted]] = {}
        for pool in pools:
            workers, abilities = self._workers(pool), frozenset(pool.resources.items())
            tasks = self._waiting(pool, pools) + [(ts, 1.0) for ws in workers for ts in ws.processing]
            tasks += overflow.pop(abilities, []) if pool.pool else []
            number = math.ceil(_slots(tasks) / max(1, _at_once(pool, tasks)))
            if pool.pool and number > pool.most:
                overflow[abilities] = [(ts, weight * (1 - pool.most / number)) for ts, weight in tasks]
            demand[pool.group] = max(number, self._needed_for_memory(workers))
        return demand

    def _waiting(self, pool: Pool, pools: Collection[Pool]) -> list[Weighted]:
        """Return tasks that no worker has."""
        state = self._scheduler
        number = len(state.queued) + len(state.unrunnable)
        sample = list(islice(chain(state.queued, state.unrunnable), SAMPLE))
        weight = number / len(sample) if sample else 0.0
        return [(ts, weight) for ts in sample if _pool_for(ts, pools) is pool]

    def _needed_for_memory(self, workers: list[Any]) -> int:
        limits = [ws.memory_limit for ws in workers if ws.memory_limit]
        if not limits:
            return 0
        others = (ws for ws in self._scheduler.running if ws not in workers)
        elsewhere = MEMORY_SHARE * sum(ws.memory_limit or 0 for ws in others)
        held = sum(ws.nbytes for ws in self._scheduler.workers.values())
        return math.ceil(max(0.0, held - elsewhere) / (MEMORY_SHARE * max(limits)))


class NoRoom(Exception):
    """No other worker can take what this one holds."""


def _held_by(ts: Any, workers: set[Any]) -> bool:
    return ts.state != "memory" or not workers.isdisjoint(ts.who_has or ())


def _loss(ws: Any) -> tuple[int, int, str]:
    """Order workers by what is lost when they go."""
    return len(ws.processing), ws.nbytes, str(ws.name)


def _slots(tasks: Collection[Weighted]) -> int:
    """Return how many tasks should run at a time: many short ones need not each have a slot of their own."""
    target = parse_timedelta(dask.config.get("distributed.adaptive.target-duration"))
    seconds = sum(weight * _duration(ts, target) for ts, weight in tasks)
    return math.ceil(min(sum(weight for _, weight in tasks), seconds / target) - 1e-9)


def _duration(ts: Any, target: float) -> float:
    """Return seconds; a kind of task that never ended may be long."""
    average = float(ts.prefix.duration_average)
    return min(target, average) if average >= 0 else target


def _pool_for(ts: Any, pools: Collection[Pool]) -> Pool | None:
    """Return the pool that is to grow for a task: it has what the task asks for, and no more; the first elastic one."""
    restrictions = ts.resource_restrictions or {}
    growing = (p for p in pools if not p.leaving)
    able = [p for p in growing if all(p.resources.get(name, 0) >= number for name, number in restrictions.items())]
    return min(able, key=lambda p: (len(p.resources), not p.pool), default=None)


def _at_once(pool: Pool, tasks: Collection[Weighted]) -> int:
    """Return how many of these tasks one worker runs at a time."""
    first, _ = next(iter(tasks), (None, 0.0))
    limits = [pool.threads]
    for name, number in ((first.resource_restrictions or {}) if first else {}).items():
        limits.append(int(pool.resources.get(name, 0) // number) if number else pool.threads)
    return min(limits)


class Handler(RequestHandler):
    """Answers 400 with a sentence to what is not understood."""

    def initialize(self, agent: Agent) -> None:
        """Take what the route was made with."""
        self._agent = agent

    async def post(self) -> None:
        """Answer a request."""
        try:
            self.write(await self.answer(dict(json.loads(self.request.body))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.set_status(400)
            self.write({"error": str(error)})


class PoolsHandler(Handler):
    """``POST /af/v1/pools``."""

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return how the pools are; where workers are about to have nothing left, how they are a moment later."""
        pools = list(_parse(body["pools"]))
        states = self._agent.answer(pools)
        if await self._agent.retires():
            states = self._agent.answer(pools)
        return {"pools": states, "active": self._agent.active()}


class ScaleHandler(Handler):
    """``POST /af/v1/scale``."""

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take the wish."""
        self._agent.scale(body["pool"], body["workers"])
        return {}


class VersionsHandler(RequestHandler):
    """``GET /af/v1/versions``: those of Dask and Python, for who computes from outside and must have the same."""

    def get(self) -> None:
        """Answer."""
        self.write({"python": platform.python_version(), "dask": dask.__version__, "distributed": distributed_version})


def _parse(pools: Mapping[str, Any]) -> Iterator[Pool]:
    for group, options in pools.items():
        yield Pool.parse(group, options)


def dask_setup(scheduler: Scheduler) -> None:
    """Add the routes; called by Dask when the scheduler has started."""
    options = {"agent": Agent(scheduler)}
    routes = [(r"/af/v1/pools", PoolsHandler, options), (r"/af/v1/scale", ScaleHandler, options)]
    scheduler.http_application.add_handlers(".*$", [*routes, (r"/af/v1/versions", VersionsHandler)])
    log.info("Pools are asked about at /af/v1/pools")
