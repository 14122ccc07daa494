"""Runs inside a session with Dask and Spark: counts accesses by week and data set in four ways, and takes the time."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import accesses
import features
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from dask.distributed import Client
from pyspark.sql import SparkSession

ROUNDS = int(os.environ["ROUNDS"])
YEAR = accesses.Year(rows=int(os.environ["ROWS"]), datasets=int(os.environ["DATASETS"]))
WORKERS = 2
COUNTED = "week int, dataset string, accesses long, users long, cpu_seconds long"
NAMES = ["week", "dataset", "accesses", "users", "cpu_seconds"]


def counted(url: str) -> pa.Table:
    """Count one file, which is one week, on one core."""
    pa.set_cpu_count(1)
    with fsspec.open(url, "rb") as file:
        table = pq.read_table(file, columns=["day", "dataset", "user", "cpu_seconds"], use_threads=False)
    week = pa.array([table.column("day")[0].as_py() // accesses.DAYS] * table.num_rows, pa.int32())
    table = table.set_column(0, "week", week).set_column(1, "dataset", table.column("dataset").cast(pa.string()))
    sums = [([], "count_all"), ("user", "count_distinct"), ("cpu_seconds", "sum")]
    return table.group_by(["week", "dataset"], use_threads=False).aggregate(sums).rename_columns(NAMES)


def counted_here(folder: str, batches: Iterable[Any]) -> Iterator[Any]:
    """Count the weeks whose numbers are in these batches. Runs on one of Spark's workers."""
    for week in accesses.weeks_of(batches):
        yield from counted(accesses.file_of(folder, week)).to_batches()


class Ways:
    """The same table, made by each of them: all files through the session's cache."""

    def __init__(self, client: Client, spark: SparkSession, folder: str) -> None:
        self._client, self._spark, self._folder = client, spark, folder
        self._urls = [accesses.file_of(folder, week) for week in range(accesses.WEEKS)]

    def one_core(self) -> pa.Table:
        return pa.concat_tables(map(counted, self._urls))

    def dask(self) -> pa.Table:
        return pa.concat_tables(self._client.gather(self._client.map(counted, self._urls, pure=False)))

    def spark(self) -> pa.Table:
        return weeks(self._spark).mapInArrow(partial(counted_here, self._folder), COUNTED).toArrow()

    def spark_sql(self) -> pa.Table:
        rows = weeks(self._spark).mapInArrow(partial(accesses.read, self._folder), accesses.COLUMNS)
        rows.createOrReplaceTempView("accesses")
        return self._spark.sql(features.WEEKLY).select(*NAMES).toArrow()


def weeks(spark: SparkSession) -> Any:
    """Return the numbers of all weeks, in a few parts for each worker, as the study does."""
    return spark.range(0, accesses.WEEKS, 1, 4 * WORKERS)


def main() -> None:
    results, direct = Path(os.environ["AF_RESULTS"]), os.environ["AF_RESULTS_URL"] + "/logs"
    storage, path = fsspec.core.url_to_fs(direct)
    storage.makedirs(path, exist_ok=True)
    with Client() as client, SparkSession.builder.getOrCreate() as spark:
        client.wait_for_workers(WORKERS)
        client.upload_file("accesses.py")
        spark.conf.set("spark.sql.shuffle.partitions", WORKERS)
        spark.addArtifacts("accesses.py", pyfile=True)
        weeks(spark).mapInArrow(partial(accesses.write, YEAR, direct), "week long, rows long").collect()
        print(f"{YEAR.rows:,} accesses written", flush=True)
        ways = Ways(client, spark, f"root://{os.environ['ORIGIN']}/{path}/")
        found = measured(
            {"one core": ways.one_core, "Dask": ways.dask, "Spark": ways.spark, "Spark SQL": ways.spark_sql}
        )
    storage.rm(path, recursive=True)
    (results / "popularity.json").write_text(json.dumps(found) + "\n")


def measured(ways: dict[str, Callable[[], pa.Table]]) -> dict[str, Any]:
    """Let each way count in turn: once for what is loaded and cached once, then as often as asked."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tables: list[pa.Table] = []
    for turn in range(ROUNDS + 1):
        for name, count in ways.items():
            start = time.monotonic()
            table = count()
            seconds[name].append(round(time.monotonic() - start, 3))
            tables = [*tables[:1], in_order(table)]
            if not tables[0].equals(tables[-1]):
                raise SystemExit(f"{name} counts otherwise than one core")
            print(f"turn {turn}: {name} {seconds[name][-1]} s", flush=True)
    total = sum(tables[0].column("accesses").to_pylist())
    times = {name: {"first": found[0], "then": found[1:]} for name, found in seconds.items()}
    return {"accesses": total, "rows": tables[0].num_rows, "workers": WORKERS, "seconds": times}


def in_order(table: pa.Table) -> pa.Table:
    """Return the table as it can be compared."""
    types = pa.schema(list(zip(NAMES, [pa.int32(), pa.string(), *[pa.int64()] * 3], strict=True)))
    return (
        pa.table({name: table.column(name).cast(types.field(name).type) for name in NAMES})
        .sort_by([("week", "ascending"), ("dataset", "ascending")])
        .combine_chunks()
    )


if __name__ == "__main__":
    main()
