"""When a key comes again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from af_operator.errors import Unavailable
from af_operator.model import Key
from af_operator.passes import work
from af_operator.queue import WorkQueue

KEY = Key("physics", "zmumu")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Passes:
    """A scripted reconcile: each pass takes the next outcome, an error or a time to look again."""

    def __init__(self, *outcomes: Exception | datetime | None) -> None:
        self._outcomes = list(outcomes)
        self.seen: list[Key] = []
        self.over = asyncio.Event()

    async def __call__(self, key: Key) -> datetime | None:
        self.seen.append(key)
        outcome = self._outcomes.pop(0)
        if not self._outcomes:
            self.over.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def run(passes: Passes, queue: WorkQueue, *keys: Key) -> None:
    for key in keys:
        queue.add(key)
    task = asyncio.create_task(work(queue, passes, lambda: NOW))
    async with asyncio.timeout(5):
        await passes.over.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_time_to_look_again_is_kept() -> None:
    passes = Passes(NOW + timedelta(seconds=0.1), None)
    await run(passes, WorkQueue(), KEY)
    assert passes.seen == [KEY, KEY]


async def test_an_unavailable_server_is_tried_again() -> None:
    passes = Passes(Unavailable("503"), None)
    await run(passes, WorkQueue(), KEY)
    assert passes.seen == [KEY, KEY]


async def test_one_poisoned_session_takes_no_worker_away() -> None:
    other = Key("physics", "fine")
    passes = Passes(ValueError("poison"), None)
    await run(passes, WorkQueue(), KEY, other)
    assert passes.seen == [KEY, other]


async def test_passes_that_wait_for_nothing_leave_others_their_turn() -> None:
    passes = Passes(*[None] * 100)
    turns = 0

    async def lease() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(lease())
    await run(passes, WorkQueue(), *(Key("physics", f"s{number}") for number in range(100)))
    other.cancel()
    assert turns >= 100
