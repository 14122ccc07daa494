"""A session that was applied by kubectl appears in its user's JupyterHub; without JupyterHub it works all the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_cluster import facility as demo
from tests.support.hub_api import HubUser
from tests.support.tenant import Body, Tenant, condition, kubectl, poll

pytestmark = pytest.mark.timeout(420)

SYSTEM = f"--namespace={demo.SYSTEM_NAMESPACE}"
AWAY_SECONDS = 60
"""Two polls that fail, and the write that waits for company."""
BACK_SECONDS = 120
"""The Hub's start, and a poll."""


@pytest.fixture(scope="module")
def alice(facility: demo.Facility) -> HubUser:
    return HubUser.login(facility.hub, "alice", facility.hub_password)


@pytest.fixture
def name() -> str:
    """A server of alice's that no other test has: her servers are one list over all namespaces."""
    return f"reg-{uuid.uuid4().hex[:6]}"


def notebook(user: str = "alice", **more: str) -> Body:
    return {"profile": "default", "user": user, "mode": "Interactive", "notebook": {"size": "small", **more}}


@contextmanager
def hub_away() -> Iterator[None]:
    kubectl(SYSTEM, "scale", "deployment/hub", "--replicas=0")
    try:
        kubectl(SYSTEM, "wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=hub", "--timeout=60s")
        yield
    finally:
        kubectl(SYSTEM, "scale", "deployment/hub", "--replicas=1")
        kubectl(SYSTEM, "rollout", "status", "deployment/hub", "--timeout=120s")


def registered(tenant: Tenant, name: str, seconds: float = BACK_SECONDS) -> Body:
    return tenant.wait_condition(name, "HubRegistered", "True", seconds, reason="Registered")


def pod_uid(tenant: Tenant, name: str) -> str:
    return tenant.kubectl("get", "pod", f"{name}-notebook-0", "--output=jsonpath={.metadata.uid}")


def test_a_session_by_kubectl_is_in_its_users_list(tenant: Tenant, alice: HubUser, name: str) -> None:
    tenant.apply(name, notebook())
    said = registered(tenant, name)
    assert said["message"] == f"shown in JupyterHub as server {name!r} of user 'alice'"
    server = alice.ready(name)
    assert server["url"] == f"/user/alice/{name}/"
    assert server["user_options"] == {}, "nothing is said in the user's name"
    assert alice.notebook("GET", name, "api/status")["kernels"] == 0, "the Hub lets its user in"
    generation = tenant.session(name)["metadata"]["generation"]
    assert generation == 1, "adopted as it is: nobody has edited it"
    everywhere = json.loads(kubectl("get", "analysissessions", "--all-namespaces", "--output=json"))["items"]
    assert [s["metadata"]["namespace"] for s in everywhere if name in s["metadata"]["name"]] == [tenant.namespace]

    tenant.kubectl("delete", "analysissession", name)
    poll(lambda: alice.server(name).get("stopped", True), "the Hub shows the server as stopped", 60)


def test_stopped_in_the_hub_is_suspended_and_resumed_by_kubectl_is_shown_again(
    tenant: Tenant, alice: HubUser, name: str
) -> None:
    tenant.apply(name, notebook())
    registered(tenant, name)
    alice.ready(name)
    alice.stop(name)
    tenant.wait_condition(name, "HubRegistered", "False", 60, reason="Suspended")
    assert tenant.session(name)["spec"]["suspend"] is True
    tenant.patch(name, suspend=False)
    poll(lambda: alice.server(name).get("ready"), "the resumed session is in the Hub again", BACK_SECONDS)
    registered(tenant, name)


@pytest.mark.alone  # it takes the Hub away
def test_without_the_hub_a_session_is_ready_and_is_registered_when_it_is_back(
    tenant: Tenant, alice: HubUser, name: str
) -> None:
    before, during = name, f"{name}-b"
    tenant.apply(before, notebook())
    registered(tenant, before)
    pod = pod_uid(tenant, before)
    with hub_away():
        tenant.apply(during, notebook())
        tenant.wait_condition(during, "Ready")
        away = tenant.wait_condition(during, "HubRegistered", "False", AWAY_SECONDS, reason="HubUnavailable")
        assert "does not answer" in away["message"]
        assert f"`af open {during}`" in away["message"]
        tenant.wait_condition(before, "HubRegistered", "False", AWAY_SECONDS, reason="HubUnavailable")
        assert condition(tenant.session(before), "Ready")["status"] == "True"
    for each in (before, during):
        registered(tenant, each)
        assert alice.ready(each)["url"] == f"/user/alice/{each}/"
    assert pod_uid(tenant, before) == pod, "what ran has not noticed"


def test_a_user_whom_the_hub_does_not_know_is_told_so(tenant: Tenant, name: str) -> None:
    nobody = f"nobody-{uuid.uuid4().hex[:6]}"
    tenant.apply(name, notebook(nobody))
    tenant.wait_condition(name, "Ready")
    said = tenant.wait_condition(name, "HubRegistered", "False", 60, reason="UnknownUser")
    assert repr(nobody) in said["message"]
    assert "logged in" in said["message"]


def test_two_sessions_for_one_server_are_told_apart(tenant: Tenant, alice: HubUser, name: str) -> None:
    tenant.apply(name, notebook())
    registered(tenant, name)
    other = f"{name}-b"
    tenant.apply(other, notebook(serverName=name))
    said = tenant.wait_condition(other, "HubRegistered", "False", 60, reason="NameTaken")
    assert f"session {tenant.namespace}/{name}" in said["message"]
    tenant.wait_condition(other, "Ready")
    assert alice.ready(name)["url"] == f"/user/alice/{name}/"
