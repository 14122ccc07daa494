"""Requests to one model, put together while it is busy.

There is no timer: a request that finds the model idle runs at once, and whatever came meanwhile goes together in the
next run. Coroutines and threads wait in the same queue.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf

import numpy as np

from af_inference.errors import Failed, Problem, TooMany, Unavailable
from af_inference.runtime import Model
from af_inference.settings import Limits
from af_inference.statistics import Statistics
from af_inference.tensors import Array, Arrays

Outcome = dict[str, Array] | Problem


class Ask:
    """One request: arrays of all inputs in the model's order, and the outputs that are wanted.

    Attributes
    ----------
    key
        Requests with equal keys can run as one.
    rows
        Length of the first axis.
    came
        When, in nanoseconds.
    waiting
        A future of a loop, or a lock that is held until there is an outcome.
    late
        Nobody waits any more.
    """

    __slots__ = ("came", "feeds", "key", "late", "outcome", "outputs", "rows", "waiting")

    def __init__(self, feeds: Arrays, outputs: Sequence[str], waiting: asyncio.Future[None] | threading.Lock) -> None:
        self.feeds, self.outputs, self.waiting = feeds, outputs, waiting
        arrays = feeds.values()
        self.rows = next((array.shape[0] for array in arrays if array.shape), 1)
        self.key = (*outputs, *(array.shape[1:] for array in arrays))
        self.outcome: Outcome | None = None
        self.late = False
        self.came = time.perf_counter_ns()

    def result(self) -> dict[str, Array]:
        """Return the outputs, or raise what came instead."""
        if isinstance(self.outcome, Problem):
            raise self.outcome
        assert self.outcome is not None  # noqa: S101  (who asks has waited)
        return self.outcome


class Batcher:
    """The queue before one model, and the runs that empty it.

    Attributes
    ----------
    batched
        Whether rows of different requests may be put together: the answer to one must not depend on the rows beside it.
    waiting
        Requests in the queue.
    running
        Runs that are under way.
    """

    def __init__(self, model: Model, limits: Limits, batched: bool, statistics: Statistics) -> None:
        self.model, self.batched, self.waiting = model, batched, 0
        self._limits, self._statistics = limits, statistics
        self._lock = threading.Lock()
        self._queues: OrderedDict[tuple[object, ...], deque[Ask]] = OrderedDict()
        self.running = 0
        self._alone = itertools.count()
        self._runs = ThreadPoolExecutor(model.parallel, f"model-{model.name}")

    async def ask(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
        """Return the model's outputs for arrays that were checked.

        Raises
        ------
        TooMany
            The queue is full.
        Problem
            What the model says.
        """
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ask = Ask(feeds, outputs, waiting)
        if self._enqueue(ask):
            self._runs.submit(self._go_on)
        await waiting
        return ask.result()

    def ask_in_thread(self, feeds: Arrays, outputs: Sequence[str], seconds: float = inf) -> dict[str, Array]:
        """Do the same for a thread. If the model is idle it runs its request itself: to wake another costs more.

        Raises
        ------
        Unavailable
            It has waited for so many seconds.
        """
        lock = threading.Lock()
        lock.acquire()
        ask = Ask(feeds, outputs, lock)
        if self._enqueue(ask):
            self._run(self._take())
            if self._more():
                self._runs.submit(self._go_on)
        if not lock.acquire(timeout=min(max(seconds, 0), threading.TIMEOUT_MAX)):
            ask.late = True
            raise Unavailable(f"model {self.model.name} has not answered in the time that the client gave it")
        return ask.result()

    def _enqueue(self, ask: Ask) -> bool:
        """Put a request into the queue, and say whether its caller must see to it that the queue is emptied."""
        with self._lock:
            if self.waiting >= self._limits.queue:
                raise TooMany(
                    f"{self.waiting} requests wait for {self.model.name}: ask again later, or with more rows at a time"
                )
            key = ask.key if self.batched else (next(self._alone),)
            self._queues.setdefault(key, deque()).append(ask)
            self.waiting += 1
            if self.running >= self.model.parallel:
                return False
            self.running += 1
            return True

    def _take(self) -> list[Ask]:
        """Take what runs next: of those that came first, and can run together, as many as may."""
        with self._lock:
            key, queue = self._queues.popitem(last=False)
            taken = [queue.popleft()]
            rows = taken[0].rows
            while queue and (rows := rows + queue[0].rows) <= self._limits.batch:
                taken.append(queue.popleft())
            if queue:
                self._queues[key] = queue  # at the end: other shapes have waited for their turn
            self.waiting -= len(taken)
            return taken

    def _more(self) -> bool:
        """Say whether there is something left; if not, whoever asks has stopped running."""
        with self._lock:
            if not self._queues:
                self.running -= 1
            return bool(self._queues)

    def _go_on(self) -> None:
        """Run until the queue is empty."""
        self._run(self._take())
        while self._more():
            self._run(self._take())

    def _run(self, asks: list[Ask]) -> None:
        asks = [ask for ask in asks if not ask.late]
        try:
            if asks:
                self._together(asks)
        finally:
            _tell(asks)

    def _together(self, asks: list[Ask]) -> None:
        started = time.perf_counter_ns()
        outcome = self._outcome(asks)
        ended = time.perf_counter_ns()
        if not isinstance(outcome, Problem):
            for ask, each in zip(asks, outcome, strict=True):
                ask.outcome = each
            self._statistics.ran(sum(ask.rows for ask in asks), started, ended, [ask.came for ask in asks])
        elif len(asks) > 1:
            for ask in asks:  # one of them is to blame, and the others must not know
                self._together([ask])
        else:
            asks[0].outcome = outcome
            self._statistics.failed(ended - asks[0].came)

    def _outcome(self, asks: list[Ask]) -> list[dict[str, Array]] | Problem:
        outputs = asks[0].outputs
        try:
            if len(asks) == 1:
                return [self.model.run(asks[0].feeds, outputs)]
            feeds = {name: np.concatenate([ask.feeds[name] for ask in asks]) for name in asks[0].feeds}
            return _split(self.model.run(feeds, outputs), [ask.rows for ask in asks])
        except Problem as problem:
            return problem
        except Exception as error:  # noqa: BLE001  (whatever breaks in a run is an answer, or the queue would stand still)
            return Failed(f"model {self.model.name} failed: {type(error).__name__}")


def _split(results: dict[str, Array], rows: list[int]) -> list[dict[str, Array]]:
    ends = list(itertools.accumulate(rows))
    for name, array in results.items():
        if array.shape[:1] != (ends[-1],):
            raise Failed(f"output {name} has not as many rows as there were")
    return [
        {n: array[end - count : end] for n, array in results.items()} for end, count in zip(ends, rows, strict=True)
    ]


def _tell(asks: list[Ask]) -> None:
    """Wake all callers; a loop is woken once for all of its own."""
    futures: list[asyncio.Future[None]] = []
    for ask in asks:
        if isinstance(ask.waiting, asyncio.Future):
            futures.append(ask.waiting)
        else:
            ask.waiting.release()
    if futures:
        futures[0].get_loop().call_soon_threadsafe(_settle, futures)


def _settle(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # its request may have been given up
            future.set_result(None)
