"""What a session's user changes or lets happen: suspend, resume, lifetimes, pools."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.tenant import DASK, HEADLESS, Body, Tenant, condition, poll

TALKS = "print('begun', flush=True); import time; time.sleep(600)"
POOL = DASK["pools"][0]
POD_LABELS = "analysisfacility.io/session={},analysisfacility.io/component={}"


def run(text: str, **more: Any) -> Body:
    """Return a headless session that runs some Python."""
    return {**HEADLESS, "run": {"command": ["python", "-c", text]}, **more}


@pytest.fixture(scope="module")
def living(shared_tenant: Tenant) -> Tenant:
    """A namespace with a bare cluster and a run that does not end; they come up while the first test runs."""
    shared_tenant.apply("idle", {"user": "admin", "mode": "Interactive", "dask": DASK})
    shared_tenant.apply("mortal", run(TALKS, dask=DASK))
    return shared_tenant


def pods(tenant: Tenant, name: str, component: str = "dask") -> dict[str, str]:
    """Return name -> uid of the pods of one component of a session that nobody has asked to go."""
    labels = POD_LABELS.format(name, component)
    found = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in found if "deletionTimestamp" not in p["metadata"]}


def workers(tenant: Tenant, pool: str) -> dict[str, str]:
    """Return name -> uid of a pool's worker pods."""
    return {name: uid for name, uid in pods(tenant, "idle").items() if f"-{pool}-" in name}


def test_a_finished_session_goes_after_its_ttl(living: Tenant) -> None:
    uid = living.apply("brief", run("print('done')", ttlSecondsAfterFinished=3))["metadata"]["uid"]
    living.wait_condition("brief", "RunComplete", reason="Succeeded")
    poll(lambda: "NotFound" in living.kubectl("get", "afs", "brief", check=False), "it is gone", 30)
    poll(lambda: not living.children(uid), "everything of it is gone", 30)


def test_a_session_whose_lifetime_is_over(living: Tenant) -> None:
    living.wait_condition("mortal", "RunReady", reason="Running")
    created = datetime.fromisoformat(living.session("mortal")["metadata"]["creationTimestamp"])
    seconds = int((datetime.now(UTC) - created).total_seconds()) + 5
    living.patch("mortal", lifetimeSeconds=seconds)
    found = living.wait_condition("mortal", "RunComplete", reason="LifetimeExceeded")
    assert f"lifetime of {seconds} s is over" in found["message"]
    session = living.session("mortal")
    assert session["status"]["phase"] == "Failed"
    assert session["status"]["run"]["reason"] == "LifetimeExceeded"
    poll(lambda: not pods(living, "mortal") and not pods(living, "mortal", "run"), "its compute is gone")
    log = json.loads(living.kubectl("get", "configmap", "mortal-run-log", "-o", "json"))["data"]["log"]
    assert "begun" in log


def test_a_bare_dask_cluster(living: Tenant) -> None:
    living.wait_condition("idle", "Ready")
    session = living.session("idle")
    assert session["status"]["phase"] == "Ready"
    assert session["status"]["components"]["dask"]["pools"] == {"cpu": {"ready": 1, "desired": 1}}
    assert set(session["status"]["endpoints"]) == {"dask", "dashboard"}
    assert not condition(session, "RunComplete")


def test_a_pool_grows_in_place(living: Tenant) -> None:
    before = workers(living, "cpu")
    assert len(before) == 1
    edit(living, POOL | {"workers": {"min": 2, "max": 2}})
    await_pools(living, {"cpu": 2})
    after = workers(living, "cpu")
    assert len(after) == 2
    assert before.items() <= after.items(), "the worker that was there is there"


def test_a_pool_comes_and_goes(living: Tenant) -> None:
    scheduler = {n: u for n, u in pods(living, "idle").items() if "scheduler" in n}
    before = workers(living, "cpu")
    edit(living, POOL | {"workers": {"min": 2, "max": 2}}, POOL | {"name": "more", "size": "medium"})
    await_pools(living, {"cpu": 2, "more": 1})
    assert len(workers(living, "more")) == 1
    edit(living, POOL | {"workers": {"min": 2, "max": 2}})
    await_pools(living, {"cpu": 2})
    poll(lambda: not workers(living, "more"), "the pool's worker is gone")
    assert workers(living, "cpu") == before
    assert scheduler.items() <= pods(living, "idle").items()


def test_a_bare_cluster_is_suspended_and_resumed(living: Tenant) -> None:
    living.patch("idle", suspend=True)
    living.wait_condition("idle", "Suspended")
    poll(lambda: not pods(living, "idle"), "its compute is gone")
    assert living.session("idle")["status"]["phase"] == "Suspended"
    living.patch("idle", suspend=False)
    living.wait_condition("idle", "Ready")
    assert condition(living.session("idle"), "Suspended")["status"] == "False"


def test_a_run_that_is_suspended_starts_anew(shared_tenant: Tenant) -> None:
    """Its source is a ConfigMap of the user's, so that the second start can end."""
    tenant = shared_tenant
    tenant.kubectl("create", "configmap", "program", f"--from-literal=main.py={TALKS}")
    source = {"command": ["python", "main.py"], "source": {"configMap": "program"}}
    cache = {"placement": "Session", "size": "1Gi"}
    tenant.apply("pause", {**HEADLESS, "run": source, "dask": DASK, "xcache": cache})
    tenant.wait_condition("pause", "RunReady", reason="Running")
    kept, first = pods(tenant, "pause", "xcache"), tenant.session("pause")["status"]["run"]["pod"]

    tenant.patch("pause", suspend=True)
    tenant.wait("pause", lambda s: s["status"]["phase"] == "Suspended", what="suspended")
    poll(lambda: not pods(tenant, "pause") and not pods(tenant, "pause", "run"), "its compute is gone")
    # Its template names no Dask now, and none can be edited: it is made anew.
    jobs = ("get", "jobs", "--output=jsonpath={.items[?(@.metadata.name=='pause-run')].spec.suspend}")
    poll(lambda: tenant.kubectl(*jobs) == "true", "a Job is there that does not run")
    assert pods(tenant, "pause", "xcache") == kept, "what was cached stays"

    tenant.kubectl("patch", "configmap", "program", "-p", json.dumps({"data": {"main.py": "print('the end')"}}))
    tenant.patch("pause", suspend=False)
    tenant.wait_condition("pause", "RunComplete", reason="Succeeded")
    session = tenant.session("pause")
    assert session["status"]["run"]["pod"] != first
    log = json.loads(tenant.kubectl("get", "configmap", "pause-run-log", "-o", "json"))["data"]["log"]
    assert "the end" in log
    assert "begun" not in log
    poll(lambda: not pods(tenant, "pause", "xcache"), "the cache goes with the end")


def edit(tenant: Tenant, *pools: Body) -> None:
    """Give the idle session these pools."""
    tenant.patch("idle", dask={"pools": list(pools)})


def await_pools(tenant: Tenant, wanted: dict[str, int]) -> None:
    """Wait until exactly these pools have that many workers, and the session is ready."""

    def there(session: Body) -> bool:
        found = session["status"].get("components", {}).get("dask", {}).get("pools", {})
        ready = condition(session, "Ready")["status"] == "True"
        return ready and found == {name: {"ready": count, "desired": count} for name, count in wanted.items()}

    tenant.wait("idle", there, what=f"pools {wanted}")
