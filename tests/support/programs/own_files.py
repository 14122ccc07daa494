"""A run's own files: on Dask's scheduler and workers, also one that comes later, and on Spark's; prints JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cuts
from dask.distributed import Client
from pyspark.sql import SparkSession, functions

from af_client.here import session

CHANGED = "def square(x):\n    return x * x + 1\n"


def beside(_: int = 0) -> str:
    """Return what a task finds: a module, and a data file where it begins."""
    return f"{cuts.square(3)} {json.loads(Path('cuts.json').read_text())['pt']}"


def on_dask() -> dict[str, Any]:
    """Return what Dask's processes find, before and after a worker has come and files have changed."""
    with Client() as client:
        found = {
            "sum": sum(client.gather(client.map(cuts.square, range(10)))),
            "scheduler": client.run_on_scheduler(beside),
        }
        session.scale("dask/cpu", 2)
        client.wait_for_workers(2, timeout=120)
        found["workers"] = list(client.run(beside).values())
        Path("cuts.json").write_text('{"pt": 30}')
        session.upload("cuts.json")
        found["uploaded"] = list(client.run(beside).values())
    Path("cuts.py").write_text(CHANGED)
    with Client() as client:
        found["changed"] = list(client.run(beside).values())
    return found


def on_spark() -> str:
    """Return what a function of Spark's finds."""
    spark = SparkSession.builder.getOrCreate()
    found = spark.range(1).select(functions.udf(beside, "string")("id")).first()
    return str(found[0])


def main() -> None:
    """Print all of it."""
    print(json.dumps({"spark": on_spark(), **on_dask()}))


if __name__ == "__main__":
    main()
