"""ROOT's RDataFrame on a session's Dask, headless: what its user sees, in one session."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import skhep_testdata
import uproot
from matplotlib.image import imread

from local_cluster.settings import CHECKOUT
from tests.support.people import af
from tests.support.tenant import ENVIRONMENT, HEADLESS, Body, Tenant

PROGRAM = CHECKOUT / "tests/support/programs/root_dataframe.py"
ORIGIN = "root://origin.af-storage.svc.cluster.local:1094"
SESSION: Body = {
    **HEADLESS,
    "image": "root",
    "run": {
        "command": ["python", "main.py"],
        "source": {"files": {"main.py": PROGRAM.read_text()}},
    },
    "dask": {"pools": [{"name": "cpu", "nodePool": "cpu", "size": "small", "workers": {"min": 2, "max": 2}}]},
    "xcache": {"placement": "Session", "size": "1Gi"},
    "env": [{"name": "DATA", "value": f"{ORIGIN}//data/uproot-Zmumu.root"}],
}

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def run(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """What the run left, the numbers that it found, and its log."""
    folder = tmp_path_factory.mktemp("root")
    shared_tenant.apply("root", SESSION)
    shared_tenant.wait_condition("root", "RunComplete", reason="Succeeded", seconds=360)
    log = shared_tenant.kubectl("logs", "job/root-run")
    done = af("results", "root", "-n", shared_tenant.namespace, "-o", str(folder), environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "root.json").read_text()), log


def z_candidates() -> Any:
    """Return their masses, from the same file by plain uproot."""
    with uproot.open({skhep_testdata.data_path("uproot-Zmumu.root"): "events"}) as tree:
        events = tree.arrays(["M", "Q1", "Q2"], library="np")
    mass = events["M"]
    return mass[(events["Q1"] * events["Q2"] < 0) & (mass > 60) & (mass < 120)]


def test_the_numbers_are_those_of_a_plain_loop(run: Any) -> None:
    _, found, _ = run
    mass = z_candidates()
    assert found["workers"] == 2
    assert found["count"] == found["entries"] == found["stored"] == len(mass) == 2004
    assert found["mean"] == pytest.approx(np.mean(mass), rel=1e-12)
    assert found["half"] == pytest.approx(np.mean(mass) / 2, rel=1e-12), "C++ of the run's own, compiled on the workers"


def test_a_canvas_is_saved_without_a_display(run: Any) -> None:
    folder, _, _ = run
    content = (folder / "mass.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (696, 472)
    pixels = imread(folder / "mass.png")
    assert 0.005 < float((pixels[..., :3] < 0.9).any(axis=-1).mean()) < 0.6, "part of it is ink"


def test_reads_go_through_the_sessions_cache(run: Any) -> None:
    """By ROOT on the workers, and by uproot in the process that has ROOT: both have one XRootD library."""
    _, found, _ = run
    assert found["uproot"] == 2304
    # Three columns of 2 304 events, four of them in floating point; nobody else reads through this cache.
    assert found["cache_bytes"] > 2304 * 8


def test_workers_write_to_where_results_go(run: Any) -> None:
    _, found, _ = run
    # A part for each partition that has events: of this file all are in one cluster, which is not divided.
    files, folder = fsspec.url_to_fs(found["url"])
    names = [Path(file).name for file in files.ls(folder, detail=False)]
    parts = [f"{found['url']}/{name}" for name in names if re.fullmatch(r"pairs_\d+\.root", name)]
    assert parts, names
    masses = np.concatenate([uproot.open(f"{part}:pairs")["M"].array(library="np") for part in parts])
    assert np.array_equal(np.sort(masses), np.sort(z_candidates()))


def test_the_log_has_no_progress_bar(run: Any) -> None:
    _, found, log = run
    assert str(found["count"]) in log
    assert "\r" not in log
    assert "Completed" not in log
