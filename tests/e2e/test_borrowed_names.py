"""A session beside what somebody else has called as its own, and one that is held while it is deleted: by pods."""

from __future__ import annotations

import json

from tests.support.tenant import DASK, HEADLESS, Tenant, condition, poll

RUN = {"command": ["python", "-c", "import time; print('begun', flush=True); time.sleep(600)"]}
HOLD = "example.org/archive"
SECONDS = 120


def pods(tenant: Tenant, session: str) -> set[str]:
    """Return what the pods of a session are in it."""
    chosen = f"analysisfacility.io/session={session}"
    found = json.loads(tenant.kubectl("get", "pods", "-l", chosen, "-o", "json"))["items"]
    labels = (body["metadata"]["labels"] for body in found)
    return {each.get("analysisfacility.io/role", each["analysisfacility.io/component"]) for each in labels}


def hold(tenant: Tenant, session: str, *finalizers: str) -> None:
    patch = json.dumps({"metadata": {"finalizers": [*finalizers]}})
    tenant.kubectl("patch", "analysissession", session, "--type=merge", "-p", patch)


def test_a_run_beside_a_foreign_scheduler_waits_and_one_that_is_held_stops(shared_tenant: Tenant) -> None:
    tenant = shared_tenant
    tenant.kubectl("create", "service", "clusterip", "taken-scheduler", "--tcp=8786")
    tenant.apply("taken", {**HEADLESS, "run": RUN, "dask": DASK})
    found = tenant.wait_condition("taken", "DaskReady", status="False", reason="NameConflict")
    assert "Service" in found["message"]
    assert "'taken-scheduler' exists and is not this session's" in found["message"]
    poll(lambda: pods(tenant, "taken") == {"scheduler"}, "nothing else is there: no worker, no run")
    assert "taken-run" not in tenant.kubectl("get", "jobs", "-o", "name")

    tenant.kubectl("delete", "service", "taken-scheduler")
    tenant.wait_condition("taken", "RunReady", reason="Running")
    assert pods(tenant, "taken") == {"scheduler", "worker", "run"}

    hold(tenant, "taken", HOLD)
    tenant.kubectl("delete", "analysissession", "taken", "--wait=false")
    poll(lambda: not pods(tenant, "taken"), "its compute is gone", SECONDS)
    held = tenant.wait("taken", lambda s: HOLD in condition(s, "Ready").get("message", ""), what="told what holds it")
    assert held["metadata"]["deletionTimestamp"]
    hold(tenant, "taken")
    poll(lambda: "taken" not in tenant.kubectl("get", "analysissessions", "-o", "name"), "it is gone")
