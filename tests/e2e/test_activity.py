"""When sessions were last used: their status says so of a run, a notebook and Dask."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from local_cluster import facility as demo
from tests.support.hub_api import HubUser
from tests.support.tenant import DASK, HEADLESS, Body, Tenant, poll

STEP = 300
"""Seconds to which it is said."""
COMPUTES = "from dask.distributed import Client; print(Client('tls://127.0.0.1:8786').submit(sum, [1, 2]).result())"
TOLD_SECONDS = 120
"""The agent is asked once a minute, the Hub each fifteen seconds, and the write waits for company."""


@pytest.fixture(scope="module")
def alice(facility: demo.Facility) -> HubUser:
    return HubUser.login(facility.hub, "alice", facility.hub_password)


def said(body: Body) -> datetime | None:
    found = body.get("status", {}).get("lastActivity")
    return datetime.fromisoformat(found) if found else None


def told(body: Body, used: datetime) -> datetime:
    """Return what the status says of something that was used then."""
    step = datetime.fromtimestamp(used.timestamp() // STEP * STEP, UTC)
    return max(step, datetime.fromisoformat(body["metadata"]["creationTimestamp"]))


def test_a_run_was_used_when_it_began_and_when_it_ended(tenant: Tenant) -> None:
    waits = "import pathlib, time\nwhile not pathlib.Path('stop').exists(): time.sleep(0.2)"
    tenant.apply("run", {**HEADLESS, "run": {"command": ["python", "-c", waits]}})
    tenant.wait_condition("run", "RunReady", reason="Running")
    goes_on = tenant.wait("run", said, 60, "last activity")
    assert said(goes_on) == told(goes_on, datetime.fromisoformat(goes_on["status"]["run"]["startTime"]))
    tenant.kubectl("exec", "job/run-run", "--container=run", "--", "touch", "stop")
    tenant.wait_condition("run", "RunComplete", reason="Succeeded")
    over = tenant.session("run")
    assert said(over) == told(over, datetime.fromisoformat(over["status"]["run"]["completionTime"]))


def test_dask_was_used_when_its_scheduler_last_had_something_to_compute(tenant: Tenant) -> None:
    tenant.apply("dask", {"user": "admin", "mode": "Interactive", "dask": DASK})
    tenant.wait_condition("dask", "Ready")
    begun = tenant.wait("dask", said, TOLD_SECONDS, "the agent says when it began")
    assert said(begun) in _steps(begun, datetime.now(UTC))
    before = datetime.now(UTC)
    assert tenant.kubectl("exec", "deployment/dask-scheduler", "--", "python", "-c", COMPUTES).strip() == "3"
    used = tenant.wait("dask", lambda body: (said(body) or before) >= told(body, before), TOLD_SECONDS, "it computed")
    assert said(used) in _steps(used, datetime.now(UTC))
    tenant.patch("dask", suspend=True)
    tenant.wait_condition("dask", "Suspended")
    assert said(tenant.session("dask")) == said(used), "it stays said"


def test_a_notebook_was_used_when_the_hub_saw_it_used(tenant: Tenant, alice: HubUser) -> None:
    name = f"act-{uuid.uuid4().hex[:6]}"  # her servers are one list over all namespaces
    spec = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {"size": "small"}}
    tenant.apply(name, spec)
    tenant.wait_condition(name, "HubRegistered", seconds=120, reason="Registered")
    used = datetime.now(UTC)
    activity = {"servers": {name: {"last_activity": used.isoformat()}}}
    alice.hub("POST", "/activity", json=activity).raise_for_status()
    body = tenant.wait(name, said, TOLD_SECONDS, "the Hub's word is told")
    assert said(body) == told(body, used)
    tenant.kubectl("delete", "analysissession", name)
    poll(lambda: alice.server(name).get("stopped", True), "the Hub shows the server as stopped", 60)


def _steps(body: Body, now: datetime) -> set[datetime]:
    """Return all that may be said of a session from its creation to now."""
    created = datetime.fromisoformat(body["metadata"]["creationTimestamp"])
    first, last = int(created.timestamp() // STEP), int(now.timestamp() // STEP)
    return {max(created, datetime.fromtimestamp(step * STEP, UTC)) for step in range(first, last + 1)}
