"""One analysis in several dialects, and what they share: input, cuts, bins, and how an answer is timed and left.

Two muons of opposite charge: the spectrum of their mass and its Z peak in generated NanoAOD-like events, and Z → μμ in
CMS open data. A dialect says how that is computed, and nothing else.

Counts are equal bin by bin because everything is computed in double precision. The generated muons are stored in
single, so each dialect widens them first: in single E² - p² cancels, masses are wrong by up to 4 MeV, and a pair or two
change bins. In double the dialects still differ, by up to 10⁻¹¹ GeV, for each has its own formula, and its own library
rounds sin and cosh. No mass in these files is nearer to an edge of a bin than 10⁻⁹ GeV, which `plain.py` checks.

Environment
-----------
DATASET
    Directory of the input, a ``root://`` URL or a local path.
FILES
    Number of generated files to read; all 4 if not set.
AF_RESULTS
    Directory for ``<dialect>.json`` and ``<dialect>.png``; ``./results`` if not set.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

DATASET = os.environ.get("DATASET", "root://origin.af-storage.svc.cluster.local:1094//data/").rstrip("/")
GENERATED = [f"{DATASET}/nano-{number}.root" for number in range(int(os.environ.get("FILES", "4")))]  # tree Events
CMS = f"{DATASET}/uproot-Zmumu.root"  # tree events
MIN_PT, MAX_ETA = 10, 2.4  # GeV, pseudorapidity: of the generated muons
BINS = {  # number, and from where to where, GeV
    "spectrum": (120, 0, 120),
    "z_peak": (60, 76, 106),
    "zmumu": (60, 60, 120),
}
TASKS_PER_FILE = 4
DIALECTS = ("plain", "coffea", "dask-awkward", "RDataFrame", "Spark")
WARM_PASSES = 3

Counts = Mapping[str, Any]  # name of a histogram -> its counts, without what is outside
Analysis = Callable[[], Counts]


def measure(dialect: str, zmumu: Analysis, generated: Analysis, workers: Callable[[], int], versions: str) -> None:
    """Compute all histograms, the generated ones again and again, and leave the answer, its times, and what it ran on.

    Z → μμ comes first: it is small, and whatever an engine loads and starts for its first job it does here. The first
    pass over the generated files then finds nothing of them in the cache, and the passes after it find everything.
    """
    found, start = timed(zmumu)
    passes = [timed(generated) for _ in range(1 + WARM_PASSES)]
    if any(answer != passes[0][0] for answer, _ in passes):
        sys.exit("Two passes differ: the result depends on how the work is split.")
    cold, *warm = (seconds for _, seconds in passes)
    seconds = {"start": start, "cold": cold, "warm": statistics.median(warm)}
    about = {"dialect": dialect, "seconds": seconds, "workers": workers(), "versions": versions}
    leave(about, {**passes[0][0], **found})


def timed(analysis: Analysis) -> tuple[dict[str, list[int]], float]:
    """Return counts as integers, and the seconds that they took."""
    begin = time.monotonic()
    counts = {name: [int(count) for count in values] for name, values in analysis().items()}
    return counts, round(time.monotonic() - begin, 3)


def leave(about: dict[str, Any], counts: dict[str, list[int]]) -> None:
    """Write ``<dialect>.json`` and ``<dialect>.png``."""
    results = Path(os.environ.get("AF_RESULTS", "results"))
    results.mkdir(parents=True, exist_ok=True)
    histograms = {name: {"edges": edges(name).tolist(), "counts": counts[name]} for name in BINS}
    (results / f"{about['dialect']}.json").write_text(json.dumps({**about, "histograms": histograms}, indent=2) + "\n")
    draw(about["dialect"], histograms).savefig(results / f"{about['dialect']}.png", dpi=150)
    print(json.dumps(about))


def edges(name: str) -> np.ndarray:
    """Return the edges of a histogram's bins [GeV]."""
    bins, low, high = BINS[name]
    return np.linspace(low, high, bins + 1)


def versions(*packages: str) -> str:
    """Return what it ran on, in words."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def draw(title: str, histograms: Mapping[str, Any]) -> Figure:
    """Draw the three histograms side by side: counts with their Poisson errors."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    labels = {"spectrum": "Generated events", "z_peak": "Generated events, Z", "zmumu": "CMS Open Data, 7 TeV"}
    for axes, (name, label) in zip(figure.subplots(1, 3), labels.items(), strict=True):
        edges, counts = (np.asarray(histograms[name][what]) for what in ("edges", "counts"))
        width = edges[1] - edges[0]
        axes.stairs(counts, edges, fill=True, color="#5790fc", alpha=0.35)
        axes.errorbar(edges[:-1] + width / 2, counts, np.sqrt(counts), width / 2, "k.", elinewidth=1, markersize=2)
        axes.set(xlim=(edges[0], edges[-1]), xlabel=r"$m_{\mu^+\mu^-}$ [GeV]", ylabel=f"Muon pairs / {width:g} GeV")
        axes.set_title(label, loc="left")
        axes.set_title(f"{counts.sum():,} pairs", loc="right")
        axes.tick_params(direction="in", which="both", top=True, right=True)
    figure.axes[0].set(yscale="log", ylim=(0.5, None))
    figure.suptitle(title)
    return figure


def draw_times(answers: Mapping[str, Any]) -> Figure:
    """Draw how long each dialect took for the generated events, as a multiple of what one core of plain uproot took."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    unit = answers["plain"]["seconds"]["warm"]
    kinds = (("cold", "first pass, cold cache", "#5790fc"), ("warm", "later passes, warm cache", "#f89c20"))
    for shift, (name, label, colour) in enumerate(kinds):
        times = [answer["seconds"][name] / unit for answer in answers.values()]
        bars = axes.barh(np.arange(len(times)) + 0.38 * shift, times, 0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    on = ("one core" if name == "plain" else f"{answer['workers']} workers" for name, answer in answers.items())
    names = [f"{name}\n{where}" for name, where in zip(answers, on, strict=True)]
    axes.set_yticks(np.arange(len(names)) + 0.19, names)
    axes.set_xlabel(f"time / time of one core of plain uproot ({unit:.2f} s)")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.legend(frameon=False)
    return figure
