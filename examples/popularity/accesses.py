"""A year of accesses to data sets as a computing system logs them, generated week by week.

A week is a file, and a file follows from the year's seed and the number of the week alone: it has the same rows
whoever makes it, beside however many others.

What real logs have, these have: few data sets get most of the accesses; new ones are in demand at once, and fade; most
die; now and then an old one is read again; people work from Monday to Friday, less in August, hardly at the year's end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

WEEKS, DAYS = 52, 7
TIERS = ("USER", "AODSIM", "MINIAODSIM", "AOD", "MINIAOD")
TIER_SHARES = (0.50, 0.31, 0.09, 0.08, 0.02)
LIFETIMES = np.array([6.0, 18.0, 24.0, 30.0, 35.0])  # weeks in which demand falls to 1/e, by tier
CAMPAIGNS = ("Summer12", "Run2012", "Phys14", "Spring15", "Run2015")
SITES = ("hep.wisc.edu", "fnal.gov", "datagrid.cea.fr", "jinr-t1.ru", "lnl.infn.it", "desy.de")
SITE_SHARES = (0.40, 0.25, 0.10, 0.09, 0.08, 0.08)
WEEKDAYS = np.array([1.0, 1.1, 1.1, 1.05, 0.9, 0.35, 0.3])  # from Monday on
USERS = 2_000
BEFORE = 78  # weeks: how old the oldest data sets are when the year begins
RELEASES = 13  # weeks from one to the next: four data sets in ten come with one, all at once
CATALOGUE, LOG = 0, 1  # streams of random numbers
READ = ("day", "dataset", "tier", "user", "cpu_seconds")
"""The columns of a file that a study of popularity needs."""
COLUMNS = "week int, dataset string, tier string, user int, cpu_seconds long"
"""What `read` makes of them, as Spark says it."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Year:
    """What a year of logs follows from."""

    seed: int = 2015
    rows: int = 5_000_000
    datasets: int = 4_000


@dataclass(frozen=True)
class Catalogue:
    """All data sets of a year; `tiers` and `campaigns` are indices."""

    names: Array
    tiers: Array
    campaigns: Array
    demand: Array
    """Of each data set in each week, in no unit."""
    communities: Array
    """How many people work with each."""


