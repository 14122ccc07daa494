"""When the agent inside the Dask scheduler says that there was something to compute, in a real scheduler."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from distributed import Client, Scheduler, Worker

from af_operator.components import dask
from af_operator.components.dask.groups import DaskAnswer
from af_operator.views import ACTIVITY_STEP

NOON = 1_795_262_400.0
"""12:00:00 UTC of a day, where a step of five minutes begins."""
STEP = ACTIVITY_STEP.total_seconds()
SEEN = threading.Event()
"""What is slow ends by it: the worker is a thread of this process."""


class Place:
    """A scheduler with the agent and one worker; the agent's clock is the test's."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.now = NOON + 17

    async def start(self) -> None:
        agent = self._load()
        host = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
        self.scheduler = await self._stack.enter_async_context(Scheduler(protocol="tcp", **host))
        agent.dask_setup(self.scheduler)
        await self.worker("zmumu-cpu-1a2b3c-worker-0")
        self.client = await Client(self.scheduler.address, asynchronous=True, set_as_default=False)
        self._stack.push_async_callback(self.client.close)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())

    async def worker(self, name: str) -> None:
        made = Worker(self.scheduler.address, name=name, nthreads=1, memory_limit="1GiB")
        await self._stack.enter_async_context(made)

    async def active(self) -> float | None:
        """Ask as the operator does; return what it would believe."""
        url = f"http://127.0.0.1:{self.scheduler.http_server.port}/af/v1/pools"
        async with self._http.post(url, json={"pools": {}}) as response:
            response.raise_for_status()
            return DaskAnswer.model_validate_json(await response.read()).active

    async def until(self, check: Callable[[Scheduler], bool]) -> None:
        end = time.monotonic() + 30
        while not check(self.scheduler):
            assert time.monotonic() < end, self.scheduler.tasks
            await asyncio.sleep(0.02)

    def _load(self) -> Any:
        path = f"{dask.__path__[0]}/scheduler_agent.py"
        spec = importlib.util.spec_from_file_location("agent_with_a_clock", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        module.time = SimpleNamespace(time=lambda: self.now, monotonic=time.monotonic)
        return module


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    SEEN.clear()
    async with AsyncExitStack() as stack:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        found = Place(stack)
        await found.start()
        yield found
        SEEN.set()


def square(number: int) -> int:
    return number * number


def wait(number: int) -> int:
    SEEN.wait(60)
    return number


async def test_one_that_computes_nothing_was_last_used_when_it_began(place: Place) -> None:
    for _ in range(4):
        assert await place.active() == NOON
        place.now += 1000
    await place.worker("zmumu-cpu-1a2b3c-worker-1")
    assert await place.active() == NOON, "workers that come are no use of it"


async def test_what_was_computed_between_two_questions_counts(place: Place) -> None:
    assert await place.active() == NOON
    place.now = NOON + 2 * STEP + 100
    assert await place.client.gather(place.client.map(square, range(3))) == [0, 1, 4]
    assert await place.active() == NOON + 2 * STEP
    await place.until(lambda scheduler: not scheduler.tasks)
    assert await place.active() == NOON + 2 * STEP
    place.now += 10 * STEP
    assert await place.active() == NOON + 2 * STEP, "and then it is idle"


async def test_a_task_that_goes_on_for_long_is_use_all_the_time(place: Place) -> None:
    future = place.client.submit(wait, 1)
    await place.until(lambda scheduler: any(worker.processing for worker in scheduler.workers.values()))
    for _ in range(4):
        place.now += STEP
        assert await place.active() == place.now // STEP * STEP
    SEEN.set()
    assert await future == 1
    place.now += STEP
    assert await place.active() == place.now // STEP * STEP, "its end is use as well"


async def test_results_that_are_only_held_are_no_use(place: Place) -> None:
    held = await place.client.scatter([1, 2, 3])
    await place.active()
    before = await place.active()
    place.now += 10 * STEP
    assert await place.active() == before
    assert len(held) == 3
