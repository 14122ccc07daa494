"""Runs that fail and sessions that do not come up: each says why, in words that its user can act on.

All sessions of the table are created at once, and each test waits for its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support.tenant import DASK, HEADLESS, Body, Tenant, condition, kubectl, poll

SECONDS = 150
TALKS = "print('begun', flush=True); import time; time.sleep(600)"
EATS = "print('hungry', flush=True); x = b'x' * 2**30; print('fed', len(x))"
FAILS = "import sys; print('begun'); print('no muons in this file'); sys.exit(3)"


def program(text: str, **run: Any) -> Body:
    """Return a headless session that runs some Python."""
    return {**HEADLESS, "run": {"command": ["python", "-c", text], **run}}


def pool(**changes: Any) -> Body:
    """Return a session that is a Dask cluster with one pool."""
    return {"user": "admin", "mode": "Interactive", "dask": {"pools": [DASK["pools"][0] | changes]}}


SESSIONS: dict[str, Body] = {
    "exit3": program(FAILS),
    "oom": program(EATS, size="tiny"),
    "overdue": program(TALKS, activeDeadlineSeconds=40),
    "again": program(FAILS, backoffLimit=1),
    "nopull": program("print('never')") | {"image": "missing"},
    "noprogram": program("print('never')") | {"image": "foreign"},
    "nowhere": pool(nodePool="nowhere"),
    "nodask": pool() | {"image": "foreign"},
    "crashes": pool() | {"env": [{"name": "PYTHONHOME", "value": "/nowhere"}]},
}
REFUSED: dict[str, tuple[Body, str, str]] = {
    "image": (program("0") | {"image": "nope"}, "UnknownImage", "choose one of: analysis, foreign, missing"),
    "size": (program("0", size="vast"), "UnknownSize", "choose one of: gpu, medium, small, tiny"),
    "pool": (pool(nodePool="moon"), "UnknownNodePool", "choose one of: cpu, gpu, nowhere"),
    "poolsize": (pool(size="vast"), "UnknownSize", "size 'vast' is not in profile"),
    "workers": (pool(workers={"min": 1, "max": 9}), "LimitExceeded", "at most 8"),
    "gpus": (pool(gpusPerWorker=1), "NoGPUs", "set gpusPerWorker: 0 or choose another nodePool"),
    "cache": (program("0") | {"xcache": {"size": "11Gi"}}, "LimitExceeded", "at most 10Gi"),
    "lifetime": (program("0") | {"lifetimeSeconds": 50_000}, "LimitExceeded", "at most 43200"),
}


@pytest.fixture(scope="module")
def profile(facility: demo.Facility) -> Iterator[str]:
    """The facility's catalogue with what makes sessions fail."""
    spec, images = catalogue.default_spec(), demo.image_references()
    wrong = [{"name": "missing", "image": "localhost:5000/nope:1"}, {"name": "foreign", "image": images["xcache"]}]
    changes = {
        "images": [*spec["images"], *wrong],
        "sizes": [*spec["sizes"], {"name": "tiny", "cpu": "50m", "memory": "192Mi"}],
        "nodePools": [*spec["nodePools"], {"name": "nowhere", "nodeSelector": {"example.org/nowhere": "true"}}],
    }
    with catalogue.profile(**changes) as name:
        yield name


@pytest.fixture(scope="module")
def broken(shared_tenant: Tenant, profile: str) -> Tenant:
    """Every session of both tables."""
    for name, spec in (SESSIONS | {n: s for n, (s, _, _) in REFUSED.items()}).items():
        shared_tenant.apply(name, {**spec, "profile": profile})
    return shared_tenant


def ended(tenant: Tenant, name: str) -> tuple[Body, Body, str]:
    """Return session, condition and kept log of a run, once it has ended."""
    found = tenant.wait_condition(name, "RunComplete", seconds=SECONDS)
    kept = poll(lambda: tenant.kubectl("get", "configmap", f"{name}-run-log", "-o", "json", check=False), "the log")
    return tenant.session(name), found, str(json.loads(kept)["data"]["log"])


def test_a_program_that_fails(broken: Tenant) -> None:
    session, found, log = ended(broken, "exit3")
    assert (found["reason"], found["message"]) == (
        "Failed",
        "the run ended with exit code 3: no muons in this file",
    )
    assert session["status"]["run"]["exitCode"] == 3
    assert session["status"]["run"]["attempts"] == 1
    assert session["status"]["phase"] == "Failed"
    assert {"begun", "no muons in this file"} <= set(log.splitlines())


def test_a_program_that_needs_more_memory(broken: Tenant) -> None:
    session, found, log = ended(broken, "oom")
    assert found["reason"] == "OOMKilled"
    assert "choose a larger size" in found["message"]
    assert session["status"]["run"]["exitCode"] == 137
    assert log.splitlines()[:1] == ["hungry"]


def test_a_program_that_is_tried_again(broken: Tenant) -> None:
    session, found, _ = ended(broken, "again")
    assert found["reason"] == "Failed"
    assert session["status"]["run"]["attempts"] == 2
    assert session["status"]["run"]["exitCode"] == 3
    assert "disruptions" not in session["status"]["run"]
    [pod] = pods(broken, "again")
    assert pod.startswith("pod/again-run-2-")


