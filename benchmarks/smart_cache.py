"""A year of opens, replayed through caches that ask a model, keep everything, or know the future.

Nothing here needs a cluster: files are whole, and so is their way into a cache. That the cache of a session does with
them what is replayed here is tested on the cluster (`tests/e2e/test_smart_cache.py`).
"""

from __future__ import annotations

import dataclasses
import runpy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import numpy as np
from af_decision.history import FEATURES
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import _tables
from benchmarks._access_log import WEEKS, Log, Weekly, generate, study
from benchmarks._replay import Span, belady, bound, lru, ppc
from benchmarks._tables import HERE, Numbers
from local_cluster.settings import CHECKOUT

BEGIN, END = "<!-- numbers: written by benchmarks.smart_cache -->", "<!-- end of the numbers -->"
LEARN = runpy.run_path(str(CHECKOUT / "examples/smart_cache/learn.py"))
LEARNED, FILLED, TESTED = 20, 14, 26
"""Weeks. Learned from is what was known when week 20 began; thresholds are chosen in weeks 20 to 25; what counts are
the weeks from 26 on. Each cache is empty when week 14 begins."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Of the bytes of all files opened in the weeks that count: the sizes of the caches."""
THRESHOLDS = tuple(percent / 100 for percent in range(0, 100, 5))
FIXED = {"model, 20 %": 0.2, "model, 50 %": 0.5}
"""The first is that of a session that says nothing."""
COUNTS = tuple(float(np.log1p(count)) for count in (0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80))
ALWAYS, SECOND, RULE, MODEL = "always", "second open", "data set rule", "model"
PPC, PPC100, BELADY, BOUND = "PPC", "PPC100", "Belady", "bound"
PAPER = {
    "what": "V. Kuznetsov et al., Progress on Machine and Deep Learning applications in CMS Computing (ISGC 2018)",
    "auc": 0.96,
    "max_hit_rate": {
        "datagrid.cea.fr": 0.55, "desy.de": 0.71, "fnal.gov": 0.84,
        "hep.wisc.edu": 0.52, "jinr-t1.ru": 0.67, "lnl.infn.it": 0.72,
    },
}  # fmt: skip

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Deciders:
    """What each way to decide knows of each open, from what was before it."""

    probability: Array
    """That the file is opened again within a week, says the model."""
    opened_before: Array
    of_dataset: Array
    """How often files of the same data set were opened in the last week: the logarithm of the decayed count."""
    predicted: Mapping[int, frozenset[int]]
    popular: Mapping[int, frozenset[int]]
    auc: float
    auc_of_datasets: float


def deciders(log: Log) -> Deciders:
    """Learn from the first weeks, and return what is said of all."""
    rows = LEARN["features"](zip(log.times.tolist(), log.paths(), strict=True))
    used = LEARN["until_next"](log.times, log.files) <= LEARN["HORIZON"]
    known, tested = LEARN["known"](log.times, log.times[log.week(LEARNED)]), slice(log.week(TESTED), None)
    probability = LEARN["learn"](rows[known], used[known]).predict_proba(rows)[:, 1]
    weekly = study(log)
    datasets = _weekly_probability(weekly)
    counted = weekly.weeks >= TESTED
    return Deciders(
        probability=probability,
        opened_before=rows[:, FEATURES.index("file_accesses_91d")] > 0,
        of_dataset=rows[:, FEATURES.index("dataset_accesses_7d")],
        predicted=_by_week(weekly, datasets >= 0.5),
        popular=_by_week(weekly, weekly.popular),
        auc=auc(used[tested], probability[tested]),
        auc_of_datasets=auc(weekly.popular[counted], datasets[counted]),
    )


def auc(labels: Array, ranks: Array) -> float:
    """Return the area under the ROC curve, as the popularity example has it."""
    return float(runpy.run_path(str(CHECKOUT / "examples/popularity/scores.py"))["auc"](labels.astype(int), ranks))


def _weekly_probability(weekly: Weekly) -> Array:
    past = weekly.weeks < LEARNED
    found = LEARN["learn"](weekly.rows[past], weekly.popular[past]).predict_proba(weekly.rows)[:, 1]
    return np.asarray(found)


def _by_week(weekly: Weekly, chosen: Array) -> dict[int, frozenset[int]]:
    found = {week: frozenset(weekly.datasets[chosen & (weekly.weeks == week)].tolist()) for week in range(WEEKS)}
    return {week: frozenset(map(int, datasets)) for week, datasets in found.items()}


def chosen(log: Log, capacity: float, ranks: Array, thresholds: tuple[float, ...]) -> float:
    """Return the threshold with the fewest bytes from the origin in the weeks before those that count."""
    span = Span(log.week(FILLED), log.week(LEARNED), log.week(TESTED))
    return min(thresholds, key=lambda threshold: lru(log, span, capacity, ranks >= threshold).from_origin)


