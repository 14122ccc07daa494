"""What the benchmark of the smart cache replays, and how it counts: against the plain definitions, on small logs."""

from __future__ import annotations

import csv
import itertools
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from af_decision.history import DAY, FEATURES
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._access_log import WEEK, Log, generate, study
from benchmarks._replay import Span, belady, bound, lru, ppc

PROGRAM = Path(__file__).parents[2] / "examples/smart_cache/learn.py"
LEARN = runpy.run_path(str(PROGRAM))


def log_of(files: list[int], sizes: list[float]) -> Log:
    count = len(files)
    return Log(
        files=np.array(files, dtype=int),
        datasets=np.array(files, dtype=int),
        times=np.arange(count, dtype=float),
        sizes=np.array(sizes),
        first_files=np.arange(len(sizes) + 1),
        names=np.array([f"/d{number}" for number in range(len(sizes))]),
        weekly={"week": np.arange(count) // 10},
    )


SIZES = [1.0, 2.0, 3.0, 1.0, 2.0]
FILES = st.lists(st.integers(0, len(SIZES) - 1), min_size=2, max_size=40)


def plain_lru(files: list[int], capacity: float, admitted: list[bool]) -> tuple[int, float]:
    """Return hits and bytes written, by a list in the order of use."""
    kept: list[int] = []
    hits, written = 0, 0.0
    for file, admit in zip(files, admitted, strict=True):
        if file in kept:
            kept.append(kept.pop(kept.index(file)))
            hits += 1
        elif admit:
            kept.append(file)
            written += SIZES[file]
            while sum(SIZES[each] for each in kept) > capacity:
                del kept[0]
    return hits, written


@settings(deadline=None)
@given(FILES, st.floats(0.5, 8), st.data())
def test_lru_is_that_of_a_list(files: list[int], capacity: float, data: st.DataObject) -> None:
    admitted = data.draw(st.lists(st.booleans(), min_size=len(files), max_size=len(files)))
    found = lru(log_of(files, SIZES), Span(0, 0, len(files)), capacity, np.array(admitted))
    hits, written = plain_lru(files, capacity, admitted)
    assert (round(found.hit_rate * len(files)), found.written) == (hits, written)
    total = sum(SIZES[file] for file in files)
    assert found.from_origin == pytest.approx(total * (1 - found.byte_hit_rate))


@settings(deadline=None)
@given(FILES, st.floats(0.5, 8))
def test_ppc_without_a_prediction_is_lru(files: list[int], capacity: float) -> None:
    log, span = log_of(files, SIZES), Span(0, 0, len(files))
    nothing = dict.fromkeys(range(10), frozenset[int]())
    everything = dict.fromkeys(range(10), frozenset(range(len(SIZES))))
    expected = lru(log, span, capacity, np.ones(len(files), dtype=bool))
    assert ppc(log, span, capacity, nothing) == ppc(log, span, capacity, everything) == expected


def test_ppc_keeps_what_is_said_to_be_popular() -> None:
    log = log_of([0, 1, 3, 0, 1, 3, 0], [1.0] * 4)
    found = ppc(log, Span(0, 0, 7), 2.0, {0: frozenset({0})})
    assert round(found.hit_rate * 7) == 2


def best_of_all(files: list[int], capacity: int) -> int:
    """Return the most hits that any cache of files of size 1 can have, by trying all that it could keep."""
    states = {frozenset[int](): 0}
    for file in files:
        after: dict[frozenset[int], int] = {}
        for kept, hits in states.items():
            now, there = hits + (file in kept), kept | {file}
            for count in range(min(capacity, len(there)) + 1):
                for chosen in itertools.combinations(sorted(there), count):
                    state = frozenset(chosen)
                    after[state] = max(after.get(state, 0), now)
        states = after
    return max(states.values())


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=14), st.integers(1, 3))
def test_with_files_of_one_size_belady_is_the_best_of_all(files: list[int], capacity: int) -> None:
    log, span = log_of(files, [1.0] * 5), Span(0, 0, len(files))
    best = best_of_all(files, capacity)
    assert round(belady(log, span, float(capacity)).hit_rate * len(files)) == best
    assert bound(log, span, float(capacity)).hit_rate * len(files) >= best - 1e-9


