"""Holds results, and tasks, over the deaths of workers; run anew for each command, in the scheduler's pod.

It writes what it found as its last line, in JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

from dask.distributed import Client, Event, SchedulerPlugin

HELD = 60
TOO_MUCH = 8 * 2**30
"""Bytes, more than a worker may have."""


class Count(SchedulerPlugin):
    """How often each task came to a result."""

    name = "count"
    idempotent = True

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def transition(self, key: str, start: str, finish: str, *_: object, **__: object) -> None:
        if (start, finish) == ("processing", "memory"):
            self.done[key] += 1


def square(number: int) -> tuple[int, bytes]:
    time.sleep(0.02)  # long enough for each worker to get some
    return number**2, bytes(10_000)


def fatal(number: int, way: str) -> int:
    """End the worker, but only the first time."""
    again = Event(way)
    if again.is_set():
        return number
    again.set()
    if way == "too much memory":
        return len(b"x" * TOO_MUCH)
    os.kill(os.getppid(), signal.SIGKILL)  # the nanny, and so its container
    time.sleep(60)
    return -1


def endless(number: int) -> int:
    Event("end").wait()
    return number


def hold(client: Client) -> dict[str, Any]:
    """Hold results; return the worker that has most of them, and those that others have."""
    client.wait_for_workers(2, timeout=60)
    client.register_plugin(Count())
    held = client.map(square, range(HELD), pure=False)
    client.gather(held)
    client.publish_dataset(held=held, override=True)
    has = {names(client)[address]: set(keys) for address, keys in client.has_what().items()}
    victim = max(has, key=lambda name: len(has[name]))
    return {"victim": victim, "kept": sorted(set().union(*(has[name] for name in has if name != victim)))}


def check(client: Client) -> dict[str, Any]:
    """Return whether the held results are right, and which of them were computed again."""
    held = client.get_dataset("held")
    right = [number for number, _ in client.gather(held)] == [n**2 for n in range(HELD)]
    counts = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["count"].done)
    return {"right": right, "again": sorted(future.key for future in held if counts[future.key] > 1)}


def die(client: Client, victim: str, way: str) -> int:
    """Have a task end its worker; return its result, when it has run anew."""
    task = client.submit(fatal, 7, way, workers=[victim], allow_other_workers=True, pure=False)
    return int(task.result(timeout=120))


def workers(client: Client, number: str) -> list[str]:
    """Return the names of the workers, once there are so many."""
    client.wait_for_workers(int(number), timeout=60)
    return sorted(names(client).values())


def begin_without_end(client: Client) -> None:
    """Run two tasks until `end`; that one worker dies while it runs them is enough to have failed."""
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    client.publish_dataset(endless=client.map(endless, range(2), pure=False))
    running(client, "2")


def running(client: Client, number: str) -> list[int]:
    """Return how many deaths each of the tasks is blamed for, once so many of them run at a time."""
    tasks, end = client.get_dataset("endless"), time.monotonic() + 60
    while sum(client.run(lambda dask_worker: len(dask_worker.state.executing)).values()) < int(number):
        failed = [task.exception() for task in tasks if task.status == "error"]
        assert not failed, failed
        assert time.monotonic() < end, client.processing()
        time.sleep(0.3)
    keys = [task.key for task in tasks]
    return list(client.run_on_scheduler(lambda dask_scheduler: [dask_scheduler.tasks[k].suspicious for k in keys]))


def end(client: Client) -> list[int]:
    """Let the tasks end; return their results."""
    Event("end").set()
    return list(client.gather(client.get_dataset("endless")))


def names(client: Client) -> dict[str, str]:
    return {address: str(each["id"]) for address, each in client.scheduler_info()["workers"].items()}


if __name__ == "__main__":
    COMMANDS = (hold, check, die, workers, begin_without_end, running, end)
    with Client("tls://localhost:8786") as scheduler:
        found = {each.__name__: each for each in COMMANDS}[sys.argv[1]](scheduler, *sys.argv[2:])
    print(json.dumps(found))
