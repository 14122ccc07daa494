"""Which pairs of muons come from a Z? Two models learn it on the session's Dask, and its model service is asked.

A Keras network and XGBoost's trees are trained on two workers at the same time, and pushed to the service. Then every
pair is scored in four ways: by the models themselves, by the service as Dask's workers ask it, as Spark's do, and as
coffea's wrapper of Triton's client does. All have to give the same numbers.

Models see the momenta and angles of two muons, and not their mass. It is the mass alone that tells a Z from a virtual
photon here, so no model can be better than its likelihood ratio: how near a model comes is how well it has found it.

    python classify.py pairs.py training.py asking.py with_coffea.py report.py figure.py

Environment
-----------
DATASET
    Directory of the input, a ``root://`` URL.
FILES
    Number of generated files to read; all 4 if not set.
AF_RESULTS
    Directory for ``classify.json``, ``classify.png`` and ``probabilities.parquet``; ``./results`` if not set.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import asking
import numpy as np
import pairs
import report
import training
from dask.distributed import Client, Future, wait
from pyspark.sql import DataFrame, SparkSession
from with_coffea import Probability

from af_client.models import Models

DATASET = os.environ.get("DATASET", "root://origin.af-storage.svc.cluster.local:1094//data/").rstrip("/")
URLS = [f"{DATASET}/nano-{number}.root" for number in range(int(os.environ.get("FILES", "4")))]
SHARES = len(URLS) * pairs.SHARES
TASKS = 4  # of Spark: one takes longer to begin than to read a share

Array = np.ndarray[Any, Any]
Way = Callable[[str], Array]
"""A model's name -> how likely each pair is a Z, by the numbers of the events: (n,)."""


def main() -> None:
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    with Client() as dask, SparkSession.builder.appName("classify").getOrCreate() as spark:
        with clock.step("pairs read on Dask"):
            parts = dask.map(partial(pairs.read, URLS), range(SHARES))
            everything = pairs.joined(dask.gather(parts))
        with clock.step("pairs read on Spark"):
            table = spark_table(spark)
        with clock.step("models trained on Dask"):
            sample = dask.submit(pairs.for_training, parts)
            models = {name: dask.submit(fit, sample) for name, fit in training.MODELS.items()}
            wait(list(models.values()))
        with clock.step("models pushed"):
            pushed = {name: dask.submit(asking.push, name, model, sample) for name, model in models.items()}
            versions = dask.gather(pushed)
        answers = {}
        for name, way in ways(dask, parts, models, versions, table).items():
            with clock.step(f"pairs scored: {name}"):
                answers[name] = {model: timed(way, model) for model in models}
    report.write(results, everything, answers, clock.seconds)


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


def spark_table(spark: SparkSession) -> DataFrame:
    """Return the pairs as a table, kept by Spark's workers, which have read them."""
    shares = spark.range(0, SHARES, 1, TASKS)
    table = shares.mapInArrow(partial(asking.read_in_spark, URLS), asking.TABLE).cache()
    table.count()
    return table


def ways(
    dask: Client, parts: list[Future], models: dict[str, Future], versions: dict[str, str], table: DataFrame
) -> dict[str, Way]:
    """Return the ways in which models can be asked; the first is the one that needs no service."""
    features = dask.map(attrgetter("features"), parts)
    wrappers = {name: Probability(name, version) for name, version in versions.items()}

    def on_dask(function: Callable[..., Array], **arguments: Any) -> Array:
        # Not pure: when it is asked again, it is to be computed again.
        return np.concatenate(dask.gather(dask.map(function, features, pure=False, **arguments)))

    def on_spark(model: str) -> Array:
        answers = table.mapInArrow(partial(asking.ask_in_spark, model), asking.ANSWERS).toArrow()
        return answers.sort_by("event")["probability"].to_numpy()

    return {
        report.DIRECT: lambda name: on_dask(training.predict, trained=models[name]),
        "client on Dask": lambda name: on_dask(asking.by_client, models=Models(), model=name),
        "coffea on Dask": lambda name: on_dask(asking.by_coffea, wrapper=wrappers[name]),
        "client on Spark": on_spark,
    }


def timed(way: Way, model: str) -> tuple[Array, float]:
    """Ask twice; return the answer, and the seconds of the second time: in the first, libraries are loaded."""
    way(model)
    start = time.monotonic()
    answer = way(model)
    return answer, time.monotonic() - start


if __name__ == "__main__":
    main()
