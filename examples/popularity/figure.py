"""The picture of the study: how popularity is ranked, week by week, and decided."""

from pathlib import Path
from typing import Any

import numpy as np
from features import POPULAR
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scores import curve

TITLES = {
    "logistic_regression": "Logistic regression",
    "random_forest": "Random forest",
    "gradient_boosted_trees": "Gradient-boosted trees",
    "last_week": "As last week",
    "always_popular": "All popular",
}
COLORS = dict(zip(TITLES, ("#4477aa", "#228833", "#ee6677", "#777777", "#bbbbbb"), strict=True))
CLASSIFIERS = tuple(TITLES)[:3]

Array = np.ndarray[Any, Any]


def draw(path: Path, numbers: dict[str, Any], predictions: dict[str, Array]) -> None:
    """Draw scores, and the curves that they come from."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    figure.suptitle(f"Which data sets will have more than {POPULAR} accesses next week?", weight="bold")
    panels = figure.subplots(1, 3, width_ratios=(1, 1.2, 1))
    draw_roc(panels[0], numbers["scores"], predictions)
    draw_weeks(panels[1], numbers)
    draw_decisions(panels[2], numbers["scores"])
    share, count = numbers["share_of_popular"], numbers["predictions"]
    titles = (
        f"{numbers['accesses'] / 1e6:g} million generated accesses",
        f"Learned from the {numbers['weeks_of_window']} weeks before each",
        f"{count:,} predictions, {share:.0%} are popular",
    )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_roc(axes: Axes, scores: dict[str, Any], predictions: dict[str, Array]) -> None:
    popular, before = predictions["popular"] == 1, predictions["accesses_before"]
    for name in CLASSIFIERS:
        label = f"{TITLES[name]}: {scores[name]['auc']:.3f}"
        axes.plot(*curve(predictions["popular"], predictions[name]), color=COLORS[name], label=label)
    number = f"Accesses last week: {scores['last_week_by_number']['auc']:.3f}"
    axes.plot(*curve(predictions["popular"], before), color=COLORS["last_week"], linestyle="--", label=number)
    # One decision is one point; its area is that of the two lines from it to the corners.
    point = np.mean(before[~popular] > POPULAR), np.mean(before[popular] > POPULAR)
    axes.plot(*point, "o", color=COLORS["last_week"], label=f"As last week: {scores['last_week']['auc']:.3f}")
    axes.plot((0, 1), (0, 1), color=COLORS["always_popular"], linewidth=1, label="All popular: 0.5")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="Share of the others that is taken for popular")
    axes.set(ylabel="Share of the popular that is found")
    axes.legend(framealpha=1, edgecolor="none", loc="lower right", title="Area under the curve (AUC)")


def draw_weeks(axes: Axes, numbers: dict[str, Any]) -> None:
    weeks = np.array(numbers["weeks"]) + 1
    for name in (*CLASSIFIERS, "last_week"):
        axes.plot(weeks, numbers["auc_by_week"][name], ".-", color=COLORS[name], label=TITLES[name])
    by_number = numbers["auc_by_week"]["last_week_by_number"]
    axes.plot(weeks, by_number, ".--", color=COLORS["last_week"], label="Accesses last week")
    study = numbers["study"]["auc"]
    axes.axhline(study, color="black", linestyle=":", label=f"CMS, on its own logs: {study}")
    axes.set(ylim=(0.7, 1), xlabel="Week of the year that is predicted", ylabel="AUC")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, loc="lower right", ncols=2, fontsize="small")


def draw_decisions(axes: Axes, scores: dict[str, Any]) -> None:
    rows = np.arange(len(TITLES))[::-1]
    for offset, what, alpha in ((0.2, "precision", 1.0), (-0.2, "recall", 0.55)):
        values = [scores[name][what] for name in TITLES]
        bars = axes.barh(rows + offset, values, 0.38, color=list(COLORS.values()), alpha=alpha)
        axes.bar_label(bars, [f"{value:.2f} {what}" for value in values], padding=3, fontsize="small")
    axes.set_yticks(rows, list(TITLES.values()))
    axes.set(xlim=(0, 1.3), xticks=(0, 0.5, 1), xlabel="Share that is right, share that is found")
