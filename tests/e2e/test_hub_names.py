"""Names that others have taken in a shared namespace: the Hub's user comes in, and what is theirs stays theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import af_names
from af_client.hub import names
from tests.support.hub_api import HubUser
from tests.support.hub_place import Hub, sessions_of
from tests.support.tenant import API, Body, Tenant, kubectl

USER = "nora"
FIRST, SECOND = names.session_names(USER, "lab")


@pytest.fixture
def nora(hub: Hub, physics: Tenant) -> Iterator[HubUser]:
    """Somebody who has nothing yet."""
    with hub.users(physics, USER) as [user]:
        yield user


@pytest.fixture
def alice(physics: Tenant) -> str:
    """Who shares the namespace, and may make sessions in it."""
    return f"--kubeconfig={physics.facility.user_kubeconfig}"


def session_of_alice(name: str) -> Body:
    user = "system:serviceaccount:physics:alice"
    spec = {
        "profile": "default",
        "user": user,
        "mode": "Interactive",
        "suspend": True,
        "notebook": {"serverName": "lab"},
    }
    return {
        "apiVersion": API,
        "kind": "AnalysisSession",
        "metadata": {"name": name, "namespace": "physics"},
        "spec": spec,
    }


def made(body: Body, *by: str) -> str:
    """Make an object; return its uid."""
    text = kubectl("create", "--filename=-", "--output=json", *by, stdin=json.dumps(body))
    return str(json.loads(text)["metadata"]["uid"])


def the_one(nora: HubUser, physics: Tenant) -> Body:
    """Return nora's only session, whose server she is let into."""
    assert nora.notebook("GET", "lab", "api/status")["kernels"] == 0
    [session] = sessions_of(physics, USER)
    return session


def test_sessions_of_another_under_all_names_that_can_be_foreseen(nora: HubUser, physics: Tenant, alice: str) -> None:
    for name in (FIRST, SECOND):
        made(session_of_alice(name), alice)
    try:
        nora.launch("lab")
        nora.ready("lab")
        found = the_one(nora, physics)["metadata"]["name"]
        assert names.made_here(found, USER, "lab")
        assert found not in (FIRST, SECOND)
        for name in (FIRST, SECOND):
            assert physics.session(name)["spec"]["suspend"] is True
    finally:
        physics.kubectl("delete", "analysissession", FIRST, SECOND)


def test_children_of_another_under_the_sessions_names(nora: HubUser, physics: Tenant) -> None:
    secret: Body = {"apiVersion": "v1", "kind": "Secret", "stringData": {"JUPYTERHUB_API_TOKEN": "known-to-mallory"}}
    secret["metadata"] = {"name": af_names.hub_secret(FIRST), "namespace": "physics"}
    service: Body = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 8888}], "selector": {"a": "b"}}}
    service["metadata"] = {"name": af_names.notebook(SECOND), "namespace": "physics"}
    uids = {(each["kind"], each["metadata"]["name"]): made(each) for each in (secret, service)}
    try:
        nora.launch("lab")
        nora.ready("lab")
        found = the_one(nora, physics)["metadata"]["name"]
        assert names.made_here(found, USER, "lab")
        assert found not in (FIRST, SECOND)
        own = physics.kubectl("get", "secret", af_names.hub_secret(found), "--output=jsonpath={.metadata.labels}")
        assert af_names.SESSION_UID in own
        for (kind, name), uid in uids.items():
            assert physics.kubectl("get", kind, name, "--output=jsonpath={.metadata.uid}") == uid, "not ours to touch"
        kept = json.loads(physics.kubectl("get", "secret", af_names.hub_secret(FIRST), "--output=json"))
        assert list(kept["data"]) == ["JUPYTERHUB_API_TOKEN"]
    finally:
        for kind, name in uids:
            physics.kubectl("delete", kind, name)
