"""The Z -> mumu example as its user runs it without Kubernetes, against the answers that its input file carries."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pytest
import skhep_testdata
import uproot

FloatArray = np.ndarray[Any, Any]
EXAMPLE = Path(__file__).parents[2] / "examples" / "zmumu"


class Outcome(NamedTuple):
    directory: Path
    numbers: dict[str, Any]
    performance: dict[str, Any]


@pytest.fixture(scope="module")
def data() -> Path:
    return Path(skhep_testdata.data_path("uproot-Zmumu.root"))


@pytest.fixture(scope="module")
def outcome(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    directory = tmp_path_factory.mktemp("zmumu")
    done = run(data.parent, directory)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers, performance = (json.loads((directory / f).read_text()) for f in ("zmumu.json", "performance.json"))
    return Outcome(directory, numbers, performance)


def run(dataset: Path, results: Path) -> subprocess.CompletedProcess[str]:
    cluster = ("DASK_", "XRD_", "XROOT_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(cluster)}
    # Its dashboard goes to another port where another Dask cluster of this machine has the usual one.
    warnings = "error,ignore:Port 8787 is already in use"
    env = clean | {"DATASET": str(dataset), "AF_RESULTS": str(results), "PYTHONWARNINGS": warnings}
    program = [sys.executable, str(EXAMPLE / "zmumu.py")]
    return subprocess.run(program, env=env, capture_output=True, text=True, timeout=100, check=False)


def reference(path: Path) -> tuple[FloatArray, FloatArray]:
    """What the file itself says: the mass of every pair, and whether the charges differ."""
    with uproot.open(f"{path}:events") as tree:
        pairs = tree.arrays(["Q1", "Q2", "M"], library="np")
    return pairs["M"], pairs["Q1"] != pairs["Q2"]


def test_masses_equal_the_stored_ones_event_by_event(outcome: Outcome, data: Path) -> None:
    stored, _ = reference(data)
    masses = np.load(outcome.directory / "masses.npy")
    assert masses.dtype == np.float64
    np.testing.assert_allclose(masses, stored, rtol=0, atol=1e-6)
    assert outcome.numbers["largest_mass_difference"] == pytest.approx(np.max(np.abs(masses - stored)))


def test_counts_and_mean(outcome: Outcome, data: Path) -> None:
    stored, opposite = reference(data)
    selected = stored[opposite & (stored > 60) & (stored < 120)]
    assert outcome.numbers["events"] == len(stored) == 2304
    assert outcome.numbers["opposite_sign"] == np.count_nonzero(opposite) == 2147
    assert outcome.numbers["selected"] == len(selected) == 2004
    assert outcome.numbers["mass_mean"] == pytest.approx(np.mean(selected), abs=1e-6)


def test_histogram_and_peak(outcome: Outcome, data: Path) -> None:
    stored, opposite = reference(data)
    counts, edges = np.histogram(stored[opposite], bins=60, range=(60, 120))
    assert outcome.numbers["histogram"] == {"edges": edges.tolist(), "counts": counts.tolist()}
    assert outcome.numbers["mass_peak"] == edges[np.argmax(counts)] + 0.5


def test_plot_is_a_picture(outcome: Outcome) -> None:
    content = (outcome.directory / "zmumu.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 10_000


def test_workers_and_no_cache_without_one(outcome: Outcome) -> None:
    assert outcome.performance["workers"] >= 1
    assert outcome.performance["cache_bytes"] == 0


@pytest.mark.parametrize("wrong", [91.0 + 2e-6, float("nan")])
def test_masses_that_differ_from_the_stored_ones_fail_the_run(wrong: float, tmp_path: Path) -> None:
    program = runpy.run_path(str(EXAMPLE / "zmumu.py"))
    pairs = ak.zip({"mass": [90.0, wrong], "stored_mass": [90.0, 91.0], "opposite_sign": [True, True]})
    with pytest.raises(SystemExit, match="Masses differ"):
        program["analyse"](pairs, tmp_path)
    assert not list(tmp_path.iterdir())
