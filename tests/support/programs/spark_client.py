"""Drives a session's Spark as a notebook's kernel does: it is told what to do line by line, and answers in lines.

Both are JSON: ``["count_slowly", 8, 5]`` asks for a function with its arguments, ``{"answer": 36}`` is what it says.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import uproot
from pyspark import TaskContext
from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import DataFrame, SparkSession

PACKAGES = ("awkward", "numpy", "pandas", "pyarrow", "pyspark", "uproot")
HELD: list[DataFrame] = []
"""A table that is cached in the executors."""


def spark() -> SparkSession:
    return SparkSession.builder.getOrCreate()


def connect() -> str:
    """Connect without arguments, and compute something; return the kind of session that it is."""
    assert spark().range(1000).selectExpr("sum(id)").first()[0] == 499_500
    return type(spark()).__module__


def stop() -> None:
    """Let go of the session, as one must whose server was lost."""
    spark().stop()


def versions() -> list[dict[str, str]]:
    """Return the versions of what is installed, here and where UDFs run."""

    def there(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"versions": [json.dumps(installed()) for _ in batches][:1]})

    return [installed(), json.loads(spark().range(0, 1, 1, 1).mapInArrow(there, "versions string").first()[0])]


def installed() -> dict[str, str]:
    python = ".".join(map(str, sys.version_info[:3]))
    return {name: version(name) for name in PACKAGES} | {"python": python}


def masses(url: str, tasks: int) -> list[Any]:
    """Return how many events there are, and their mean mass, read by the workers through what they read through."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                with uproot.open(f"{url}:events") as tree:
                    size = tree.num_entries
                    piece = {"entry_start": number * size // tasks, "entry_stop": (number + 1) * size // tasks}
                    mass = tree["M"].array(library="np", **piece)
                proxy = [os.environ.get("XROOT_PROXY", "")] * len(mass)
                yield pa.RecordBatch.from_pydict({"M": mass, "proxy": proxy})

    found = spark().range(0, tasks, 1, tasks).mapInArrow(read, "M double, proxy string")
    return list(found.selectExpr("count(M)", "avg(M)", "max(proxy)").first())


def count_slowly(tasks: int, seconds: float) -> int:
    """Add up numbers in tasks that take so long each; a shuffle is part of it."""

    def wait(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(seconds)
        yield from batches

    numbers = spark().range(0, tasks * 100, 1, tasks).mapInArrow(wait, "id long")
    groups = numbers.selectExpr("id % 10 as last", "id").groupBy("last").sum("id").collect()
    assert len(groups) == 10
    return int(sum(group[1] for group in groups))


def hold(parts: int) -> list[str]:
    """Cache a table of which each part knows when it was made; return what `held` would."""

    def mark(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        made = uuid.uuid4().hex
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"id": batch["id"], "made": [made] * len(batch)})

    HELD[:] = [spark().range(0, parts * 1000, 1, parts).mapInArrow(mark, "id long, made string").cache()]
    return held()


def held() -> list[str]:
    """Check the table; return the marks of its parts: one that is computed anew gets another mark."""
    rows = HELD[0].groupBy("made").agg({"id": "count"}).collect()
    assert sum(row[1] for row in rows) == HELD[0].selectExpr("max(id)").first()[0] + 1
    return sorted(row[0] for row in rows)


def gpu_addresses() -> list[str]:
    """Return the addresses of the GPU that a task which asks for one is told of."""

    def there(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        gpus = TaskContext.get().resources()["gpu"].addresses
        yield from (pa.RecordBatch.from_pydict({"gpu": gpus}) for _ in batches)

    executor = ExecutorResourceRequests().cores(1).memory("512m").resource("gpu", 1)
    task = TaskResourceRequests().cpus(1).resource("gpu", 1)
    profile = ResourceProfileBuilder().require(executor).require(task).build
    rows = spark().range(0, 1, 1, 1).mapInArrow(there, "gpu string", profile=profile).collect()
    return [row[0] for row in rows]


if __name__ == "__main__":
    COMMANDS = (connect, stop, versions, masses, count_slowly, hold, held, gpu_addresses)
    known = {each.__name__: each for each in COMMANDS}
    for line in sys.stdin:
        name, *values = json.loads(line)
        try:
            said = {"answer": known[name](*values)}  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 -- whoever asked is told
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)
