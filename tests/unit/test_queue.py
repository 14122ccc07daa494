"""The queue's guarantees, one test each."""

from __future__ import annotations

import asyncio

import pytest

from af_operator.model import Key
from af_operator.queue import MAX_BACKOFF, WorkQueue


def keys(namespace: str, *names: str) -> list[Key]:
    return [Key(namespace, n) for n in names]


async def drain(queue: WorkQueue) -> list[Key]:
    out = []
    while len(queue):
        key = await queue.get()
        out.append(key)
        queue.done(key)
    return out


async def test_a_key_waits_once() -> None:
    queue = WorkQueue()
    for _ in range(5):
        queue.add(Key("a", "x"))
    assert await drain(queue) == [Key("a", "x")]


async def test_namespaces_take_turns() -> None:
    queue = WorkQueue()
    for key in [*keys("crowd", "1", "2", "3", "4"), *keys("lone", "1")]:
        queue.add(key)
    assert (await drain(queue)).index(Key("lone", "1")) == 1


async def test_one_pass_per_session_at_a_time_and_again_if_added_meanwhile() -> None:
    queue = WorkQueue()
    key = Key("a", "x")
    queue.add(key)
    assert await queue.get() == key
    queue.add(key)
    assert len(queue) == 0
    queue.done(key)
    assert await drain(queue) == [key]


async def test_the_earliest_of_several_delays_counts() -> None:
    queue = WorkQueue()
    key = Key("a", "x")
    queue.add(key, 30)
    queue.add(key, 0.01)
    queue.add(key, 30)
    async with asyncio.timeout(1):
        assert await queue.get() == key


async def test_get_waits_for_work_and_wakes_one_worker_per_key() -> None:
    queue = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in keys("a", "x", "y", "z"):
        queue.add(key)
    async with asyncio.timeout(1):
        assert sorted(await asyncio.gather(*workers)) == keys("a", "x", "y", "z")


async def test_a_cancelled_worker_loses_no_key() -> None:
    queue = WorkQueue()
    cancelled, other = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    cancelled.cancel()
    queue.add(Key("a", "x"))
    async with asyncio.timeout(1):
        assert await other == Key("a", "x")


async def test_a_worker_cancelled_after_its_wakeup_passes_it_on() -> None:
    queue = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(Key("a", "x"))
    first.cancel()
    async with asyncio.timeout(1):
        assert await second == Key("a", "x")


async def test_backoff_grows_to_its_bound_and_is_forgotten_on_success() -> None:
    queue = WorkQueue()
    key = Key("a", "x")
    delays = [queue.failed(key) for _ in range(20)]
    assert delays[0] <= 0.5
    assert MAX_BACKOFF / 2 <= delays[-1] <= MAX_BACKOFF
    queue.succeeded(key)
    assert queue.failed(key) <= 0.5
    assert queue.failed(key, at_least=7) == pytest.approx(7)
    queue.add(key)
    assert await drain(queue) == [key]


async def test_what_has_changed_goes_before_what_is_only_looked_at_again() -> None:
    queue = WorkQueue()
    for number in range(3):
        queue.add(Key("many", f"s{number}"), later=True)
    queue.add(Key("other", "changed"))
    queue.add(Key("many", "s2"))  # was to come last, and has changed now
    queue.add(Key("many", "s2"), later=True)
    assert len(queue) == 4
    found = [await queue.get() for _ in range(4)]
    assert [key.name for key in found] == ["changed", "s2", "s0", "s1"]


async def test_faults_are_counted_beside_other_failures_until_a_pass_succeeds() -> None:
    queue, key = WorkQueue(), Key("a", "x")
    for fault, faults in ((True, 1), (False, 1), (True, 2)):
        queue.failed(key, fault=fault)
        assert queue.faults(key) == faults
    queue.succeeded(key)
    assert queue.faults(key) == 0