def test_an_image_without_the_runner(broken: Tenant) -> None:
    _, found, _ = ended(broken, "noprogram")
    words = 'the run ended with exit code 128: exec: "af-run": executable file not found in $PATH'
    assert (found["reason"], found["message"]) == ("Failed", words)


def test_an_image_that_cannot_be_pulled(broken: Tenant) -> None:
    for part in ("RunReady", "Ready"):
        found = broken.wait_condition("nopull", part, "False", SECONDS, reason="ImagePullBackOff")
        words = (
            "image localhost:5000/nope:1 cannot be pulled: not found; the profile names it: tell the facility's admin"
        )
        assert found["message"].endswith(f"container run: {words}")


def test_workers_that_no_node_takes(broken: Tenant) -> None:
    found = broken.wait_condition("nowhere", "DaskReady", "False", SECONDS, reason="Unschedulable")
    assert found["message"].startswith("pool cpu: 0 of at least 1 workers ready: 0/1 nodes are available")
    assert "didn't match Pod's node affinity/selector" in found["message"]


def test_an_image_without_dask(broken: Tenant) -> None:
    found = broken.wait_condition("nodask", "DaskReady", "False", SECONDS, reason="CrashLoopBackOff")
    assert found["message"].startswith("scheduler: container scheduler ended with exit code 127: ")
    assert found["message"].endswith("exec dask failed: No such file or directory (again and again)")


def test_a_scheduler_that_crashes_keeps_one_reason(broken: Tenant) -> None:
    """While it is started again and again, the session does not flip between reasons."""
    broken.wait_condition("crashes", "DaskReady", "False", SECONDS, reason="CrashLoopBackOff")
    seen = set()

    def restarted(session: Body) -> bool:
        seen.add(condition(session, "DaskReady")["reason"])
        labels = "analysisfacility.io/role=scheduler,analysisfacility.io/session=crashes"
        status = json.loads(broken.kubectl("get", "pods", "-l", labels, "-o", "json"))
        counts = [c["restartCount"] for p in status["items"] for c in p["status"].get("containerStatuses", ())]
        return any(count >= 3 for count in counts)

    poll(lambda: restarted(broken.session("crashes")), "the scheduler is started for the third time", 90)
    found = condition(broken.session("crashes"), "DaskReady")
    assert seen == {"CrashLoopBackOff"}
    assert found["message"].startswith("scheduler: container scheduler ended with exit code 1: ")


def test_a_program_that_takes_too_long(broken: Tenant) -> None:
    session, found, log = ended(broken, "overdue")
    assert found["reason"] == session["status"]["run"]["reason"] == "DeadlineExceeded"
    assert "activeDeadlineSeconds (40)" in found["message"]
    assert "begun" in log
    poll(lambda: not pods(broken, "overdue"), "its pod is gone")


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_profile_does_not_have(broken: Tenant, name: str) -> None:
    _, reason, words = REFUSED[name]
    found = broken.wait_condition(name, "Accepted", "False", reason=reason)
    assert words in found["message"]
    session = broken.session(name)
    assert session["status"]["phase"] == "Refused"
    assert condition(session, "Ready")["reason"] == reason
    assert not broken.children(session["metadata"]["uid"])


def test_a_quota_that_is_too_small(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "small", "--hard=pods=1")
    poll(lambda: "pods" in tenant.kubectl("get", "quota", "small", "-o", "jsonpath={.status.hard}"), "the quota counts")
    tenant.apply("over", pool())
    found = tenant.wait_condition("over", "DaskReady", "False", SECONDS, reason="QuotaTooSmall")
    assert "never fits: exceeded quota: small, requested: pods=2, limited: pods=1" in found["message"]
    assert json.loads(tenant.kubectl("get", "pods", "-o", "json"))["items"] == [], "it holds nothing"


def test_a_profile_that_comes_later(tenant: Tenant) -> None:
    name = catalogue.new_name()
    tenant.apply("early", program("print('at last')") | {"profile": name})
    found = tenant.wait_condition("early", "Accepted", "False", reason="ProfileNotFound")
    assert f"there is no AnalysisProfile '{name}'" in found["message"]
    with catalogue.profile(name):
        tenant.wait_condition("early", "Accepted", seconds=20)
        tenant.wait_condition("early", "RunComplete", reason="Succeeded")


def test_a_profile_that_goes(tenant: Tenant) -> None:
    """What runs goes on to its end, which is told as ever."""
    with catalogue.profile() as name:
        tenant.apply("late", program("import time; time.sleep(12)") | {"profile": name, "dask": DASK})
        tenant.wait_condition("late", "RunReady", reason="Running")
    tenant.wait_condition("late", "Accepted", "False", reason="ProfileNotFound", seconds=10)
    assert tenant.session("late")["status"]["phase"] == "Running"
    tenant.wait_condition("late", "RunComplete", reason="Succeeded")
    assert tenant.session("late")["status"]["run"]["exitCode"] == 0
    poll(lambda: len(pods(tenant, "late")) == 1, "the compute is gone, and the pod of the run is there")


def pods(tenant: Tenant, name: str) -> list[str]:
    """Return the names of a session's pods."""
    names = kubectl("-n", tenant.namespace, "get", "pods", "-l", f"analysisfacility.io/session={name}", "-o", "name")
    return names.split()
