"""Holds results while a stream of others is computed, and says at the end whether one was lost or computed again.

It runs until there is a file `stop`; a file `width` says how many tasks of the stream are under way at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from dask.distributed import Client, SchedulerPlugin, as_completed

HELD = 500
CALM = 4
SECONDS = 0.25
"""What a task of the stream takes."""


class Count(SchedulerPlugin):
    """How often each task came to a result."""

    name = "count"

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def transition(self, key: str, start: str, finish: str, *_: object, **__: object) -> None:
        if (start, finish) == ("processing", "memory"):
            self.done[key] += 1


def square(number: int) -> tuple[int, bytes]:
    return number**2, bytes(20_000)


def slow(number: int) -> tuple[int, int]:
    time.sleep(SECONDS)
    return number, number + 1


def width() -> int:
    """Return how many tasks should be under way."""
    if Path("stop").exists():
        return 0
    return int(Path("width").read_text()) if Path("width").exists() else CALM


def stream(client: Client) -> tuple[int, float]:
    """Compute and check results until it is stopped; return their number, and the longest wait for one in s."""
    flow, sent, pause, last = as_completed(with_results=True), 0, 0.0, time.monotonic()
    waiting: set[int] = set()
    while True:
        numbers = range(sent, sent + max(0, width() - len(waiting)))
        sent = numbers.stop
        waiting.update(numbers)
        if not waiting:
            return sent, pause
        if numbers:
            flow.update(client.map(slow, numbers, pure=False))
        for _, (number, result) in flow.next_batch():
            assert result == number + 1, "a result of the stream is wrong"
            waiting.remove(number)  # each comes once
        pause, last = max(pause, time.monotonic() - last), time.monotonic()


def main() -> None:
    with Client() as client:
        client.wait_for_workers(1)
        client.register_plugin(Count())
        held = client.map(square, range(HELD), pure=False, key="held")
        client.gather(held)
        print("held", len(held), flush=True)
        streamed, pause = stream(client)
        results = client.gather(held)
        assert [number for number, _ in results] == [n**2 for n in range(HELD)], "a held result is wrong"
        counts = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["count"].done)
        assert all(counts[future.key] for future in held), "a held result was not counted"
        again = [key for key, number in counts.items() if number > 1]
        print(f"streamed {streamed} again {len(again)} longest pause {pause:.1f} s", flush=True)
        if again:
            story = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.story(again[0]))
            print(*story, sep="\n", flush=True)
        assert not again, "results were computed again"


if __name__ == "__main__":
    main()