@settings(deadline=None)
@given(FILES, st.floats(0.5, 8), st.integers(0, 10))
def test_nobody_surpasses_the_bound(files: list[int], capacity: float, warm: int) -> None:
    log, span = log_of(files, SIZES), Span(0, min(warm, len(files) - 1), len(files))
    most = bound(log, span, capacity)
    for found in (belady(log, span, capacity), lru(log, span, capacity, np.ones(len(files), dtype=bool))):
        assert found.hit_rate <= most.hit_rate + 1e-9
        assert found.byte_hit_rate <= most.byte_hit_rate + 1e-9


@pytest.fixture(scope="module")
def year() -> Log:
    return generate(seed=3, rows=6000, datasets=60)


def test_the_log_of_files_is_that_of_the_example(year: Log) -> None:
    again = generate(seed=3, rows=6000, datasets=60)
    assert all(np.array_equal(getattr(year, name), getattr(again, name)) for name in ("files", "times", "sizes"))
    assert np.all(np.diff(year.times) >= 0)
    assert np.array_equal(year.times // WEEK, year.weekly["week"])
    # Each open is of a file of its data set, and a user reads one after the other.
    assert np.array_equal(np.searchsorted(year.first_files, year.files, side="right") - 1, year.datasets)
    one = (year.datasets == year.datasets[0]) & (year.weekly["user"] == year.weekly["user"][0])
    count = np.diff(year.first_files)[year.datasets[0]]
    assert set(np.diff(year.files[one]) % count) <= {1 % count}


def test_nothing_of_the_future_is_in_the_features(year: Log) -> None:
    """The rows of the first half are the same whatever comes after it."""
    opens, half = list(zip(year.times.tolist(), year.paths(), strict=True)), len(year.files) // 2
    assert np.array_equal(LEARN["features"](opens)[:half], LEARN["features"](opens[:half]))
    weekly = study(year)
    assert weekly.rows.shape[1] == 21
    assert set(np.unique(weekly.popular)) == {False, True}


def test_how_long_until_a_file_is_opened_again(year: Log) -> None:
    found = LEARN["until_next"](year.times, year.files)
    following = year.following
    for number in range(0, len(year.files), 97):
        again = next((n for n in range(number + 1, len(year.files)) if year.files[n] == year.files[number]), None)
        assert following[number] == (len(year.files) if again is None else again)
        assert found[number] == (np.inf if again is None else year.times[again] - year.times[number])


def test_a_model_that_is_learned_of_a_log_is_what_the_service_takes(year: Log, tmp_path: Path) -> None:
    log, output = tmp_path / "accesses.csv", tmp_path / "popularity.onnx"
    with log.open("w", newline="") as file:
        csv.writer(file).writerows(zip(year.times.tolist(), year.paths(), strict=True))
    program = [sys.executable, str(PROGRAM), str(log), str(output)]
    environment = {"PYTHONPATH": str(PROGRAM.parents[2] / "images/xcache")}
    said = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=100, check=True).stdout
    assert said.startswith(f"{output}: ")
    session = onnxruntime.InferenceSession(str(output))
    [asked] = session.get_inputs()
    assert (asked.type, asked.shape[-1]) == ("tensor(float)", len(FEATURES))
    rows: Any = LEARN["features"](zip(year.times.tolist(), year.paths(), strict=True))
    known = LEARN["known"](year.times, year.times[-1])
    used = LEARN["until_next"](year.times, year.files) <= 7 * DAY
    theirs = LEARN["learn"](rows[known], used[known]).predict_proba(rows)[:, 1]
    ours = session.run(None, {asked.name: rows})[-1][:, -1]
    assert np.max(np.abs(ours - theirs)) < 1e-5


def test_a_log_that_is_too_short_is_refused_in_words(tmp_path: Path) -> None:
    log = tmp_path / "accesses.csv"
    log.write_text("1,/a\n2,/b\n")
    with pytest.raises(SystemExit, match="too short to learn from"):
        LEARN["main"](log, tmp_path / "popularity.onnx")
    assert not (tmp_path / "popularity.onnx").exists()