def replay(log: Log, known: Deciders, capacity: float) -> dict[str, Any]:
    """Return what came of each way in a cache of this size, and the thresholds that were chosen for it."""
    span = Span(log.week(FILLED), log.week(TESTED), len(log.files))
    threshold = chosen(log, capacity, known.probability, THRESHOLDS)
    count = chosen(log, capacity, known.of_dataset, COUNTS)
    let_in = {
        ALWAYS: np.ones(len(log.files), dtype=bool),
        SECOND: known.opened_before,
        RULE: known.of_dataset >= count,
        MODEL: known.probability >= threshold,
    } | {name: known.probability >= fixed for name, fixed in FIXED.items()}
    scores = {name: lru(log, span, capacity, admitted) for name, admitted in let_in.items()} | {
        PPC: ppc(log, span, capacity, known.predicted),
        PPC100: ppc(log, span, capacity, known.popular),
        BELADY: belady(log, span, capacity),
        BOUND: bound(log, span, capacity),
    }
    return {
        "capacity": capacity,
        "threshold": threshold,
        "data_set_opens": round(float(np.expm1(count))),
        "scores": {name: dataclasses.asdict(score) for name, score in scores.items()},
    }


def about(log: Log, known: Deciders) -> dict[str, Any]:
    """Return what was replayed, in numbers."""
    tested = slice(log.week(TESTED), None)
    files = np.unique(log.files[tested])
    return {
        "opens": len(log.files),
        "opens_counted": len(log.files[tested]),
        "files_counted": len(files),
        "bytes_of_files": float(log.sizes[files].sum()),
        "max_hit_rate": 1 - len(files) / len(log.files[tested]),
        "auc": known.auc,
        "auc_of_datasets": known.auc_of_datasets,
        "paper": PAPER,
    }


def tables(found: Mapping[str, Any]) -> Iterator[Numbers]:
    """Yield the tables: a row for each way, a column for each size."""
    sizes = [f"{share:.0%}" for share in SHARES]
    parts = (
        ("Hit rate, by the size of the cache", lambda s, _: f"{s['hit_rate']:.3f}"),
        (
            "Bytes from the origin, by those with `always`",
            lambda s, base: f"{s['from_origin'] / base['from_origin']:.2f}",
        ),
        ("Bytes written to the cache, by those with `always`", lambda s, base: _share(s["written"], base["written"])),
    )
    for title, cell in parts:
        rows = []
        for name in found["sizes"][0]["scores"]:
            cells = [cell(each["scores"][name], each["scores"][ALWAYS]) for each in found["sizes"]]
            rows.append((name, *cells))
        yield Numbers(title, ("way", *sizes), tuple(rows))
    chosen_ones = [
        ("model: least probability", *(f"{each['threshold']:.2f}" for each in found["sizes"])),
        ("data set rule: opens in a week", *(str(each["data_set_opens"]) for each in found["sizes"])),
    ]
    yield Numbers("What was chosen in the weeks before", ("", *sizes), tuple(chosen_ones))


def _share(one: float, other: float) -> str:
    return "–" if np.isnan(one) else f"{one / other:.2f}"  # noqa: RUF001


def in_words(found: Mapping[str, Any]) -> str:
    """Return what was replayed, as a sentence."""
    sites, size = found["paper"]["max_hit_rate"].values(), f"{found['bytes_of_files'] / 1e12:.0f} TB"
    parts = (
        f"{found['opens_counted']:,} opens of {found['files_counted']:,} files count, {size};",
        f"a cache without limits hits {found['max_hit_rate']:.2f} of them (at the papers' sites",
        f"{min(sites)} to {max(sites)}). AUC of the model, file by file: {found['auc']:.3f}; of the study's features,",
        f"as PPC uses them, data set by data set: {found['auc_of_datasets']:.3f} (CMS: {found['paper']['auc']}).\n",
    )
    return " ".join(parts)


def draw(found: Mapping[str, Any]) -> Figure:
    """Return the picture: hit rates and bytes from the origin over the size of the cache."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in found["sizes"][0]["scores"]:
        scores = [each["scores"][name] for each in found["sizes"]]
        style = "--" if name in (BELADY, BOUND, PPC100) else "-"
        left.plot(SHARES, [score["hit_rate"] for score in scores], style, marker=".", label=name)
        right.plot(SHARES, [score["from_origin"] / 1e12 for score in scores], style, marker=".")
    left.set(xscale="log", xlabel="size of the cache / bytes of all files", ylabel="hit rate")
    right.set(xscale="log", xlabel="size of the cache / bytes of all files", ylabel="TB from the origin")
    left.legend(fontsize="small")
    return figure


@click.command()
@click.option("--seed", default=2015, show_default=True)
@click.option("--rows", default=300_000, show_default=True, help="Opens in the year.")
@click.option("--datasets", default=4_000, show_default=True)
@click.option("--write/--no-write", default=True, help="Write smart_cache.json, .png and the numbers of README.md.")
def main(seed: int, rows: int, datasets: int, write: bool) -> None:
    """Replay a year, and print the ways side by side."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    log = generate(seed, rows, datasets)
    known = deciders(log)
    found = about(log, known)
    found["sizes"] = [replay(log, known, share * found["bytes_of_files"]) for share in SHARES]
    _tables.show(console, tables(found))
    console.print(in_words(found))
    if write:
        date = f"{datetime.now(UTC):%Y-%m-%d}"
        _tables.write_json(HERE / "smart_cache.json", {"date": date, "seed": seed} | found)
        draw(found).savefig(HERE / "smart_cache.png", dpi=150)
        _tables.put_between(BEGIN, END, f"{date}, seed {seed}. {in_words(found)}" + _tables.markdown(tables(found)))


if __name__ == "__main__":
    main()