@lru_cache(maxsize=1)
def catalogue(year: Year) -> Catalogue:
    """Return the data sets of a year."""
    random, count = np.random.default_rng([year.seed, CATALOGUE]), year.datasets
    tiers = random.choice(len(TIERS), count, p=TIER_SHARES)
    born = random.integers(-BEFORE, WEEKS, count)
    born = np.where(random.random(count) < 0.4, born // RELEASES * RELEASES, born)
    campaigns = np.clip((born + BEFORE) * len(CAMPAIGNS) // (BEFORE + WEEKS), 0, len(CAMPAIGNS) - 1)
    names = [f"/DS{number:05d}/{CAMPAIGNS[campaigns[number]]}/{TIERS[tiers[number]]}" for number in range(count)]
    weights = np.minimum(0.1 + random.pareto(1.0, count), 60)
    demand = weights[:, np.newaxis] * _lives(random, born, LIFETIMES[tiers])
    return Catalogue(np.array(names), tiers, campaigns, demand, np.minimum(1 + 4 * weights, 100))


def _lives(random: np.random.Generator, born: Array, lifetimes: Array) -> Array:
    """Return how much each data set is in demand in each week, by its weight."""
    shape = len(born), WEEKS
    ages = np.arange(WEEKS) - born[:, np.newaxis]
    fresh = np.exp(-ages / lifetimes[:, np.newaxis]) * (1 + 4 * np.exp(-np.maximum(ages, 0) / 2))
    begun = random.random(shape) < 0.004
    again = sum(np.pad(begun, ((0, 0), (later, 0)))[:, :WEEKS] * 0.5**later for later in range(4))
    alive = (ages >= 0) & (ages < random.exponential(4 * lifetimes)[:, np.newaxis])
    # Nobody works on one thing every week.
    idle = random.random(shape) > random.beta(3, 1, len(born))[:, np.newaxis]
    demand = np.where(alive, fresh, 0) * np.where(idle, 0.03, 1) + np.where(ages >= 0, again, 0)
    return demand * np.exp(_moods(random, shape))


def _moods(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return what is left to chance: the weeks of one data set resemble each other."""
    steps = random.normal(0, 0.35, shape)
    for week in range(1, WEEKS):
        steps[:, week] += 0.8 * steps[:, week - 1]
    return steps


def seasons() -> Array:
    """Return how much is computed in each week, in no unit."""
    busy = 1 + 0.15 * np.sin(2 * np.pi * np.arange(WEEKS) / 26)  # before the conferences of winter and summer
    busy[31:34] *= 0.7
    busy[[0, 51]] *= 0.4
    return busy


def rows_of(year: Year, week: int) -> int:
    """Return the number of accesses in a week; those of all weeks add up to the year's."""
    ends = np.rint(year.rows * np.cumsum(seasons()) / np.sum(seasons())).astype(int)
    return int(ends[week] - (ends[week - 1] if week else 0))


def log_of(year: Year, week: int) -> dict[str, Array]:
    """Return the accesses of one week by columns, in the order of days; what has names is an index."""
    random, known = np.random.default_rng([year.seed, LOG, week]), catalogue(year)
    demand = known.demand[:, week]
    number = np.repeat(np.arange(year.datasets), random.multinomial(rows_of(year, week), demand / demand.sum()))
    day = random.choice(DAYS, len(number), p=WEEKDAYS / WEEKDAYS.sum())
    order = np.argsort(day, kind="stable")
    number, day = number[order], day[order]
    colleague = random.exponential(known.communities[number] / 3).astype(int)
    return {
        "day": (week * DAYS + day).astype(np.int16),
        "dataset": number.astype(np.int32),
        "tier": known.tiers[number].astype(np.int8),
        "campaign": known.campaigns[number].astype(np.int8),
        "site": random.choice(len(SITES), len(number), p=SITE_SHARES).astype(np.int8),
        "user": ((number * 37 + colleague) % USERS).astype(np.int16),
        "cpu_seconds": (1 + random.lognormal(6.5, 1.2, len(number))).astype(np.int32),
    }


def table_of(year: Year, week: int) -> Any:
    """Return the accesses of one week as an Arrow table, with names."""
    import pyarrow as pa  # noqa: PLC0415 - the rest needs NumPy only

    names = {"dataset": catalogue(year).names, "tier": TIERS, "campaign": CAMPAIGNS, "site": SITES}
    columns = {
        name: pa.DictionaryArray.from_arrays(values, pa.array(names[name])) if name in names else pa.array(values)
        for name, values in log_of(year, week).items()
    }
    return pa.table(columns)


def file_of(folder: str, week: int) -> str:
    """Return where the accesses of a week are."""
    return f"{folder.rstrip('/')}/week-{week:02d}.parquet"


def write(year: Year, folder: str, batches: Iterable[Any]) -> Iterator[Any]:
    """Write the weeks whose numbers are in these batches, and say how many rows each has. Runs on a worker."""
    import fsspec  # noqa: PLC0415 - as in table_of
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    for week in weeks_of(batches):
        table = table_of(year, week)
        with fsspec.open(file_of(folder, week), "wb") as file:
            pq.write_table(table, file, compression="zstd")
        yield pa.RecordBatch.from_pydict({"week": pa.array([week]), "rows": pa.array([table.num_rows])})


def read(folder: str, batches: Iterable[Any]) -> Iterator[Any]:
    """Read the weeks whose numbers are in these batches. Runs on a worker."""
    import fsspec  # noqa: PLC0415 - as in table_of
    import pyarrow.parquet as pq  # noqa: PLC0415

    for week in weeks_of(batches):
        with fsspec.open(file_of(folder, week), "rb") as file:
            for part in pq.ParquetFile(file).iter_batches(columns=list(READ)):
                yield with_week(part)


def weeks_of(batches: Iterable[Any]) -> Iterator[int]:
    """Yield the numbers of weeks, as Spark's `range` has them."""
    for batch in batches:
        yield from batch.column("id").to_pylist()


def with_week(part: Any) -> Any:
    """Return rows as an engine groups them: the week in the place of the day, and words in the place of indices."""
    import pyarrow as pa  # noqa: PLC0415 - as in table_of
    import pyarrow.compute as pc  # noqa: PLC0415

    columns = {
        "week": pc.divide(part.column("day"), DAYS).cast(pa.int32()),
        "dataset": part.column("dataset").cast(pa.string()),
        "tier": part.column("tier").cast(pa.string()),
        "user": part.column("user").cast(pa.int32()),
        "cpu_seconds": part.column("cpu_seconds").cast(pa.int64()),
    }
    return pa.RecordBatch.from_pydict(columns)
