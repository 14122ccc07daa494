"""Which data sets will be popular next week? The study of CMS, on generated logs, with Spark.

Spark's workers write a year of accesses as Parquet, read it again, and make features of it week by week. A window of
six months rolls over the year: three classifiers learn from it, and say of the week that follows which data sets will
be accessed more than ten times. They are compared with two ways that need no classifier.

    python popularity.py accesses.py features.py …      # the modules that Spark's workers are to have

Environment
-----------
ROWS, DATASETS, SEED
    Of the logs; 5 000 000, 4 000 and 2015 if not set.
WEEKS
    How many weeks to predict, at the end of the year; 13 if not set.
AF_RESULTS_URL
    Where the logs are while it runs; ``./logs`` if not set, for which the workers must be on this machine.
ORIGIN
    Host of that storage by the name under which the session's cache knows it: the logs are then read through the cache.
AF_RESULTS
    Directory for ``popularity.json``, ``popularity.png``, ``models.json``, ``features.parquet`` and
    ``performance.json``; ``./results`` if not set.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import accesses
import classifiers
import features
import fsspec
import numpy as np
import pyarrow.parquet as pq
import report
from pyspark.sql import DataFrame, SparkSession

YEAR = accesses.Year(
    seed=int(os.environ.get("SEED", "2015")),
    rows=int(os.environ.get("ROWS", "5000000")),
    datasets=int(os.environ.get("DATASETS", "4000")),
)
WINDOW = 26  # weeks: six months, the working point of the study
PREDICTED = int(os.environ.get("WEEKS", "13"))
PARTITIONS = 2  # as many as the session has workers
KEPT = ["week", "dataset", "popular", "accesses_before"]

Array = np.ndarray[Any, Any]
Predictions = dict[str, Array]


def main() -> None:
    if not 0 < PREDICTED <= accesses.WEEKS - WINDOW:
        sys.exit(f"WEEKS={PREDICTED}: the year has {accesses.WEEKS - WINDOW} weeks after the first six months")
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    # Stopped whatever happens: a model that outlives its session asks the server to forget it, for ever.
    with SparkSession.builder.appName("popularity").getOrCreate() as spark:
        # Spark's default, 200, is for tables a thousand times as large.
        spark.conf.set("spark.sql.shuffle.partitions", PARTITIONS)
        spark.addArtifacts(*sys.argv[1:], pyfile=True)
        with logs() as folder:
            study(spark, folder, results, clock)
    performance = {"seconds": clock.seconds, "cache_bytes": cache_bytes()}
    (results / "performance.json").write_text(json.dumps(performance, indent=2) + "\n")


def study(spark: SparkSession, folder: str, results: Path, clock: "Clock") -> None:
    with clock.step("logs written"):
        written = write(spark, folder)
    with clock.step("logs read and counted by week"):
        weekly = count(spark, folder)
    with clock.step("features made"):
        table = prepare(spark, results / "features.parquet")
    with clock.step("weeks predicted"):
        models, predictions = roll(table)
    with clock.step("results written"):
        report.write_models(results, models, predictions)
        about = {"seed": YEAR.seed, "accesses": written, "rows_by_week": weekly, "weeks_of_window": WINDOW}
        report.write_scores(results, about, predictions)


class Clock:
    """Says what has been done, and how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)


@contextmanager
def logs() -> Iterator[str]:
    """Make a folder for the logs, and remove it if all went well: they can be generated again.

    Not before the end: what a lost worker had made of them is made again.
    """
    folder = os.environ.get("AF_RESULTS_URL", str(Path.cwd())).rstrip("/") + "/logs"
    storage, path = fsspec.core.url_to_fs(folder)
    storage.makedirs(path, exist_ok=True)
    yield folder
    storage.rm(path, recursive=True)


def write(spark: SparkSession, folder: str) -> int:
    """Let the workers write the logs, a file for each week; return the number of accesses."""
    written = weeks(spark).mapInArrow(partial(accesses.write, YEAR, folder), "week long, rows long").toArrow()
    rows = sum(written.column("rows").to_pylist())
    if rows != YEAR.rows:
        sys.exit(f"{rows} accesses are in {folder}, not {YEAR.rows}")
    print(f"{rows:,} accesses to {YEAR.datasets:,} data sets in {accesses.WEEKS} files", flush=True)
    return rows


def count(spark: SparkSession, folder: str) -> int:
    """Let the workers read the logs, and count by data set and week; return the number of rows."""
    rows = weeks(spark).mapInArrow(partial(accesses.read, through_cache(folder)), accesses.COLUMNS)
    rows.createOrReplaceTempView("accesses")
    weekly = spark.sql(features.WEEKLY).repartition(PARTITIONS, "dataset").cache()
    weekly.createOrReplaceTempView("weekly")
    return weekly.count()


def weeks(spark: SparkSession) -> DataFrame:
    """Return the numbers of all weeks, in a few parts for each worker: a task takes longer to begin than a file."""
    return spark.range(0, accesses.WEEKS, 1, 4 * PARTITIONS)


def through_cache(url: str) -> str:
    """Return the URL by the name under which the session's cache knows the storage."""
    origin = os.environ.get("ORIGIN")
    return re.sub(r"^root://[^/]+", f"root://{origin}", url) if origin else url


def cache_bytes() -> int:
    """Return how many bytes the session's cache has sent; 0 where there is none."""
    if not (proxy := os.environ.get("XROOT_PROXY")):
        return 0
    from XRootD.client import FileSystem  # noqa: PLC0415 - only where there is a cache
    from XRootD.client.flags import QueryCode  # noqa: PLC0415

    status, answer = FileSystem(proxy).query(QueryCode.STATS, "l", timeout=10)
    sent = re.search(rb"<out>(\d+)</out>", answer) if status.ok else None
    if sent is None:
        sys.exit(f"The cache at {proxy} does not say what it has sent: {status.message}")
    return int(sent[1])


def prepare(spark: SparkSession, path: Path) -> DataFrame:
    """Make the features of each data set in each week, and keep a copy."""
    # Sorted, or the trees' random samples would depend on which part came first.
    table = spark.sql(features.FEATURES).repartition(PARTITIONS, "dataset").sortWithinPartitions("dataset", "week")
    table = classifiers.with_vectors(table, features.NAMES).cache()
    copy = table.drop(classifiers.VECTOR).toArrow()
    pq.write_table(copy, path, compression="zstd")
    print(f"{copy.num_rows:,} rows of {len(features.NAMES)} features", flush=True)
    return table


def roll(table: DataFrame) -> tuple[dict[str, Any], Predictions]:
    """Roll the window over the year; return the models of its last place as numbers, and all predictions."""
    parts: list[Predictions] = []
    for week in range(accesses.WEEKS - PREDICTED, accesses.WEEKS):
        past = table.where(f"week >= {week - WINDOW} AND week < {week}")
        models = {name: kind.fit(past) for name, kind in classifiers.classifiers().items()}
        parts.append(classifiers.predict(models, table.where(f"week = {week}"), KEPT))
        print(f"week {week + 1} of {accesses.WEEKS}: {report.line(parts[-1])}", flush=True)
    numbers = classifiers.as_numbers(models, past)
    return numbers, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    main()
