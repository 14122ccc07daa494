"""The popularity study as its user runs it, on a year of fewer accesses: scores, features and models that agree."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from local_cluster import facility as demo
from local_cluster.demo import user_environment
from local_cluster.settings import CHECKOUT
from tests.support.tenant import kubectl

EXAMPLE = CHECKOUT / "examples" / "popularity"
FILES = {"popularity.json", "popularity.png", "models.json", "features.parquet", "performance.json"}
SMALL = {"ROWS": 500_000, "DATASETS": 1_000, "WEEKS": 2}
CLASSIFIERS = ("logistic_regression", "random_forest", "gradient_boosted_trees")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def results(facility: demo.Facility, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the study leaves, of fewer accesses than it has by default."""
    folder = tmp_path_factory.mktemp("popularity")
    argv = [sys.executable, "-m", "af_client.cli", "run", str(EXAMPLE / "session.yaml"), "-o", str(folder)]
    names = ["ORIGIN", *SMALL]
    settings = [f"spec.env[{names.index(name)}].value='{value}'" for name, value in SMALL.items()]
    argv += ["--timeout", "840", *(word for setting in settings for word in ("--set", setting))]
    done = subprocess.run(
        argv, env=user_environment(facility), cwd=CHECKOUT, capture_output=True, text=True, timeout=850, check=False
    )
    try:
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder
    finally:
        for name in set(re.findall(r"popularity-\w{5}\b", done.stdout + done.stderr)):
            kubectl("-n", demo.TENANT, "delete", "analysissession", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="module")
def numbers(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / "popularity.json").read_text())
    return found


@pytest.fixture(scope="module")
def weekly() -> np.ndarray[Any, Any]:
    """Accesses by data set and week, as the generator says them here, without Spark and without files."""
    accesses = runpy.run_path(str(EXAMPLE / "accesses.py"))
    year = accesses["Year"](rows=SMALL["ROWS"], datasets=SMALL["DATASETS"])
    logs = (accesses["log_of"](year, week)["dataset"] for week in range(accesses["WEEKS"]))
    return np.array([np.bincount(log, minlength=year.datasets) for log in logs])


def test_all_files_are_there(results: Path) -> None:
    assert {path.name for path in results.iterdir()} >= FILES
    assert not list(results.glob("**/week-*.parquet")), "the logs can be made again"


def test_no_access_was_lost_on_the_way(numbers: dict[str, Any], weekly: np.ndarray[Any, Any]) -> None:
    """What the workers wrote, and read through the cache, and counted, is what the generator says here."""
    assert numbers["accesses"] == SMALL["ROWS"] == weekly.sum()
    assert numbers["rows_by_week"] == np.count_nonzero(weekly)


def test_the_workers_read_through_the_cache(results: Path) -> None:
    """A file has between five and six bytes for each access."""
    assert json.loads((results / "performance.json").read_text())["cache_bytes"] > 2 * SMALL["ROWS"]


def test_what_is_predicted_is_what_happened(numbers: dict[str, Any], weekly: np.ndarray[Any, Any]) -> None:
    """Of each week all data sets that were seen before it, and no other; popular by its own accesses."""
    weeks = range(52 - SMALL["WEEKS"], 52)
    assert numbers["weeks"] == list(weeks)
    known = [weekly[:week].any(axis=0) for week in weeks]
    popular = np.concatenate([weekly[week][seen] > 10 for week, seen in zip(weeks, known, strict=True)])
    before = np.concatenate([weekly[week - 1][seen] > 10 for week, seen in zip(weeks, known, strict=True)])
    assert numbers["predictions"] == len(popular)
    assert numbers["share_of_popular"] == pytest.approx(popular.mean(), abs=1e-4)
    precision, recall = popular[before].mean(), before[popular].mean()
    specificity = 1 - before[~popular].mean()
    assert numbers["scores"]["last_week"] == pytest.approx(
        {"auc": (recall + specificity) / 2, "precision": precision, "recall": recall}, abs=1e-4
    )
    assert numbers["scores"]["always_popular"] == pytest.approx(
        {"auc": 0.5, "precision": popular.mean(), "recall": 1}, abs=1e-4
    )


def test_classifiers_know_more_than_last_week(numbers: dict[str, Any]) -> None:
    found = numbers["scores"]
    print({name: scores["auc"] for name, scores in found.items()}, "CMS:", numbers["study"]["auc"])
    assert numbers["study"]["auc"] == 0.96
    for name in CLASSIFIERS:
        assert found[name]["auc"] > found["last_week"]["auc"] + 0.05
        assert found[name]["auc"] > found["last_week_by_number"]["auc"]
        assert found[name]["auc"] > 0.9
    best = found[numbers["best"]]
    assert best["auc"] == max(found[name]["auc"] for name in CLASSIFIERS)
    assert best["precision"] > found["last_week"]["precision"]


def test_models_can_be_used_without_spark(results: Path) -> None:
    """That they give Spark's answers the run itself has seen; here, that their numbers are enough, and make sense."""
    said = json.loads((results / "models.json").read_text())
    assert set(said["models"]) == set(CLASSIFIERS)
    names = said["features"]
    probability = runpy.run_path(str(EXAMPLE / "models.py"))["probability"]
    quiet, busy = np.zeros(len(names)), np.array([5.0 if "_1" in n or "_2" in n or "_4" in n else 0.0 for n in names])
    for model in said["models"].values():
        low, high = probability(model, np.array([quiet, busy]))
        assert 0 <= low < 0.2
        assert 0.5 < high <= 1


def test_the_picture_shows_something(results: Path) -> None:
    pixels = imread(results / "popularity.png")
    assert pixels.shape[:2] == (720, 1950)
    assert 0.02 < float((pixels[..., :3] < 0.9).any(axis=-1).mean()) < 0.6, "part of it is ink"
