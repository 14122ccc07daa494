"""What came of the study: scores, models and a picture."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from classifiers import CLASSIFIERS
from features import NAMES, POPULAR
from figure import draw
from models import Model, probability
from scores import Scores, scores

CMS = {"auc": 0.96, "what": "CMS with Spark's ML library, on its own logs"}
LAST_WEEK, BY_NUMBER, ALWAYS = "last_week", "last_week_by_number", "always_popular"
SAME = 1e-9

Array = np.ndarray[Any, Any]
Predictions = dict[str, Array]


def judged(predictions: Predictions) -> dict[str, Scores]:
    """Return the scores of the classifiers, and of the ways that need none.

    `last_week`: popular is what was popular last week. `last_week_by_number` decides the same, and ranks by the number
    of last week's accesses. `always_popular`: all are.
    """
    popular, before = predictions["popular"], predictions["accesses_before"]
    always = np.ones(len(popular), dtype=bool)
    ways = {name: (predictions[name], predictions[name] > 0.5) for name in CLASSIFIERS}
    ways |= {
        LAST_WEEK: (before > POPULAR, before > POPULAR),
        BY_NUMBER: (before, before > POPULAR),
        ALWAYS: (always, always),
    }
    return {name: scores(popular, ranks, decided) for name, (ranks, decided) in ways.items()}


def line(predictions: Predictions) -> str:
    """Return the AUC of all ways in a line of the log."""
    return ", ".join(f"{name} {found.auc:.3f}" for name, found in judged(predictions).items() if name != ALWAYS)


def of_week(predictions: Predictions, week: int) -> Predictions:
    """Return the predictions of one week."""
    chosen = predictions["week"] == week
    return {name: values[chosen] for name, values in predictions.items()}


def write_scores(results: Path, about: dict[str, Any], predictions: Predictions) -> None:
    """Write ``popularity.json`` and ``popularity.png``."""
    found = judged(predictions)
    weeks = np.unique(predictions["week"])
    by_week = [
        judged({name: values[predictions["week"] == week] for name, values in predictions.items()}) for week in weeks
    ]
    best = max(CLASSIFIERS, key=lambda name: found[name].auc)
    numbers = about | {
        "popular": f"more than {POPULAR} accesses in the week",
        "weeks": weeks.tolist(),
        "predictions": len(predictions["popular"]),
        "share_of_popular": round(float(np.mean(predictions["popular"])), 4),
        "scores": {name: each.rounded() for name, each in found.items()},
        "auc_by_week": {name: [round(week[name].auc, 4) for week in by_week] for name in found},
        "best": best,
        "study": CMS,
    }
    (results / "popularity.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(results / "popularity.png", numbers, predictions)
    print(
        f"best: {best}, AUC {found[best].auc:.3f}; last week {found[LAST_WEEK].auc:.3f}; CMS {CMS['auc']}", flush=True
    )


def write_models(results: Path, models: dict[str, Model], predictions: Predictions) -> None:
    """Write the last week's models as plain numbers, once they have given the answers that Spark gave."""
    last = of_week(predictions, predictions["week"].max())
    week = int(last["week"][0])
    table = pq.read_table(results / "features.parquet", filters=[("week", "=", week)]).sort_by("dataset")
    inputs = np.column_stack([table.column(name).to_numpy() for name in NAMES])
    for name, model in models.items():
        theirs = last[name][np.argsort(last["dataset"])]
        if not np.max(np.abs(probability(model, inputs) - theirs)) < SAME:
            sys.exit(f"{name} gives other answers from its numbers than Spark does: models.json would be wrong")
    body = {"features": NAMES, "learned_before_week": week, "models": models}
    (results / "models.json").write_text(json.dumps(body) + "\n")
