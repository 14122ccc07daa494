"""The Hub's connection to an API server, on the real one and on the fake one of the unit tests: both do the same."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

import af_names
from af_client.errors import Invalid, NameTaken, NotFound
from af_client.hub.sessions import HubSessions, NameConflict, NotSuspended, Ref
from af_client.hub.transport import AsyncCluster
from af_client.model import API_VERSION, KIND, Session
from af_kube.request import Request
from tests.support.fake_api import FakeApi
from tests.support.spawner_bench import until

SPEC: dict[str, Any] = {
    "profile": "nobody-offers-this",
    "user": "alice",
    "mode": "Interactive",
    "suspend": True,
    "notebook": {"serverName": "z"},
}


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def hub(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[HubSessions, Any, str]]:
    """What the Hub has, its connection, and a namespace."""
    if request.param == "fake":
        api, namespace = FakeApi(), "physics"
    else:
        monkeypatch.setenv("KUBECONFIG", request.getfixturevalue("kubeconfig"))
        request.getfixturevalue("server")  # the CRDs as they are in this checkout
        api, namespace = AsyncCluster(), request.getfixturevalue("namespace")
    sessions = HubSessions(api, [namespace])
    yield sessions, api, namespace
    await sessions.close()
    if isinstance(api, AsyncCluster):
        await api.close()


async def made(hub: tuple[HubSessions, Any, str], name: str) -> Session:
    sessions, _, namespace = hub
    await sessions.ready()
    return await sessions.create(namespace, name, SPEC)


async def secret_of(hub: tuple[HubSessions, Any, str], ref: Ref) -> dict[str, Any]:
    path = f"/api/v1/namespaces/{ref.namespace}/secrets/{af_names.hub_secret(ref.name)}"
    return dict(await hub[1].call(Request("GET", path)))


async def test_the_life_of_a_session(hub: tuple[HubSessions, Any, str]) -> None:
    sessions = hub[0]
    ref = Ref.of((await made(hub, "life")).body)
    found = sessions.find("alice", "z")
    assert found is not None
    assert (found.name, found.suspended) == ("life", True)
    assert not (await sessions.resume(ref)).suspended
    with pytest.raises(NotSuspended):
        await sessions.resume(ref)
    assert (await sessions.suspend(ref)).suspended
    await sessions.delete(ref)
    await sessions.delete(ref)  # twice is no error
    assert sessions.find("alice", "z") is None
    with pytest.raises(NotFound):
        await sessions.suspend(ref)


async def test_the_watch_tells_what_others_do(hub: tuple[HubSessions, Any, str]) -> None:
    sessions, api, namespace = hub
    ref = Ref.of((await made(hub, "watched")).body)
    path = f"/apis/analysisfacility.io/v1alpha1/namespaces/{namespace}/analysissessions/watched"
    patch = [{"op": "add", "path": "/spec/suspend", "value": False}]
    await api.call(Request("PATCH", path, body=patch, content_type="application/json-patch+json"))
    await until(lambda: not sessions.get(ref).suspended)  # type: ignore[union-attr]
    await api.call(Request("DELETE", path))
    await until(lambda: sessions.get(ref) is None)
    assert sessions.fresh


async def test_what_the_environment_no_longer_says_goes(hub: tuple[HubSessions, Any, str]) -> None:
    sessions = hub[0]
    ref = Ref.of((await made(hub, "secret")).body)
    await sessions.write_environment(ref, {"JUPYTERHUB_API_TOKEN": "first-token", "OLD": "1"})
    assert await sessions.token(ref) == "first-token"
    await sessions.write_environment(ref, {"JUPYTERHUB_API_TOKEN": "second-token", "ÄÖ".encode("idna").decode(): "ü\n"})
    found = await secret_of(hub, ref)
    assert "OLD" not in found["data"]
    assert base64.b64decode(found["data"]["JUPYTERHUB_API_TOKEN"]) == b"second-token"
    assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [ref.uid]
    assert found["metadata"]["labels"][af_names.SESSION_UID] == ref.uid
    await sessions.delete(ref)


@pytest.mark.parametrize("whose", ["nobody's", "another session's", "nobody's, for good"])
async def test_a_secret_of_somebody_else_is_left_as_it_is(hub: tuple[HubSessions, Any, str], whose: str) -> None:
    sessions, api, namespace = hub
    name = "met-" + uuid4().hex[:8]
    other = Ref.of((await made(hub, f"{name}-other")).body)
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": other.name, "uid": other.uid}
    metadata = {"name": af_names.hub_secret(name), "namespace": namespace}
    metadata |= {"ownerReferences": [owner]} if "another" in whose else {}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "immutable": "for good" in whose}
    await api.call(Request("POST", f"/api/v1/namespaces/{namespace}/secrets", body=secret))
    ref = Ref.of((await made(hub, name)).body)
    before = await secret_of(hub, ref)
    with pytest.raises(NameConflict):
        await sessions.write_environment(ref, {"JUPYTERHUB_API_TOKEN": "ours"})
    assert await secret_of(hub, ref) == before
    for each in (ref, other):
        await sessions.delete(each)


async def test_a_name_that_is_taken(hub: tuple[HubSessions, Any, str]) -> None:
    ref = Ref.of((await made(hub, "taken")).body)
    with pytest.raises(NameTaken):
        await made(hub, "taken")
    await hub[0].delete(ref)


async def test_another_session_of_the_name_is_left_alone(hub: tuple[HubSessions, Any, str]) -> None:
    sessions = hub[0]
    old = Ref.of((await made(hub, "again")).body)
    await sessions.delete(old)
    new = Ref.of((await made(hub, "again")).body)
    for change in (sessions.resume, sessions.suspend):
        with pytest.raises((NotSuspended, Invalid, NotFound)):
            await change(old)
    assert await sessions.token(old) is None
    await sessions.delete(new)


@pytest.mark.cluster
async def test_the_real_server_says_what_is_wrong(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    api = AsyncCluster()
    sessions = HubSessions(api)
    assert await asyncio.wait_for(sessions.ready(), 10)
    with pytest.raises(NotFound, match="namespace 'no-such-namespace'"):
        await sessions.create("no-such-namespace", "z", SPEC)
    with pytest.raises(Invalid, match="user"):
        await sessions.create("default", "z", {**SPEC, "user": "<script>"})
    await sessions.close()
    await api.close()
