"""Decides, file by file, and counts what came of it. The clock is the caller's."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from .history import FEATURES, History
from .model import Unavailable

log = logging.getLogger("af.decision")

SECONDS = 0.04
"""For one answer of the service; the plugin waits 50 ms for ours."""
MOST_ROWS = 64
REMEMBERED, MOST_REMEMBERED = 10.0, 10_000
"""Seconds, and answers: a program often opens a file several times in a row."""
FAILURES = 3
"""Requests in a row, after which the service is left in peace: each open that asks in vain would wait `SECONDS`."""
PAUSE, LONGEST_PAUSE = 5.0, 60.0

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05)


Probabilities = Callable[[Sequence[Sequence[float]]], Sequence[float]]
Clock = Callable[[], float]


class Outcome(NamedTuple):
    """Which way a file was opened, and why so."""

    way: str
    reason: str


ON_DISK = Outcome("cache", "on_disk")
LATE, UNAVAILABLE, PAUSED = (Outcome("cache", reason) for reason in ("late", "unavailable", "paused"))
OUTCOMES = (
    ON_DISK,
    *(Outcome(way, reason) for way in ("cache", "past") for reason in ("model", "remembered")),
    LATE,
    UNAVAILABLE,
    PAUSED,
)


class Pause:
    """Leaves a service that does not answer in peace, ever longer, and lets one open ask after each pause."""

    def __init__(self) -> None:
        self._failures, self._until, self._seconds = 0, -math.inf, PAUSE

    def over(self, now: float) -> bool:
        """Return whether the service may be asked."""
        if now < self._until:
            return False
        if self._failures >= FAILURES:
            # While one asks the others do not wait; and if it asks in vain, the next pause has begun.
            self._begin(now)
        return True

    def succeeded(self) -> None:
        """Forget what was."""
        self._failures, self._until, self._seconds = 0, -math.inf, PAUSE

    def failed(self, now: float, why: str) -> None:
        """Count a failure; the third in a row begins a pause."""
        self._failures += 1
        if self._failures == FAILURES:
            self._begin(now)
        if self._failures >= FAILURES:
            log.warning("the model does not answer, files are cached as usual: %s", why)

    def _begin(self, now: float) -> None:
        self._until = now + self._seconds
        self._seconds = min(2 * self._seconds, LONGEST_PAUSE)


class Questions:
    """Asks of all files that wait in one request, and then of those that came meanwhile: one request at a time."""

    def __init__(self, probabilities: Probabilities, clock: Clock) -> None:
        self.pause = Pause()
        self._probabilities, self._clock = probabilities, clock
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Sequence[float], asyncio.Future[float]]] = []
        self._since: float | None = None
        self._asking: asyncio.Task[None] | None = None

    def stuck(self) -> bool:
        """Return whether the request under way has had its time: to wait behind it is in vain."""
        return self._since is not None and self._clock() - self._since > SECONDS

    async def ask(self, features: Sequence[float]) -> float:
        """Return the probability that a file with these features is read again; raises Unavailable."""
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((features, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def _ask_all(self) -> None:
        while self._waiting:
            # Who was not answered in time has gone.
            waiting = [each for each in self._waiting if not each[1].done()]
            asked, self._waiting = waiting[:MOST_ROWS], waiting[MOST_ROWS:]
            if asked:
                await self._request(*zip(*asked, strict=True))

    async def _request(self, rows: Sequence[Sequence[float]], answers: Sequence[asyncio.Future[float]]) -> None:
        begun = self._since = self._clock()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._probabilities, rows)
        except Unavailable as error:
            self.pause.failed(self._clock(), str(error))
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)
        else:
            self._count(self._clock() - begun)
            for answer, value in zip(answers, found, strict=True):
                if not answer.done():
                    answer.set_result(value)
        finally:
            self._since = None

    def _count(self, took: float) -> None:
        if took > SECONDS:
            self.pause.failed(self._clock(), f"an answer took {took:.3f} s")
        else:
            self.pause.succeeded()


class Policy:
    """Asks `probabilities` of what is not on disk, and keeps what is as probable as `threshold`, or more."""

    def __init__(self, probabilities: Probabilities, threshold: float, clock: Clock) -> None:
        self._questions = Questions(probabilities, clock)
        self._threshold, self._clock = threshold, clock
        self._history = History()
        self._answers: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self.counts: Counter[Outcome] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.latencies: Counter[float] = Counter(dict.fromkeys((*BUCKETS, math.inf), 0))
        self.seconds = 0.0

    async def warm_up(self) -> None:
        """Ask once before anybody waits: the first time names are looked up, and the model is told of."""
        with suppress(Unavailable):
            await self._questions.ask([0.0] * len(FEATURES))

    def hit(self, path: str) -> None:
        """Remember that a file was opened which is on disk."""
        self._history.opened(path, self._clock())
        self.counts[ON_DISK] += 1

    async def keep(self, path: str) -> bool:
        """Return whether a file that is opened is to be kept."""
        begun = self._clock()
        outcome = await self._outcome(path, begun)
        self.counts[outcome] += 1
        took = self._clock() - begun
        self.seconds += took
        self.latencies[next((each for each in BUCKETS if took <= each), math.inf)] += 1
        return outcome.way == "cache"

    async def _outcome(self, path: str, now: float) -> Outcome:
        features = self._history.opened(path, now)
        until, kept = self._answers.get(path, (now, True))
        if now < until:
            return Outcome("cache" if kept else "past", "remembered")
        if self._questions.stuck() or not self._questions.pause.over(now):
            return PAUSED
        try:
            async with asyncio.timeout(SECONDS):
                probability = await self._questions.ask(features)
        except TimeoutError:
            return LATE
        except Unavailable:
            return UNAVAILABLE
        return self._remembered(path, probability >= self._threshold)

    def _remembered(self, path: str, kept: bool) -> Outcome:
        self._answers[path] = (self._clock() + REMEMBERED, kept)
        self._answers.move_to_end(path)
        if len(self._answers) > MOST_REMEMBERED:
            self._answers.popitem(last=False)
        return Outcome("cache" if kept else "past", "model")
