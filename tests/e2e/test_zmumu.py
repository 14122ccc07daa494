"""The demo as its user runs it, and that its numbers are those of the same script without Kubernetes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skhep_testdata
from matplotlib.image import imread

from local_cluster import facility as demo
from local_cluster.demo import OUTPUT
from local_cluster.settings import CHECKOUT
from tests.support.tenant import kubectl

SCRIPT = CHECKOUT / "examples" / "zmumu" / "zmumu.py"
SAME_EVERYWHERE = ("events", "opposite_sign", "selected", "mass_mean", "mass_peak", "largest_mass_difference")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script leaves on a machine of one's own, from the same file."""
    folder = tmp_path_factory.mktemp("local")
    data = Path(skhep_testdata.data_path("uproot-Zmumu.root")).parent
    no_cluster = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "XRD_", "XROOT_", "KUBE"))}
    environment = no_cluster | {"DATASET": str(data), "AF_RESULTS": str(folder), "PYTHONWARNINGS": "default"}
    subprocess.run([sys.executable, str(SCRIPT)], env=environment, cwd=folder, timeout=240, check=True)
    return folder


@pytest.fixture(scope="module")
def summaries(facility: demo.Facility) -> Iterator[list[dict[str, Any]]]:
    """The demo, twice: the second time everything is warm. Its user can create sessions and read logs, that is all."""
    found = [run_demo(), run_demo()]
    yield found
    names = [summary["session"] for summary in found]
    kubectl("-n", demo.TENANT, "delete", "analysissessions", *names, "--wait=false")


def run_demo() -> dict[str, Any]:
    """Run `make demo`'s last step in a process of its own, and return its summary."""
    argv = [sys.executable, "-m", "local_cluster.demo"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    found: dict[str, Any] = json.loads((OUTPUT / "summary.json").read_text())
    return found


def test_the_summary_of_the_demo(summaries: list[dict[str, Any]]) -> None:
    for summary in summaries:
        assert summary["events"] == 2304
        assert summary["opposite_sign"] == 2147
        assert summary["selected"] == 2004
        assert summary["mass_mean"] == pytest.approx(89.1588, abs=1e-4)
        assert summary["mass_peak"] == 90.5
        assert summary["largest_mass_difference"] < 1e-6
        assert summary["workers"] == 2
        assert summary["seconds_to_ready"] >= 0
        assert summary["seconds_total"] > summary["first_pass_seconds"] + summary["second_pass_seconds"]
        assert {"zmumu.json", "zmumu.png", "masses.npy", "performance.json", "summary.json"} <= set(summary["files"])


def test_the_cache_serves_both_passes(summaries: list[dict[str, Any]]) -> None:
    """Whether the origin sends it only once is asked of an origin that nobody else uses, in test_xcache."""
    size = Path(skhep_testdata.data_path("uproot-Zmumu.root")).stat().st_size
    for summary in summaries:
        assert summary["cache_bytes"] > 2 * size
        assert summary["origin_bytes"] >= size
    print("origin", [s["origin_bytes"] for s in summaries], "cache", [s["cache_bytes"] for s in summaries])


def test_the_numbers_are_those_without_kubernetes(summaries: list[dict[str, Any]], local: Path) -> None:
    here = json.loads((local / "zmumu.json").read_text())
    there = json.loads((OUTPUT / "zmumu.json").read_text())
    assert there == here
    for summary in summaries:
        assert {name: summary[name] for name in SAME_EVERYWHERE} == {name: here[name] for name in SAME_EVERYWHERE}


def test_every_event_has_the_mass_that_it_has_without_kubernetes(summaries: list[Any], local: Path) -> None:
    here, there = np.load(local / "masses.npy"), np.load(OUTPUT / "masses.npy")
    assert here.dtype == there.dtype == np.float64
    assert len(here) == summaries[-1]["events"]
    assert np.array_equal(here, there)


def test_the_plot_shows_something(summaries: list[Any]) -> None:
    content = (OUTPUT / "zmumu.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (1050, 780)
    pixels = imread(OUTPUT / "zmumu.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20
    assert 0.02 < float((pixels[..., :3] < 0.9).any(axis=-1).mean()) < 0.6, "part of it is ink"


def test_its_user_may_only_use_sessions(facility: demo.Facility, summaries: list[dict[str, Any]]) -> None:
    kubeconfig = f"--kubeconfig={facility.user_kubeconfig}"
    listed = kubectl(kubeconfig, "auth", "can-i", "--list", "--no-headers").splitlines()
    named = {line.split()[0] for line in listed if not line.startswith(" ")}
    allowed = {"analysissessions.analysisfacility.io", "analysisprofiles.analysisfacility.io", "pods/log", "configmaps"}
    assert {n for n in named if "selfsubject" not in n} == allowed, "of ConfigMaps her own logs alone"
    owner = kubectl("-n", demo.TENANT, "get", "afs", summaries[-1]["session"], "-o", "jsonpath={.spec.user}")
    assert owner == f"system:serviceaccount:{demo.TENANT}:{demo.USER}"


def test_the_times(summaries: list[dict[str, Any]]) -> None:
    """Printed, not judged: a machine that does something else at the same time is slow."""
    for summary in summaries:
        print({k: v for k, v in summary.items() if "seconds" in k})
