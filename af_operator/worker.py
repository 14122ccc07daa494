"""Workers: take a key from the queue, run its pass, and decide when the key comes again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from prometheus_client import Counter, Histogram

from af_operator.errors import Unavailable
from af_operator.model import Key
from af_operator.queue import WorkQueue

PASSES = Histogram("af_operator_pass_seconds", "Duration of a pass over one session or profile")
FAILURES = Counter("af_operator_pass_failures", "Passes that ended with an error", ["error"])

Reconcile = Callable[[Key], Awaitable[datetime | None]]
log = structlog.get_logger()


async def work(queue: WorkQueue, reconcile: Reconcile, clock: Callable[[], datetime]) -> None:
    """Run passes for ever."""
    while True:
        key = await queue.get()
        about = {"namespace": key.namespace, "session": key.name} if key.namespace else {"profile": key.name}
        with structlog.contextvars.bound_contextvars(**about), PASSES.time():
            try:
                await _one(queue, reconcile, clock, key)
            finally:
                queue.done(key)


async def _one(queue: WorkQueue, reconcile: Reconcile, clock: Callable[[], datetime], key: Key) -> None:
    try:
        again = await reconcile(key)
    except Unavailable as error:
        FAILURES.labels("Unavailable").inc()
        delay = queue.failed(key, at_least=error.retry_after or 0.0)
        log.warning("the API server is unavailable", error=str(error), retry_seconds=round(delay, 1))
    except Exception as error:
        FAILURES.labels(type(error).__name__).inc()
        delay = queue.failed(key, at_least=5.0)
        log.exception("a pass failed", retry_seconds=round(delay, 1))
    else:
        queue.succeeded(key)
        if again is not None:
            queue.add(key, max(0.05, (again - clock()).total_seconds()))
