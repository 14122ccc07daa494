"""A year of opens of single files, made of the generated log of the popularity example."""

from __future__ import annotations

import runpy
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from local_cluster.settings import CHECKOUT

EXAMPLE = CHECKOUT / "examples/popularity"
ACCESSES, STUDY = (runpy.run_path(str(EXAMPLE / f"{name}.py")) for name in ("accesses", "features"))
WEEK, WEEKS = 7 * 86400.0, int(ACCESSES["WEEKS"])
FILES, TIMES, SIZES = 2, 3, 4  # streams of random numbers, after the example's own
MEDIAN_FILES, MOST_FILES = 40, 2000
MEDIAN_BYTES = 2e9
STRIDE = 2_654_435_761  # Knuth's: where a user begins, spread over the files of a data set

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Log:
    """Opens in the order of time. Times are in seconds, sizes in bytes; files and data sets are numbers."""

    files: Array
    datasets: Array
    times: Array
    sizes: Array
    """Of each file, by its number."""
    first_files: Array
    """Number of the first file of each data set, and of none after the last."""
    names: Array
    """Of the data sets."""
    weekly: dict[str, Array]
    """The same log by columns, as the study reads it: week, dataset, tier, user, cpu_seconds."""

    def paths(self) -> Iterator[str]:
        """Yield the path of each open."""
        for file, dataset in zip(self.files.tolist(), self.datasets.tolist(), strict=True):
            yield f"/store{self.names[dataset]}/{file - self.first_files[dataset]:04d}.root"

    def week(self, number: int) -> int:
        """Return the first open of a week."""
        return int(np.searchsorted(self.times, number * WEEK))

    @cached_property
    def bytes(self) -> Array:
        """Size of what each open opens."""
        return np.asarray(self.sizes[self.files])

    @cached_property
    def following(self) -> Array:
        """Number of the next open of the same file; the length of the log where there is none."""
        found = np.full(len(self.files), len(self.files))
        order = np.argsort(self.files, kind="stable")
        same = self.files[order][1:] == self.files[order][:-1]
        found[order[:-1][same]] = order[1:][same]
        return found


def generate(seed: int, rows: int, datasets: int) -> Log:
    """Return a year in which each access of the example's log is the open of one file.

    A data set has 40 files in the median, of 2 GB. Who works on one reads its files one after the other, from one on
    that differs from user to user, and after the last one the first again.
    """
    year = ACCESSES["Year"](seed, rows, datasets)
    columns = [ACCESSES["log_of"](year, week) for week in range(WEEKS)]
    log = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    streams = [np.random.default_rng([seed, stream]) for stream in (FILES, TIMES, SIZES)]
    counts = np.clip(np.rint(streams[0].lognormal(np.log(MEDIAN_FILES), 0.8, datasets)), 1, MOST_FILES).astype(int)
    times = log["day"] * 86400.0 + streams[1].random(rows) * 86400
    order = np.argsort(times, kind="stable")
    log, times = {name: values[order] for name, values in log.items()}, times[order]
    worker = log["dataset"].astype(np.int64) * int(ACCESSES["USERS"]) + log["user"]
    of_dataset = counts[log["dataset"]]
    first_files = np.concatenate([[0], np.cumsum(counts)])
    return Log(
        files=first_files[log["dataset"]] + (worker * STRIDE + _earlier(worker)) % of_dataset,
        datasets=log["dataset"],
        times=times,
        sizes=streams[2].lognormal(np.log(MEDIAN_BYTES), 0.6, int(first_files[-1])),
        first_files=first_files,
        names=ACCESSES["catalogue"](year).names,
        weekly=log | {"week": (times // WEEK).astype(int)},
    )


def _earlier(keys: Array) -> Array:
    """Return how often each key has stood before in the sequence."""
    order = np.argsort(keys, kind="stable")
    begins = np.concatenate([[True], keys[order][1:] != keys[order][:-1]])
    place = np.arange(len(keys))
    found = np.empty(len(keys), dtype=np.int64)
    found[order] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return found


@dataclass(frozen=True)
class Weekly:
    """The table of the popularity study: a row for each data set and week, with what was known before the week."""

    weeks: Array
    datasets: Array
    rows: Array
    popular: Array
    """Whether the data set was popular in that week, as the study has it."""


def study(log: Log) -> Weekly:
    """Return the study's own features, by its own SQL."""
    tiers = ACCESSES["TIERS"]
    keys = zip(log.weekly["week"].tolist(), log.datasets.tolist(), log.weekly["tier"].tolist(), strict=True)
    counts, users, cpu = Counter[Any](), dict[Any, set[int]](), Counter[Any]()
    for key, user, seconds in zip(keys, log.weekly["user"].tolist(), log.weekly["cpu_seconds"].tolist(), strict=True):
        counts[key] += 1
        users.setdefault(key, set()).add(user)
        cpu[key] += seconds
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE weekly (week, dataset, tier, accesses, users, cpu_seconds)")
        rows = (
            (week, dataset, tiers[tier], n, len(users[key]), cpu[key])
            for key, n in counts.items()
            for week, dataset, tier in [key]
        )
        database.executemany("INSERT INTO weekly VALUES (?, ?, ?, ?, ?, ?)", rows)
        names = ("week", "dataset", "popular", *STUDY["NAMES"])
        found = np.array(database.execute(f"SELECT {', '.join(names)} FROM ({STUDY['FEATURES']})").fetchall())  # noqa: S608 - nothing comes from outside
    database.close()
    return Weekly(found[:, 0].astype(int), found[:, 1].astype(int), found[:, 3:].astype(np.float32), found[:, 2] == 1)
