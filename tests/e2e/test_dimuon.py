"""The dimuon example in every dialect, each in a session of its own as its user runs it: equal counts in every bin."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skhep_testdata
import uproot

from examples.dimuon import dimuon
from local_cluster.settings import CHECKOUT
from tests.support.tenant import ENVIRONMENT, Tenant

EXAMPLE = CHECKOUT / "examples" / "dimuon"
AT_ONCE = 2
"""Sessions: a third would wait for memory."""
LIMIT = 600

Answers = dict[str, dict[str, Any]]

pytestmark = pytest.mark.timeout(1300)


@pytest.fixture(scope="module")
def results(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sessions of all dialects leave, of one generated file and the CMS file."""
    folder = tmp_path_factory.mktemp("dimuon")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda dialect: run(dialect, shared_tenant, folder), dimuon.DIALECTS))
    return folder


def run(dialect: str, tenant: Tenant, folder: Path) -> None:
    argv = [sys.executable, "-m", "af_client.cli", "run", str(EXAMPLE / f"session-{dialect.lower()}.yaml")]
    argv += ["--include", "dimuon.py", "--set", 'spec.env[1]={name: FILES, value: "1"}']
    argv += ["--namespace", tenant.namespace, "-o", str(folder), "--timeout", str(LIMIT)]
    done = subprocess.run(
        argv, env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, timeout=LIMIT + 10, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def answers(results: Path) -> Answers:
    return {name: json.loads((results / f"{name}.json").read_text()) for name in dimuon.DIALECTS}


@pytest.mark.parametrize("dialect", dimuon.DIALECTS[1:])
def test_every_bin_has_the_count_of_the_plain_loop(answers: Answers, dialect: str) -> None:
    for name, histogram in answers["plain"]["histograms"].items():
        assert answers[dialect]["histograms"][name] == histogram, name
    assert answers[dialect]["workers"] == 2


def test_the_generated_events_have_a_z_peak(answers: Answers) -> None:
    histograms = answers["plain"]["histograms"]
    assert sum(histograms["spectrum"]["counts"]) > 100_000
    assert histograms["z_peak"]["edges"][np.argmax(histograms["z_peak"]["counts"])] == pytest.approx(91, abs=0.5)


def test_the_cms_pairs_are_those_of_the_masses_in_the_file(answers: Answers) -> None:
    with uproot.open(f"{skhep_testdata.data_path('uproot-Zmumu.root')}:events") as tree:
        events = tree.arrays(["Q1", "Q2", "M"], library="np")
    masses = events["M"][events["Q1"] != events["Q2"]]
    found = answers["plain"]["histograms"]["zmumu"]
    assert found["counts"] == np.histogram(masses, found["edges"])[0].tolist()
    assert sum(found["counts"]) == 2004


def test_each_leaves_a_plot(results: Path) -> None:
    for dialect in dimuon.DIALECTS:
        assert (results / f"{dialect}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_times(answers: Answers) -> None:
    """Printed, not judged: a machine that does something else at the same time is slow."""
    for name, answer in answers.items():
        print(name, answer["seconds"], answer["versions"])
