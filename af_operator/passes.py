"""Passes, one after the other: take a key from the queue, run its pass, and decide when the key comes again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge, Histogram

from af_operator.errors import Unavailable
from af_operator.model import Key
from af_operator.queue import WorkQueue

PASSES = Histogram("af_operator_pass_seconds", "Duration of a pass over one session or profile")
FAILURES = Counter("af_operator_pass_failures", "Passes that ended with an error", ["error"])
BROKEN = Gauge("af_operator_broken", "Sessions and profiles at which the operator fails again and again")
TOLD_AFTER = 3
"""Faults in a row after which people are told: one or two may come of a moment."""
AT_LEAST = 5.0
"""Seconds until a pass is tried again that has met a fault of ours."""

log = structlog.get_logger()


class Passes(Protocol):
    """What a worker does with a key."""

    async def __call__(self, key: Key) -> datetime | None:
        """Run one pass; return when to look again."""

    async def tell_broken(self, key: Key, error: Exception) -> None:
        """Tell people that passes over this key fail again and again."""


Clock = Callable[[], datetime]


async def work(queue: WorkQueue, passes: Passes, clock: Clock) -> None:
    """Run passes for ever."""
    while True:
        # A pass over what is as it should be waits for nothing, and after a start there are thousands of them: Lease
        # and probes must have their turn in between.
        await asyncio.sleep(0)
        key = await queue.get()
        context = {"namespace": key.namespace, "session": key.name} if key.namespace else {"profile": key.name}
        with structlog.contextvars.bound_contextvars(**context), PASSES.time():
            try:
                await _run_pass(queue, passes, clock, key)
            finally:
                queue.done(key)


async def _run_pass(queue: WorkQueue, passes: Passes, clock: Clock, key: Key) -> None:
    try:
        look_again = await passes(key)
    except Unavailable as error:
        FAILURES.labels("Unavailable").inc()
        delay = queue.failed(key, at_least=error.retry_after or 0.0)
        log.warning("the API server is unavailable", error=str(error), retry_seconds=round(delay, 1))
    except Exception as error:
        FAILURES.labels(type(error).__name__).inc()
        delay = queue.failed(key, at_least=AT_LEAST, fault=True)
        log.exception("a pass failed", retry_seconds=round(delay, 1))
        await _tell_broken(queue, passes, key, error)
    else:
        if queue.faults(key) >= TOLD_AFTER:
            BROKEN.dec()
            log.info("passes succeed again")
        queue.succeeded(key)
        if look_again is not None:
            queue.add(key, max(0.05, (look_again - clock()).total_seconds()))


async def _tell_broken(queue: WorkQueue, passes: Passes, key: Key, error: Exception) -> None:
    if queue.faults(key) < TOLD_AFTER:
        return
    if queue.faults(key) == TOLD_AFTER:
        BROKEN.inc()
    try:
        await passes.tell_broken(key, error)
    except Exception as second_error:  # noqa: BLE001 - the first error is logged, and the next pass tries to tell again
        log.warning("people could not be told of it", error=str(second_error))
