"""The agent inside the Dask scheduler, in a real scheduler with real workers."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import dask
import pytest
from distributed import Client, Scheduler, Worker

AGENT = Path(__file__).parents[2] / "af_operator" / "components" / "dask" / "scheduler_agent.py"
CPU, GPU = "zmumu-cpu-1a2b3c", "zmumu-gpu-4d5e6f"


SEEN_ENOUGH = threading.Event()
"""What is slow ends early by it: the workers are threads of this process."""


def load() -> Any:
    """Return the module as Dask's preload would import it."""
    spec = importlib.util.spec_from_file_location("scheduler_agent", AGENT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module.STUCK_PAUSE = 0.5
    return module


class Cluster:
    """A scheduler with the agent, and workers of two pools, all in this process."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.workers: dict[str, Worker] = {}

    async def start(self) -> None:
        self.scheduler = await self._stack.enter_async_context(
            Scheduler(protocol="tcp", dashboard_address="127.0.0.1:0", port=0, host="127.0.0.1")
        )
        load().dask_setup(self.scheduler)
        self.url = f"http://127.0.0.1:{self.scheduler.http_server.port}/af/v1/pools"
        self.http = await self._stack.enter_async_context(aiohttp.ClientSession())

    async def worker(self, group: str, number: int, **more: Any) -> None:
        name = f"{group}-worker-{number:010x}"
        made = Worker(self.scheduler.address, name=name, nthreads=1, memory_limit="1GiB", **more)
        self.workers[name] = await self._stack.enter_async_context(made)

    async def client(self) -> Client:
        client = await Client(self.scheduler.address, asynchronous=True, set_as_default=False)
        self._stack.push_async_callback(client.close)
        return client

    async def ask(self, **pools: dict[str, Any]) -> dict[str, Any]:
        """Ask about the pools `cpu` and `gpu`."""
        groups = {"cpu": CPU, "gpu": GPU}
        body = {"pools": {groups[name]: pool for name, pool in pools.items()}}
        async with self.http.post(self.url, json=body) as response:
            response.raise_for_status()
            found = (await response.json())["pools"]
        return {name: found[groups[name]] for name in pools}

    async def tell(self, **wish: Any) -> tuple[int, str]:
        """Say how many workers are wanted."""
        async with self.http.post(self.url.replace("pools", "scale"), json=wish) as response:
            return response.status, (await response.json()).get("error", "")

    async def until(self, said: Callable[[dict[str, Any]], bool], **pools: dict[str, Any]) -> dict[str, Any]:
        """Ask until the answer is as wanted."""
        end = time.monotonic() + 30
        while not said(found := await self.ask(**pools)):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)
        return found

    async def shrink(self, keep: int) -> list[str]:
        """Let workers of the pool `cpu` go as the operator does: ask, wait, take away who has nothing left."""
        asked = {"cpu": {"keep": keep}}
        found = await self.until(lambda a: len({*a["cpu"]["workers"]} - {*a["cpu"]["retired"]}) <= keep, **asked)
        for name in found["cpu"]["retired"]:
            await self.workers.pop(name).close()
        return list(found["cpu"]["retired"])


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    settings = getattr(request, "param", {}) | {
        "distributed.admin.tick.interval": "500ms",
        "distributed.scheduler.allowed-failures": 0,
    }
    SEEN_ENOUGH.clear()
    with dask.config.set(settings):
        async with AsyncExitStack() as stack:
            logging.getLogger("distributed").setLevel(logging.ERROR)
            found = Cluster(stack)
            await found.start()
            yield found


def number(index: int) -> int:
    return index * index


def slow(index: int, seconds: float) -> int:
    SEEN_ENOUGH.wait(seconds)
    return index


async def test_nothing_is_lost_and_nothing_is_computed_again(cluster: Cluster) -> None:
    for index in range(4):
        await cluster.worker(CPU, index)
    client = await cluster.client()
    futures = client.map(number, range(100), pure=False)
    assert await client.gather(futures) == [index * index for index in range(100)]
    computed = {str(f.key): _times_computed(cluster, f.key) for f in futures}
    assert len(await cluster.shrink(1)) == 3
    assert await client.gather(futures) == [index * index for index in range(100)]
    assert {str(f.key): _times_computed(cluster, f.key) for f in futures} == computed


async def test_a_copy_on_one_who_has_gone_is_no_copy_for_the_next(cluster: Cluster) -> None:
    await cluster.worker(GPU, 0)
    client = await cluster.client()
    futures = client.map(number, range(20), pure=False)
    await client.gather(futures)
    await cluster.worker(CPU, 0)
    await cluster.until(lambda a: bool(a["gpu"]["retired"]), cpu={}, gpu={"keep": 0})
    assert {len(cluster.scheduler.tasks[f.key].who_has or ()) for f in futures} == {1}
    await cluster.worker(CPU, 1)
    big = client.submit(bytes, 1_000_000, workers=[f"{CPU}-worker-{1:010x}"])  # so that the other goes
    await big
    await cluster.ask(cpu={"keep": 1}, gpu={"keep": 0})
    await cluster.workers.pop(f"{GPU}-worker-{0:010x}").close()
    await cluster.until(lambda a: bool(a["cpu"]["retired"]), cpu={"keep": 1}, gpu={"keep": 0})
    await cluster.workers.pop(f"{CPU}-worker-{0:010x}").close()
    assert await client.gather(futures) == [index * index for index in range(20)]
    assert {_times_computed(cluster, f.key) for f in futures} == {1}


async def test_the_idle_go_first_and_who_is_busy_finishes_its_task(cluster: Cluster) -> None:
    for index in range(3):
        await cluster.worker(CPU, index)
    client = await cluster.client()
    busy = client.submit(slow, 7, 1.0, workers=[next(iter(cluster.workers))], allow_other_workers=True)
    await cluster.until(lambda a: a["cpu"]["wanted"] > 0, cpu={})
    gone = await cluster.shrink(1)
    assert f"{CPU}-worker-{0:010x}" not in gone
    SEEN_ENOUGH.set()
    assert await busy == 7


async def test_tasks_of_one_who_goes_run_to_their_end(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    await cluster.worker(GPU, 0)
    client = await cluster.client()
    task = client.submit(slow, 1, 1.0, workers=[f"{CPU}-worker-{0:010x}"], pure=False)
    await cluster.until(lambda a: a["cpu"]["wanted"] > 0, cpu={})
    gone = await cluster.shrink(0)
    assert gone == [f"{CPU}-worker-{0:010x}"]
    assert await task == 1, "its result was copied to the other pool's worker"
    assert _times_computed(cluster, task.key) == 1


async def test_a_task_that_does_not_end_runs_elsewhere_and_has_not_failed(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    client = await cluster.client()
    task = client.submit(slow, 1, 60.0, pure=False)
    await cluster.until(lambda a: a["cpu"]["wanted"] > 0, cpu={})
    await cluster.worker(GPU, 0)
    asked = {"cpu": {"keep": 0, "drain": 0.5}}
    await cluster.until(lambda a: bool(a["cpu"]["retired"]), **asked)
    assert task.status == "pending", "it was not waited for"
    taken = cluster.scheduler.tasks[task.key]
    assert taken.processing_on
    assert taken.processing_on.name == f"{GPU}-worker-{0:010x}"
    SEEN_ENOUGH.set()
    await cluster.workers.pop(f"{CPU}-worker-{0:010x}").close()
    assert await task == 1
    assert taken.suspicious == 0, "it was a planned end"
    assert _times_computed(cluster, task.key) == 1


ALL_AT_ONCE = {"distributed.scheduler.worker-saturation": float("inf")}
CALM = {"distributed.scheduler.work-stealing-interval": "1 hour"}


@pytest.mark.parametrize("cluster", [ALL_AT_ONCE | CALM], indirect=True)
async def test_a_task_on_its_way_to_one_who_goes_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.worker(CPU, 0)
    await cluster.worker(GPU, 0)
    client = await cluster.client()
    first, second = cluster.workers.values()
    tasks = client.map(slow, range(4), seconds=1.0, pure=False, workers=[first.name], allow_other_workers=True)
    await cluster.until(lambda _: len(first.state.executing) == 1, cpu={})
    here, there = (cluster.scheduler.workers[worker.address] for worker in (first, second))
    monkeypatch.setitem(cluster.scheduler.stream_handlers, "steal-response", _late(cluster, "steal-response"))
    moved = max(here.processing, key=lambda ts: ts.priority)  # the last one: it waits
    cluster.scheduler.extensions["stealing"].move_task_request(moved, here, there)
    gone = await cluster.until(lambda a: bool(a["gpu"]["retired"]), cpu={}, gpu={"keep": 0})
    assert moved.processing_on is here, gone
    SEEN_ENOUGH.set()
    await cluster.workers.pop(str(there.name)).close()
    assert await client.gather(tasks) == [0, 1, 2, 3]
    assert moved.suspicious == 0


@pytest.mark.parametrize("cluster", [ALL_AT_ONCE | {"distributed.scheduler.work-stealing": False}], indirect=True)
async def test_where_nothing_is_stolen_what_waits_goes_at_the_deadline(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    client = await cluster.client()
    tasks = client.map(slow, range(4), seconds=0.2, pure=False)
    await cluster.until(lambda a: a["cpu"]["wanted"] > 0, cpu={})
    await cluster.worker(GPU, 0)
    await cluster.until(lambda a: bool(a["cpu"]["retired"]), cpu={"keep": 0, "drain": 0.5})
    assert await client.gather(tasks) == [0, 1, 2, 3]


@pytest.mark.parametrize("cluster", [ALL_AT_ONCE], indirect=True)
async def test_tasks_that_wait_at_one_who_goes_are_given_to_others(cluster: Cluster) -> None:
    for index in range(2):
        await cluster.worker(CPU, index)
    client = await cluster.client()
    tasks = client.map(slow, range(100), seconds=0.5, pure=False)
    await cluster.until(lambda a: a["cpu"]["wanted"] > 0, cpu={})
    assert min(len(ws.processing) for ws in cluster.scheduler.workers.values()) > 20, "all were sent to workers at once"
    workers = dict(cluster.workers)
    [gone] = await cluster.shrink(1)
    assert workers[gone].state.executed_count < 20, "it did not run all that waited at it"
    SEEN_ENOUGH.set()
    assert await client.gather(tasks) == list(range(100))
    assert {_times_computed(cluster, task.key) for task in tasks} == {1}


async def test_the_last_one_stays_while_it_holds_results(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    client = await cluster.client()
    held = client.submit(number, 3)
    await held
    found = await cluster.until(lambda a: bool(a["cpu"]["stuck"]), cpu={"keep": 0})
    assert found["cpu"]["retired"] == []
    held.release()
    assert len(await cluster.shrink(0)) == 1


async def test_who_was_to_go_stays_when_more_may_stay_again(cluster: Cluster) -> None:
    for index in range(2):
        await cluster.worker(CPU, index)
    client = await cluster.client()
    tasks = client.map(slow, range(2), seconds=60.0, pure=False)
    await cluster.until(lambda a: a["cpu"]["wanted"] == 2, cpu={})
    await cluster.until(lambda a: len(a["cpu"]["retiring"]) == 1, cpu={"keep": 1})
    await cluster.until(lambda a: not a["cpu"]["retiring"], cpu={"keep": 2})
    SEEN_ENOUGH.set()
    assert await client.gather(tasks) == [0, 1]
    end = time.monotonic() + 10
    while len(cluster.scheduler.running) < 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_a_pool_is_wanted_when_tasks_ask_for_what_it_has(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    client = await cluster.client()
    pools: dict[str, dict[str, Any]] = {"cpu": {"quiet": 0.5}, "gpu": {"resources": {"GPU": 1}, "quiet": 0.5}}
    assert (await cluster.ask(**pools))["gpu"]["wanted"] == 0
    trials = client.map(number, range(2), resources={"GPU": 1}, pure=False)
    found = await cluster.until(lambda a: a["gpu"]["wanted"] == 2, **pools)
    assert found["cpu"]["wanted"] <= 1, "it has no GPU to offer"
    for index in range(2):
        await cluster.worker(GPU, index, resources={"GPU": 1})
    assert await client.gather(trials) == [0, 1]
    await cluster.until(lambda a: a["gpu"]["wanted"] == 0, **pools)


async def test_an_elastic_pool_grows_where_one_before_it_cannot(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    client = await cluster.client()
    waiting = client.map(slow, range(40), seconds=0.2, pure=False)
    await cluster.until(lambda a: a["gpu"]["wanted"] > 0, cpu={}, gpu={"pool": "gpu", "most": 9})
    await cluster.until(lambda a: a["gpu"]["wanted"] == 0, cpu={"quiet": 0.0}, gpu={"quiet": 0.0})
    SEEN_ENOUGH.set()
    await client.gather(waiting)


async def test_what_one_pool_has_no_room_for_is_wanted_of_the_next_like_it(cluster: Cluster) -> None:
    client = await cluster.client()
    waiting = client.map(slow, range(5), seconds=0.1, pure=False)
    await cluster.until(lambda _: len(cluster.scheduler.unrunnable) + len(cluster.scheduler.queued) == 5)
    first, next_one = {"pool": "cpu", "most": 3, "quiet": 0.0}, {"pool": "gpu", "most": 9, "quiet": 0.0}
    found = await cluster.ask(cpu=first, gpu=next_one)
    assert {name: pool["wanted"] for name, pool in found.items()} == {"cpu": 5, "gpu": 2}
    found = await cluster.ask(cpu={**first, "most": 5}, gpu=next_one)
    assert {name: pool["wanted"] for name, pool in found.items()} == {"cpu": 5, "gpu": 0}
    found = await cluster.ask(cpu=first, gpu={**next_one, "resources": {"GPU": 1}})
    assert found["gpu"]["wanted"] == 0, "it is not like the first"
    await client.cancel(waiting)


async def test_many_short_tasks_want_few_workers(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    client = await cluster.client()
    await client.gather(client.map(slow, range(5), seconds=0.01, pure=False))  # now it is known how long they take
    many = client.map(slow, range(400), seconds=0.01, pure=False)
    await cluster.until(lambda a: 0 < a["cpu"]["wanted"] <= 3, cpu={"quiet": 0.0})
    SEEN_ENOUGH.set()
    await client.gather(many)


async def test_who_works_in_the_session_says_how_many(cluster: Cluster) -> None:
    await cluster.worker(CPU, 0)
    pools: dict[str, dict[str, Any]] = {"cpu": {}, "gpu": {"pool": "gpu", "resources": {"GPU": 1}}}
    assert (await cluster.ask(**pools))["gpu"]["wanted"] == 0
    assert await cluster.tell(pool="gpu", workers=2) == (200, "")
    assert (await cluster.ask(**pools))["gpu"]["wanted"] == 2
    assert await cluster.tell(pool="gpu", workers=None) == (200, "")
    assert (await cluster.ask(**pools))["gpu"]["wanted"] == 0
    status, said = await cluster.tell(pool="cpu", workers=2)
    assert status == 400
    assert "`af scale`" in said
    for wrong in (-1, "2", True, 1.5):
        assert (await cluster.tell(pool="gpu", workers=wrong))[0] == 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"pools": {"a": {"keeep": 1}}}', b'{"pools": {"a": 7}}', b'{"pools": 7}']
)
async def test_what_is_not_understood_is_refused(cluster: Cluster, body: bytes) -> None:
    async with cluster.http.post(cluster.url, data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


def _late(cluster: Cluster, message: str) -> Callable[..., Any]:
    handler = cluster.scheduler.stream_handlers[message]
    return lambda **said: asyncio.get_running_loop().call_later(0.5, lambda: handler(**said))


def _times_computed(cluster: Cluster, key: Any) -> int:
    story = cluster.scheduler.story(key)
    return sum(1 for each in story if each[1] == "processing" and each[2] == "memory")
