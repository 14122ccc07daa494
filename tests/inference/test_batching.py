"""Requests are put together while a model is busy, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from af_inference.batching import Batcher
from af_inference.errors import Failed, Invalid, Problem, TooMany, Unavailable
from af_inference.settings import Limits
from af_inference.statistics import Statistics
from af_inference.tensors import Array, Arrays, Tensor

SECONDS = 20


@dataclass
class Held:
    """A model that counts its runs, and answers once it may: the sum of each row; a negative one breaks it."""

    name: str = "held"
    version: str = "1"
    platform: str = "test"
    provider: str = "test"
    parallel: int = 1
    inputs: Sequence[Tensor] = (Tensor("x", "FP32", (-1, -1)),)
    outputs: Sequence[Tensor] = (Tensor("y", "FP32", (-1,)),)
    rows: list[int] = field(default_factory=list)
    may: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
        x = feeds["x"]
        self.began.release()
        assert self.may.acquire(timeout=SECONDS)
        self.rows.append(len(x))
        if (x < 0).any():
            raise Failed("negative")
        return {name: x.sum(axis=1) for name in outputs}


class Bench:
    """A batcher before that model, which runs a first request until it is let go."""

    def __init__(self, limits: Limits | None = None, batched: bool = True) -> None:
        self.model, self.statistics = Held(), Statistics()
        self.batcher = Batcher(self.model, limits or Limits(), batched, self.statistics)

    def ask(self, *rows: Sequence[float]) -> asyncio.Task[dict[str, Array]]:
        return asyncio.create_task(self.batcher.ask({"x": np.array(rows, np.float32)}, ("y",)))

    async def busy(self) -> asyncio.Task[dict[str, Array]]:
        """Ask once, and return when the model is at it."""
        task = self.ask([0])
        await asyncio.sleep(0)
        assert await asyncio.to_thread(self.model.began.acquire, timeout=SECONDS)
        return task

    async def asked(self, *requests: Sequence[Sequence[float]]) -> list[asyncio.Task[dict[str, Array]]]:
        """Ask several times, and return when all are in the queue."""
        tasks = [self.ask(*rows) for rows in requests]
        await asyncio.sleep(0)
        return tasks

    def until(self, waiting: int) -> None:
        """Wait until so many requests are in the queue; in a thread."""
        end = time.monotonic() + SECONDS
        while self.batcher.waiting < waiting and time.monotonic() < end:
            time.sleep(0.001)
        assert self.batcher.waiting == waiting

    def go(self, runs: int) -> None:
        """Let the model answer so many runs."""
        self.model.may.release(runs)


async def answers(tasks: Sequence[asyncio.Task[dict[str, Array]]]) -> list[list[float] | type[BaseException]]:
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SECONDS)
    return [type(each) if isinstance(each, BaseException) else each["y"].tolist() for each in found]


async def test_what_came_while_the_model_was_busy_goes_together() -> None:
    bench = Bench()
    first = await bench.busy()
    others = await bench.asked([[1]], [[2], [3]], [[4]])
    assert bench.batcher.waiting == 3
    bench.go(2)
    assert await answers([first, *others]) == [[0], [1], [2, 3], [4]]
    assert bench.model.rows == [1, 4]
    assert (bench.statistics.rows, bench.statistics.runs, bench.statistics.success.count) == (5, 2, 4)
    assert bench.batcher.waiting == 0


async def test_other_shapes_go_apart_and_take_turns() -> None:
    bench = Bench(Limits(batch=2))
    first = await bench.busy()
    others = await bench.asked([[1]], [[2]], [[3]], [[1, 1]], [[5]])
    bench.go(10)
    assert await answers([first, *others]) == [[0], [1], [2], [3], [2], [5]]
    assert bench.model.rows == [1, 2, 1, 2]


async def test_no_run_has_more_rows_than_it_may_but_a_request_that_has_them_alone() -> None:
    bench = Bench(Limits(batch=3))
    first = await bench.busy()
    others = await bench.asked([[1], [1]], [[1], [1]], [[1]] * 5, [[1]])
    bench.go(10)
    await answers([first, *others])
    assert bench.model.rows == [1, 2, 2, 5, 1]


async def test_a_model_whose_rows_depend_on_each_other_is_asked_one_by_one() -> None:
    bench = Bench(batched=False)
    first = await bench.busy()
    others = await bench.asked([[1]], [[2]])
    bench.go(3)
    assert await answers([first, *others]) == [[0], [1], [2]]
    assert bench.model.rows == [1, 1, 1]


async def test_a_request_that_breaks_the_model_breaks_no_other() -> None:
    bench = Bench()
    first = await bench.busy()
    others = await bench.asked([[1]], [[-1]], [[3]])
    bench.go(5)
    assert await answers([first, *others]) == [[0], [1], Failed, [3]]
    assert bench.model.rows == [1, 3, 1, 1, 1]
    assert (bench.statistics.success.count, bench.statistics.fail.count) == (3, 1)


async def test_a_full_queue_says_so_at_once_and_takes_more_when_it_is_not() -> None:
    bench = Bench(Limits(queue=2))
    first = await bench.busy()
    others = await bench.asked([[1]], [[2]], [[3]])
    with pytest.raises(TooMany, match="2 requests wait"):
        await others[2]
    assert TooMany.retry_after == 1
    bench.go(2)
    assert await answers([first, *others[:2]]) == [[0], [1], [2]]
    last = await bench.asked([[4]])
    bench.go(1)
    assert await answers(last) == [[4]]


async def test_a_request_that_was_given_up_leaves_the_others() -> None:
    bench = Bench()
    first = await bench.busy()
    gone, stays = await bench.asked([[1]], [[2]])
    gone.cancel()
    bench.go(2)
    assert await answers([first, stays]) == [[0], [2]]


async def test_an_error_nobody_foresaw_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def run(*_: object) -> dict[str, Array]:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.model, "run", run)
    with pytest.raises(Failed, match="ZeroDivisionError"):
        await asyncio.wait_for(bench.ask([1]), SECONDS)
    monkeypatch.undo()
    bench.go(1)
    assert await answers([bench.ask([1])]) == [[1]]


async def test_an_answer_with_other_rows_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    first = await bench.busy()
    others = await bench.asked([[1]], [[2]])
    monkeypatch.setattr(bench.model, "run", lambda feeds, _: {"y": feeds["x"].sum(keepdims=True)[0]})
    bench.go(1)
    assert await answers([first, *others]) == [[0], [1], [2]]  # asked once more, one by one


async def test_threads_and_coroutines_wait_in_one_queue() -> None:
    bench = Bench()
    first = await bench.busy()
    others = await bench.asked([[1]])
    with ThreadPoolExecutor(2) as threads:
        asks = [threads.submit(bench.batcher.ask_in_thread, {"x": np.array([[n]], np.float32)}, ("y",)) for n in (2, 3)]
        await asyncio.to_thread(bench.until, 3)
        bench.go(2)
        assert await answers([first, *others]) == [[0], [1]]
        assert [ask.result(SECONDS)["y"].tolist() for ask in asks] == [[2], [3]]
    assert bench.model.rows == [1, 3]


async def test_a_thread_waits_no_longer_than_it_may_and_is_not_run_then() -> None:
    bench = Bench()
    first = await bench.busy()
    feeds = {"x": np.ones((1, 1), np.float32)}
    with pytest.raises(Unavailable, match="in the time that the client gave"):
        await asyncio.to_thread(bench.batcher.ask_in_thread, feeds, ("y",), 0.01)
    last = await bench.asked([[5]])
    bench.go(2)
    assert await answers([first, *last]) == [[0], [5]]
    assert bench.model.rows == [1, 1]


def test_a_thread_that_finds_the_model_idle_runs_it_itself() -> None:
    bench = Bench()
    bench.go(1)
    ran: list[int] = []
    real = bench.model.run

    def run(feeds: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
        ran.append(threading.get_ident())
        return real(feeds, outputs)

    bench.model.run = run  # type: ignore[method-assign]
    bench.batcher.ask_in_thread({"x": np.ones((1, 1), np.float32)}, ("y",))
    assert ran == [threading.get_ident()]


def test_problems_are_raised_as_they_are() -> None:
    bench = Bench()

    def run(*_: object) -> dict[str, Array]:
        raise Invalid("not so")

    bench.model.run = run  # type: ignore[method-assign]
    with pytest.raises(Problem, match="not so"):
        bench.batcher.ask_in_thread({"x": np.ones((1, 1), np.float32)}, ("y",))
