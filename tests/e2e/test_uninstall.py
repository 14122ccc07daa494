"""`helm uninstall` while a session runs: it stops, says which, and how the release is kept."""

from __future__ import annotations

import subprocess

import pytest

from local_cluster import facility as demo
from local_cluster.progress import Progress
from tests.support.tenant import ENVIRONMENT, HEADLESS, Tenant, kubectl

SLEEP = {**HEADLESS, "run": {"command": ["sleep", "600"]}}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["helm", *arguments]
    return subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.alone  # until the release is taken back, nobody can upgrade it
def test_it_stops_in_words_and_nothing_is_lost(tenant: Tenant) -> None:
    tenant.apply("asleep", SLEEP)
    tenant.wait_condition("asleep", "Ready")
    with demo.alone(Progress()):
        done = helm("uninstall", demo.RELEASE, f"--namespace={demo.SYSTEM_NAMESPACE}", "--timeout=200s")
        said = done.stdout + done.stderr
        back = [line.strip() for line in said.splitlines() if "To keep the release: helm " in line]
        assert back, said
        rolled = helm(*back[0].partition(": helm ")[2].split())
    assert done.returncode != 0
    assert f"analysissession {tenant.namespace}/asleep: Running, of admin" in said
    assert rolled.returncode == 0, rolled.stderr
    assert '"status":"deployed"' in helm("list", f"--namespace={demo.SYSTEM_NAMESPACE}", "--output=json").stdout
    kubectl("--namespace", demo.SYSTEM_NAMESPACE, "rollout", "status", "deployment/af-operator", "--timeout=60s")
    tenant.apply("next", HEADLESS)
    tenant.wait_condition("next", "RunComplete", reason="Succeeded")
    assert tenant.session("asleep")["status"]["phase"] == "Running"
