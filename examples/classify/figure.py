"""The picture: how well a Z is told from a photon, what that does to the spectrum, and how fast each way is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pairs import Pairs
from sklearn.metrics import roc_curve

TITLES = {"zmumu_network": "Network (Keras)", "zmumu_trees": "Trees (XGBoost)", "mass": "Mass: as good as can be"}
COLOURS = dict(zip(TITLES, ("#5790fc", "#f89c20", "#777777"), strict=True))
MASSES = np.linspace(20, 140, 121)  # GeV
KEPT = 0.9  # of the Z

Array = np.ndarray[Any, Any]


def draw(path: Path, tested: Pairs, scores: Mapping[str, Array], numbers: Mapping[str, Any]) -> None:
    """Draw ROC curves, spectra and rates."""
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    roc, spectrum, rates = figure.subplots(1, 3, width_ratios=(1, 1.2, 1))
    draw_roc(roc, tested, scores, numbers["auc"])
    draw_spectrum(spectrum, tested, scores["zmumu_network"])
    draw_rates(rates, numbers["pairs_per_second"])
    for axes in (roc, spectrum, rates):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_roc(axes: Axes, tested: Pairs, scores: Mapping[str, Array], auc: Mapping[str, float]) -> None:
    for name, score in scores.items():
        false, true, _ = roc_curve(tested.is_z, score)
        style = "--" if name == "mass" else "-"
        axes.plot(false, true, style, color=COLOURS[name], label=f"{TITLES[name]}: {auc[name]:.3f}")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="Share of photons that is taken for a Z")
    axes.set(ylabel="Share of Z that is found", title=f"{len(tested.event):,} pairs")
    axes.legend(frameon=False, loc="lower right", title="Area under the curve (AUC)")


def draw_spectrum(axes: Axes, tested: Pairs, score: Array) -> None:
    kept = score >= np.quantile(score[tested.is_z], 1 - KEPT)
    masses = [tested.mass[~tested.is_z], tested.mass[tested.is_z]]
    axes.hist(masses, MASSES, stacked=True, color=("#bbbbbb", "#a8c4fb"), label=("photons", "Z"))
    axes.hist(tested.mass[kept], MASSES, histtype="step", color="black", label=f"taken by the network: {KEPT:.0%} of Z")
    axes.set(yscale="log", xlim=MASSES[[0, -1]], xlabel=r"$m_{\mu^+\mu^-}$ [GeV]", ylabel="Pairs / GeV")
    axes.set(title="The network has never seen the mass")
    axes.set_ylim(0.5, 30 * axes.get_ylim()[1])  # room for the words
    axes.legend(frameon=False, loc="upper left")


def draw_rates(axes: Axes, rates: Mapping[str, Mapping[str, int]]) -> None:
    rows = np.arange(len(rates))
    for shift, model in ((-0.2, "zmumu_network"), (0.2, "zmumu_trees")):
        values = [each[model] / 1e6 for each in rates.values()]
        bars = axes.barh(rows + shift, values, 0.38, color=COLOURS[model], label=TITLES[model])
        axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_yticks(rows, list(rates))
    axes.set(xlabel="Million pairs per second", title="How it is asked")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.legend(frameon=False)
