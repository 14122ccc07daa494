"""Runs that lose their pods, on a real cluster: to an Eviction, a deletion, a preemption, and to their own fault."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support.tenant import HEADLESS, Body, Tenant, condition, kubectl, poll

pytestmark = pytest.mark.alone  # its pods have the lowest priority: whoever else wants room takes theirs
SECONDS = 180
LOSES = """
import os, pathlib, time
number = os.environ.get("AF_TRY", "1")
pathlib.Path(os.environ["AF_RESULTS"], f"try-{number}").write_text("x")
print("try", number, flush=True)
time.sleep(600 if number == "1" else 0)
"""
FILLS = "open('/af/work/x', 'wb').write(bytes(200 << 20)); import time; print('full', flush=True); time.sleep(600)"
HUNGRY = """
import subprocess, sys
child = subprocess.run([sys.executable, "-c", "print(len(b'x' * 2**30))"])
sys.exit(child.returncode != 0)
"""
TAKEN = {
    "evicted": "evicted through the API, as when its node is drained",
    "deleted": "its pod was deleted",
    "preempted": "preempted by a pod of higher priority",
}
LOW, LESS_LOW = "e2e-low", "e2e-less-low"
"""Both lower than all else: what preempts here takes nobody's pods but these."""


def program(text: str, **run: str) -> Body:
    return {**HEADLESS, "run": {"command": ["python", "-c", text], **run}}


@pytest.fixture(scope="module")
def priorities() -> Iterator[None]:
    for name, value in ((LOW, -1000), (LESS_LOW, -999)):
        kubectl("create", "priorityclass", name, f"--value={value}")
    yield
    kubectl("delete", "priorityclass", LOW, LESS_LOW)


@pytest.fixture(scope="module")
def profile(facility: demo.Facility, priorities: None) -> Iterator[str]:
    """The facility's catalogue, of low priority, with a size that is soon too small."""
    tiny = {"name": "tiny", "cpu": "50m", "memory": "192Mi", "ephemeralStorage": "64Mi"}
    sizes = [*catalogue.default_spec()["sizes"], tiny]
    with catalogue.profile(sizes=sizes, priorityClassName=LOW) as name:
        yield name


@pytest.fixture(scope="module")
def lost(shared_tenant: Tenant, profile: str) -> Tenant:
    """Sessions that run; what each loses is in its name."""
    for name in TAKEN:
        shared_tenant.apply(name, program(LOSES) | {"profile": profile})
    shared_tenant.apply("full", program(FILLS, size="tiny") | {"profile": profile})
    shared_tenant.apply("hungry", program(HUNGRY, size="tiny") | {"profile": profile})
    for name, take_away in (("evicted", evict), ("deleted", delete), ("preempted", preempt)):
        begun = shared_tenant.wait_condition(name, "Ready", seconds=SECONDS) and shared_tenant.session(name)
        logs = ("logs", begun["status"]["run"]["pod"], "--container=run")
        poll(lambda logs=logs: "try 1" in shared_tenant.kubectl(*logs, check=False), "the program has begun")  # type: ignore[misc]
        take_away(shared_tenant, begun["status"]["run"]["pod"])
    return shared_tenant


def evict(tenant: Tenant, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": tenant.namespace}}
    path = f"/api/v1/namespaces/{tenant.namespace}/pods/{pod}/eviction"
    kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))


def delete(tenant: Tenant, pod: str) -> None:
    tenant.kubectl("delete", "pod", pod, "--wait=false")


def preempt(tenant: Tenant, pod: str) -> None:
    """Make a pod that does not go together with this one, and is of higher priority."""
    job = pod.rpartition("-")[0]
    apart = {"labelSelector": {"matchLabels": {"job-name": job}}, "topologyKey": "kubernetes.io/hostname"}
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "main",
        "image": demo.image_references()["analysis"],
        "command": ["true"],
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
        "securityContext": strict,
    }
    spec = {
        "priorityClassName": LESS_LOW,
        "restartPolicy": "Never",
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stronger"}, "spec": spec}
    tenant.kubectl("create", "--filename=-", stdin=json.dumps(body))


@pytest.mark.parametrize("name", TAKEN)
def test_a_run_that_loses_its_pod_runs_again_and_says_why(lost: Tenant, name: str) -> None:
    found = lost.wait_condition(name, "RunComplete", seconds=SECONDS)
    assert (found["reason"], found["message"]) == (
        "Succeeded",
        "the run ended with exit code 0 (begun again after 1 disruption)",
    )
    told = lost.session(name)["status"]["run"]
    assert (told["attempts"], told["disruptions"], told["lastDisruption"]) == (2, 1, TAKEN[name])
    assert (told["exitCode"], told["pod"].startswith(f"{name}-run-2-")) == (0, True)


@pytest.mark.parametrize("name", TAKEN)
def test_its_results_are_those_of_the_last_try(lost: Tenant, name: str) -> None:
    lost.wait_condition(name, "RunComplete", seconds=SECONDS)
    results = lost.session(name)["status"]["run"]["results"]
    assert [file["url"].rpartition("/")[2] for file in results["files"]] == ["try-2"]
    assert results["count"] == 1


def test_a_run_that_fills_its_disk_is_not_run_again_and_says_which_field_to_change(lost: Tenant) -> None:
    found = lost.wait_condition("full", "RunComplete", seconds=SECONDS)
    assert found["reason"] == "Evicted"
    assert "choose a larger size (spec.run.size)" in found["message"]
    told = lost.session("full")["status"]["run"]
    assert (told["attempts"], told.get("disruptions", 0)) == (1, 0)


def test_a_process_of_a_run_that_is_killed_for_memory_is_called_that(lost: Tenant) -> None:
    found = lost.wait_condition("hungry", "RunComplete", seconds=SECONDS)
    assert (found["reason"], found["message"]) == (
        "OOMKilled",
        "the run used more memory than its size has: choose a larger size (spec.run.size)",
    )
    assert condition(lost.session("hungry"), "RunReady")["reason"] == "OOMKilled"
