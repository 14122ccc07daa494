"""What the popularity study is made of, without Spark: its logs, its features, its scores, its models as numbers."""

from __future__ import annotations

import math
import runpy
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "popularity"
ACCESSES, FEATURES, MODELS, SCORES = (
    runpy.run_path(str(EXAMPLE / f"{name}.py")) for name in ("accesses", "features", "models", "scores")
)
YEAR = ACCESSES["Year"](seed=7, rows=400_000, datasets=400)
WEEKS = ACCESSES["WEEKS"]
Log = dict[str, "np.ndarray[Any, Any]"]


@pytest.fixture(scope="module")
def year() -> list[Log]:
    return [ACCESSES["log_of"](YEAR, week) for week in range(WEEKS)]


def column(year: list[Log], name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([log[name] for log in year])


def test_a_week_is_the_same_whoever_makes_it_and_beside_what(year: list[Log]) -> None:
    """Made last to first, by another process that has made nothing before, and twice."""
    another = runpy.run_path(str(EXAMPLE / "accesses.py"))
    again = another["Year"](seed=7, rows=400_000, datasets=400)
    for week in (51, 30, 0, 30):
        found = another["log_of"](again, week)
        assert found.keys() == year[week].keys()
        assert all(np.array_equal(found[name], year[week][name]) for name in found)
    other_seed = another["log_of"](another["Year"](seed=8, rows=400_000, datasets=400), 30)
    assert not np.array_equal(other_seed["dataset"], year[30]["dataset"])


def test_no_access_is_lost_and_each_is_in_its_week(year: list[Log]) -> None:
    assert sum(len(log["day"]) for log in year) == YEAR.rows
    for week, log in enumerate(year):
        assert set(log["day"] // 7) == {week}
        assert np.all(np.diff(log["day"]) >= 0)


def test_few_data_sets_have_most_accesses(year: list[Log]) -> None:
    by_dataset = np.sort(np.bincount(column(year, "dataset"), minlength=YEAR.datasets))[::-1]
    share = np.cumsum(by_dataset) / YEAR.rows
    assert share[YEAR.datasets // 100 - 1] > 0.15
    assert share[YEAR.datasets // 10 - 1] > 0.6
    assert by_dataset[YEAR.datasets // 2] < 0.1 * YEAR.rows / YEAR.datasets


def test_people_work_from_monday_to_friday_and_less_in_august(year: list[Log]) -> None:
    by_weekday = np.bincount(column(year, "day") % 7)
    assert by_weekday[5:].max() < 0.5 * by_weekday[:5].min()
    by_week = [len(log["day"]) for log in year]
    assert max(by_week[31:34]) < 0.85 * min(by_week[27:30])
    assert by_week[51] < 0.5 * np.median(by_week)


def test_new_data_sets_come_together_and_old_ones_die(year: list[Log]) -> None:
    weekly = np.array([np.bincount(log["dataset"], minlength=YEAR.datasets) for log in year])
    first = Counter(np.argmax(weekly > 0, axis=0)[weekly.any(axis=0)].tolist())
    usual = np.median([first[week] for week in range(1, WEEKS)])
    assert min(first[week] for week in (13, 26, 39)) > 2 * usual
    in_demand = weekly[0] > 10
    assert np.mean(weekly[-4:, in_demand].sum(axis=0) == 0) > 0.3


@dataclass(frozen=True)
class Tables:
    """The study's SQL in an engine that every Python has: Spark runs the same text in `tests/e2e`."""

    database: sqlite3.Connection

    def features(self, rows: list[tuple[int, str, str, int, int]]) -> dict[tuple[str, int], dict[str, Any]]:
        self.database.executescript("DROP TABLE IF EXISTS accesses; DROP TABLE IF EXISTS weekly")
        self.database.execute("CREATE TABLE accesses (week, dataset, tier, user, cpu_seconds)")
        self.database.executemany("INSERT INTO accesses VALUES (?, ?, ?, ?, ?)", rows)
        self.database.execute(f"CREATE TABLE weekly AS {FEATURES['WEEKLY']}")
        found = self.database.execute(FEATURES["FEATURES"])
        names = [name for name, *_ in found.description]
        table = [dict(zip(names, row, strict=True)) for row in found]
        return {(row["dataset"], row["week"]): row for row in table}


@pytest.fixture
def tables() -> Iterator[Tables]:
    database = sqlite3.connect(":memory:")
    yield Tables(database)
    database.close()


def accesses(week: int, count: int, dataset: str = "/A", users: int = 1) -> list[tuple[int, str, str, int, int]]:
    return [(week, dataset, "AOD", number % users, 100) for number in range(count)]


def test_features_by_hand(tables: Tables) -> None:
    rows = accesses(0, 3) + accesses(1, 20, users=4) + accesses(4, 11, users=2) + accesses(5, 1, "/B")
    found = tables.features(rows)
    assert {key for key in found if key[0] == "/A"} == {("/A", 1), ("/A", 4), ("/A", 5)}, "weeks without any row"
    last = found["/A", 5]
    assert (last["accesses"], last["popular"], last["accesses_before"]) == (0, 0, 11)
    assert last["accesses_1"] == pytest.approx(math.log(12))
    assert last["accesses_4"] == last["accesses_13"] == pytest.approx(math.log(1 + 3 + 20 + 11))
    assert last["users_2"] == pytest.approx(math.log(1 + 4 + 2))
    assert last["cpu_seconds_1"] == pytest.approx(math.log(1 + 1100))
    assert (last["popular_weeks_4"], last["active_weeks_13"], last["is_aod"], last["is_miniaod"]) == (2, 3, 1, 0)
    assert last["peak_13"] == pytest.approx(math.log(21))
    assert found["/A", 4]["popular"] == 1


def test_the_limit_is_more_than_ten(tables: Tables) -> None:
    found = tables.features(accesses(0, 1) + accesses(1, 10) + accesses(2, 11))
    assert [found["/A", week]["popular"] for week in (1, 2)] == [0, 1]


def test_nothing_of_a_week_or_later_is_in_its_features(tables: Tables, year: list[Log]) -> None:
    """The year is made again from a week on; what was known when it began stays the same to the last bit."""
    week = 20
    rows = [row for number in range(week + 10) for row in listed(year[number])]
    changed = [row for row in rows if row[0] < week]
    changed += [
        (at, name, tier, user + 1, cpu * 3) for at, name, tier, user, cpu in rows if at >= week for _ in range(2)
    ]
    one, other = tables.features(rows), tables.features(changed)
    names = [*FEATURES["NAMES"], "accesses_before"]
    known = [key for key in one if key[1] <= week]
    assert len(known) > 2000
    assert all(one[key][name] == other[key][name] for key in known for name in names)
    # What is predicted did change, and what is known a week later.
    assert any(one[key]["popular"] != other[key]["popular"] for key in known if key[1] == week)
    assert any(one[key]["accesses_1"] != other[key]["accesses_1"] for key in one if key[1] == week + 1)


def listed(log: Log) -> list[tuple[int, str, str, int, int]]:
    """Every tenth access: enough, and quick."""
    columns = (log["day"] // 7, log["dataset"], log["tier"], log["user"], log["cpu_seconds"])
    weeks, numbers, tiers, users, cpu = (values[::10].tolist() for values in columns)
    words = [ACCESSES["TIERS"][tier] for tier in tiers]
    return list(zip(weeks, map(str, numbers), words, users, cpu, strict=True))


def test_generator_and_features_speak_of_the_same_tiers() -> None:
    assert ACCESSES["TIERS"] == FEATURES["TIERS"]


@pytest.mark.parametrize(
    ("labels", "ranks", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 1.0),
        ([1, 1, 0, 0], [1, 2, 3, 4], 0.0),
        ([0, 1, 0, 1], [1, 1, 1, 1], 0.5),
        # Of 2 · 3 pairs: 3 right, 2 equal, 1 wrong.
        ([1, 0, 0, 1, 0], [2, 2, 1, 3, 3], 4 / 6),
    ],
)
def test_area_under_the_curve(labels: list[int], ranks: list[float], expected: float) -> None:
    assert SCORES["auc"](np.array(labels), np.array(ranks)) == pytest.approx(expected)
    false, true = SCORES["curve"](np.array(labels), np.array(ranks))
    assert np.trapezoid(true, false) == pytest.approx(expected)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_precision_and_recall() -> None:
    labels, decided = np.array([1, 1, 1, 1, 0, 0]), np.array([True, True, True, False, True, False])
    found = SCORES["scores"](labels, decided, decided)
    assert found.rounded() == {"auc": 0.625, "precision": 0.75, "recall": 0.75}


TREES = """GBTClassificationModel: uid = x, numTrees=2, numClasses=2, numFeatures=2
  Tree 0 (weight 1.0):
    If (feature 0 <= 0.5)
     If (feature 1 <= -1.5E-3)
      Predict: -1.0
     Else (feature 1 > -1.5E-3)
      Predict: 0.25
    Else (feature 0 > 0.5)
     Predict: 1.0
  Tree 1 (weight 0.1):
    Predict: 0.5
"""


ROWS = np.array([[0.5, -1.0], [0.5, 0.0], [0.6, 9.0]])


def test_boosted_trees_as_numbers() -> None:
    plain = MODELS["of_boosted"](SimpleNamespace(toDebugString=TREES, treeWeights=[1.0, 0.1]))
    margins = np.array([-1.0, 0.25, 1.0]) + 0.1 * 0.5
    assert MODELS["probability"](plain, ROWS) == pytest.approx(1 / (1 + np.exp(-2 * margins)))


def test_a_forest_as_numbers_has_its_leaves_from_left_to_right() -> None:
    plain = MODELS["of_forest"](SimpleNamespace(toDebugString=TREES), [[0.1, 0.4, 0.9], [0.3]])
    assert MODELS["probability"](plain, ROWS) == pytest.approx([0.2, 0.35, 0.6])


def test_a_regression_as_numbers() -> None:
    plain = MODELS["of_regression"](SimpleNamespace(intercept=-0.5, coefficients=np.array([1.0, 2.0])))
    assert MODELS["probability"](plain, ROWS)[1] == pytest.approx(0.5)


def test_a_tree_that_is_not_understood_is_no_model() -> None:
    strange = TREES.replace("feature 0 <= 0.5", "feature 0 in {1.0}")
    with pytest.raises(ValueError, match=r"feature 0 in \{1.0\}"):
        MODELS["of_boosted"](SimpleNamespace(toDebugString=strange, treeWeights=[1.0, 0.1]))
