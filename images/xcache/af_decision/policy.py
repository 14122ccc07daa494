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
AT_ONCE = 8
REMEMBERED, MOST_REMEMBERED = 10.0, 10_000
"""Seconds, and answers: a program often opens a file several times in a row."""
FAILURES = 3
"""In a row, after which the service is left in peace: each open that asks in vain would wait `SECONDS`."""
PAUSE, LONGEST_PAUSE = 5.0, 60.0

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05)


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


class Policy:
    """Asks `probability` of what is not on disk, and keeps what is as probable as `threshold`, or more."""

    def __init__(
        self, probability: Callable[[Sequence[float]], float], threshold: float, clock: Callable[[], float]
    ) -> None:
        self._probability, self._threshold, self._clock = probability, threshold, clock
        self._history, self._pause = History(), Pause()
        self._answers: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self.counts: Counter[Outcome] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.latencies: Counter[float] = Counter(dict.fromkeys((*BUCKETS, math.inf), 0))
        self.seconds = 0.0

    async def warm_up(self) -> None:
        """Ask once before anybody waits: the first time names are looked up, and the model is told of."""
        with suppress(Unavailable):
            await self._ask([0.0] * len(FEATURES))

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
        if not self._pause.over(now):
            return PAUSED
        try:
            async with asyncio.timeout(SECONDS):
                probability = await self._ask(features)
        except (TimeoutError, Unavailable) as error:
            late = isinstance(error, TimeoutError)
            self._pause.failed(self._clock(), f"later than {SECONDS} s" if late else str(error))
            return LATE if late else UNAVAILABLE
        self._pause.succeeded()
        return self._remembered(path, probability >= self._threshold)

    async def _ask(self, features: Sequence[float]) -> float:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._probability, features)

    def _remembered(self, path: str, kept: bool) -> Outcome:
        self._answers[path] = (self._clock() + REMEMBERED, kept)
        self._answers.move_to_end(path)
        if len(self._answers) > MOST_REMEMBERED:
            self._answers.popitem(last=False)
        return Outcome("cache" if kept else "past", "model")
