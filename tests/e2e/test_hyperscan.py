"""The hyper-parameter scan as its user runs it: trials on GPU workers, preparation on the others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local_cluster import facility as demo
from local_cluster.demo import user_environment
from local_cluster.settings import CHECKOUT
from tests.support.tenant import kubectl

SESSION = CHECKOUT / "examples" / "hyperscan" / "session.yaml"


@pytest.mark.timeout(420)
def test_trials_run_where_the_gpus_are(facility: demo.Facility, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "af_client.cli", "run", str(SESSION), "-o", str(tmp_path), "--timeout", "400"]
    done = subprocess.run(
        argv, env=user_environment(facility), cwd=CHECKOUT, capture_output=True, text=True, timeout=410, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "hyperscan.json").read_text())
    try:
        # By the scheduler's own record of who computed what, and by what the trials say of themselves.
        features, trials = (set(found["placement"][name]) for name in ("features", "trials"))
        assert features
        assert trials
        assert not features & trials
        assert {trial["address"] for trial in found["trials"]} == trials
        assert all("-gpu-" in trial["worker"] for trial in found["trials"])
        assert len(found["trials"]) == 12
        assert found["best"]["accuracy"] > 0.8
        assert {trial["device"] for trial in found["trials"]} == {"none (ModuleNotFoundError): NumPy"}
        assert (tmp_path / "hyperscan.png").stat().st_size > 10_000
        print(f"{len(trials)} GPU workers, {found['seconds']} s, best accuracy {found['best']['accuracy']:.3f}")
    finally:
        name = re.findall(r"hyperscan-\w+", done.stdout + done.stderr)[0]
        kubectl("-n", demo.TENANT, "delete", "analysissession", name, "--wait=false")
