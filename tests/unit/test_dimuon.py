"""The dimuon example's reference against sums by hand, what its dialects share, and the notebook that compares them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import skhep_testdata
import uproot
import yaml

from benchmarks import dimuon as benchmark
from images.origin import generate

EXAMPLE = Path(__file__).parents[2] / "examples" / "dimuon"
EVENTS = 5_000
BINS = {"spectrum": (120, 0, 120), "z_peak": (60, 76, 106), "zmumu": (60, 60, 120)}

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the CMS file and a small generated one."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "uproot-Zmumu.root").symlink_to(skhep_testdata.data_path("uproot-Zmumu.root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "EVENTS_PER_FILE", EVENTS)
        patch.setattr(generate, "EVENTS_PER_BASKET", EVENTS)
        generate.write_events(folder / "nano-0.root", 0)
    return folder


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the plain loop leaves."""
    folder = tmp_path_factory.mktemp("results")
    environment = os.environ | {
        "DATASET": str(data),
        "FILES": "1",
        "AF_RESULTS": str(folder),
        "PYTHONWARNINGS": "error",
    }
    program = [sys.executable, str(EXAMPLE / "plain.py")]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def plain(results: Path) -> Answer:
    found: Answer = json.loads((results / "plain.json").read_text())
    return found


@pytest.fixture
def example(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `plain`, as the script sees it."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setenv("DATASET", str(data))
    monkeypatch.setenv("FILES", "1")
    import plain  # noqa: PLC0415 - from the example's directory

    yield plain
    for name in ("plain", "dimuon"):
        del sys.modules[name]


def test_it_counts_the_masses_that_the_cms_file_stores(plain: Answer, data: Path) -> None:
    with uproot.open(f"{data}/uproot-Zmumu.root:events") as tree:
        events = tree.arrays(["Q1", "Q2", "M"], library="np")
    masses = events["M"][events["Q1"] != events["Q2"]]
    counts = plain["histograms"]["zmumu"]["counts"]
    assert counts == counted(masses, "zmumu")
    assert sum(counts) == 2004
    assert np.argmax(counts) == 30, "the bin from 90 to 91 GeV"


def test_it_counts_what_is_found_event_by_event(plain: Answer, data: Path) -> None:
    masses = list(by_hand(data / "nano-0.root"))
    assert 0.5 * EVENTS < len(masses) < EVENTS
    for name in ("spectrum", "z_peak"):
        assert plain["histograms"][name]["counts"] == counted(masses, name)


def by_hand(path: Path) -> Iterator[float]:
    """Yield the mass of each event's two leading good muons of opposite charge, one event after the other."""
    with uproot.open(f"{path}:Events") as tree:
        events = tree.arrays(filter_name="Muon_*")
    for columns in zip(*(events[f"Muon_{x}"].tolist() for x in ("pt", "eta", "phi", "mass", "charge")), strict=True):
        good = [muon for muon in zip(*columns, strict=True) if muon[0] > 10 and abs(muon[1]) < 2.4]
        if len(good) >= 2 and good[0][4] != good[1][4]:
            yield invariant_mass(good[0], good[1])


def invariant_mass(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the mass by angles, and not by a sum of four-vectors."""
    (pt1, eta1, phi1, mass1, _), (pt2, eta2, phi2, mass2, _) = one, other
    energies = math.hypot(pt1 * math.cosh(eta1), mass1) * math.hypot(pt2 * math.cosh(eta2), mass2)
    product = pt1 * pt2 * (math.cos(phi1 - phi2) + math.sinh(eta1) * math.sinh(eta2))
    return math.sqrt(mass1**2 + mass2**2 + 2 * (energies - product))


def counted(masses: Any, name: str) -> list[int]:
    bins, low, high = BINS[name]
    found: list[int] = np.histogram(masses, bins, (low, high))[0].tolist()
    return found


def test_it_leaves_its_times_and_a_plot(plain: Answer, results: Path) -> None:
    assert plain["workers"] == 1
    assert set(plain["seconds"]) == {"start", "cold", "warm"}
    assert (results / "plain.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_mass_on_an_edge_is_noticed(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not example.near_an_edge()
    edges = example.dimuon.edges("zmumu")
    monkeypatch.setattr(example, "zmumu", lambda shift: {"zmumu": np.histogram([91 + shift], edges)[0]})
    assert example.near_an_edge()


def test_passes_that_differ_are_no_answer(example: ModuleType) -> None:
    passes = iter(range(10))
    with pytest.raises(SystemExit, match="Two passes differ"):
        example.dimuon.measure("any", lambda: {"zmumu": [1]}, lambda: {"spectrum": [next(passes)]}, lambda: 1, "")


def test_all_dialects_have_the_same_pools(example: ModuleType) -> None:
    pools = []
    for path in sorted(EXAMPLE.glob("session-*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        assert (EXAMPLE / spec["run"]["command"][1]).is_file()
        pools += [spec[engine]["pools"] for engine in ("dask", "spark") if engine in spec]
    assert len(pools) == len(example.dimuon.DIALECTS) - 1 == 4
    assert all(each == pools[0] for each in pools)


@pytest.fixture
def saved(example: ModuleType, plain: Answer, tmp_path: Path) -> Path:
    """Results of all dialects, made of the plain loop's."""
    for name in example.dimuon.DIALECTS:
        answer = plain | {"dialect": name}
        (tmp_path / f"{name}.json").write_text(json.dumps(answer))
    return tmp_path


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = json.loads((EXAMPLE / "compare.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


def test_the_notebook_shows_that_nothing_differs(saved: Path) -> None:
    done = execute(saved)
    assert done.returncode == 0, done.stderr
    cells = json.loads((saved / "executed.ipynb").read_text())["cells"]
    outputs = [output["data"] for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert sum("image/png" in each for each in outputs) == 2
    (table,) = ("".join(each["text/markdown"]) for each in outputs if "text/markdown" in each)
    assert table.count("| 0 | 0 | 0 |") == 4


def test_the_notebook_stops_at_one_pair_in_another_bin(saved: Path) -> None:
    answer = json.loads((saved / "Spark.json").read_text())
    counts = answer["histograms"]["z_peak"]["counts"]
    counts[30], counts[31] = counts[30] - 1, counts[31] + 1
    (saved / "Spark.json").write_text(json.dumps(answer))
    done = execute(saved)
    assert done.returncode != 0
    assert "Spark does not have the plain loop's counts: [0, 2, 0]" in done.stderr


def execute(saved: Path) -> subprocess.CompletedProcess[str]:
    """Run the notebook's cells, and leave ``executed.ipynb``."""
    argv = [sys.executable, "-m", "jupyter", "execute", "compare.ipynb", "--output", str(saved / "executed.ipynb")]
    environment = os.environ | {"DIMUON_RESULTS": str(saved)}
    return subprocess.run(argv, env=environment, cwd=EXAMPLE, capture_output=True, text=True, timeout=100, check=False)


def test_the_times_are_multiples_of_one_core_with_a_warm_cache() -> None:
    answers = {
        name: {"seconds": {"start": 9.0, "cold": cold, "warm": warm}, "workers": workers, "versions": "1"}
        for name, cold, warm, workers in (("plain", 0.6, 0.5, 1), ("Spark", 4.0, 1.5, 2))
    }
    assert [row[5:7] for row in benchmark.times(answers).rows] == [("1.20", "1.00"), ("8.00", "3.00")]
