"""The Hub's connection to an API server, on the real one and on the fake one of the unit tests: both do the same."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import af_names
from af_client.errors import Forbidden, Invalid, NameTaken, NotFound
from af_client.hub.sessions import HubSessions, NameConflict, NotSuspended, Ref
from af_client.hub.transport import AsyncCluster
from af_client.model import API_VERSION, KIND
from af_kube.request import Request
from af_names import SESSION_UID
from local_cluster import facility
from local_cluster.api import Kubectl
from local_cluster.progress import Progress
from local_cluster.settings import KUBECONFIG, LOCAL
from tests.support.fake_api import FakeApi
from tests.support.spawner_bench import until

RBAC = "rbac.authorization.k8s.io/v1"
SPEC: dict[str, Any] = {
    "profile": "nobody-offers-this",
    "user": "alice",
    "mode": "Interactive",
    "suspend": True,
    "notebook": {"serverName": "z"},
}


@dataclass(frozen=True)
class World:
    """What the Hub has, with its account's rights; and an admin's connection."""

    sessions: HubSessions
    admin: Any
    namespace: str

    async def made(self, name: str) -> Ref:
        """Create a session as the Hub does."""
        await self.sessions.ready()
        return Ref.of((await self.sessions.create(self.namespace, name, SPEC)).body)

    async def readable(self, name: str, *secrets: str) -> None:
        """Give the Hub the right to Secrets, as the operator does for a session that has a notebook."""
        account = {"kind": "ServiceAccount", "name": "hub", "namespace": facility.SYSTEM_NAMESPACE}
        rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [*secrets], "verbs": ["get"]}
        role = {"apiGroup": RBAC.partition("/")[0], "kind": "Role", "name": name}
        for kind, said in (("Role", {"rules": [rule]}), ("RoleBinding", {"roleRef": role, "subjects": [account]})):
            body = {"apiVersion": RBAC, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}, **said}
            path = f"/apis/{RBAC}/namespaces/{self.namespace}/{kind.lower()}s"
            await self.admin.call(Request("POST", path, body=body))

    async def secret_of(self, ref: Ref) -> dict[str, Any]:
        """Return the Secret of the Hub's name for a session, whosever it is."""
        path = f"/api/v1/namespaces/{ref.namespace}/secrets/{af_names.hub_secret(ref.name)}"
        return dict(await self.admin.call(Request("GET", path)))


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of the Hub's account: the chart's policies are about that one."""
    kubectl = Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)
    facility.install_chart(Progress(), kubectl, facility.image_references(), dask_operator=True)
    path = tmp_path_factory.mktemp("hub") / "kubeconfig"
    return facility.write_user_kubeconfig(kubectl, path, facility.SYSTEM_NAMESPACE, "hub")


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.cluster, pytest.mark.timeout(600)])])
async def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    if request.param == "fake":
        fake = FakeApi()
        connections, world = [], World(HubSessions(fake, ["physics"]), fake, "physics")
    else:
        namespace = request.getfixturevalue("namespace")
        mine, admin = connections = [AsyncCluster(), AsyncCluster()]
        for api, kubeconfig in ((mine, "account"), (admin, "kubeconfig")):
            monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue(kubeconfig)))
            await api.call(Request("GET", "/version"))  # it reads the file when it is first used
        world = World(HubSessions(mine, [namespace]), admin, namespace)
    yield world
    await world.sessions.close()
    for api in connections:
        await api.close()


async def test_the_life_of_a_session(hub: World) -> None:
    sessions = hub.sessions
    ref = await hub.made("life")
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


async def test_the_watch_tells_what_others_do(hub: World) -> None:
    sessions = hub.sessions
    ref = await hub.made("watched")
    path = f"/apis/analysisfacility.io/v1alpha1/namespaces/{hub.namespace}/analysissessions/watched"
    patch = [{"op": "add", "path": "/spec/suspend", "value": False}]
    await hub.admin.call(Request("PATCH", path, body=patch, content_type="application/json-patch+json"))
    await until(lambda: not sessions.get(ref).suspended)  # type: ignore[union-attr]
    await hub.admin.call(Request("DELETE", path))
    await until(lambda: sessions.get(ref) is None)
    assert sessions.fresh


async def test_what_the_environment_no_longer_says_goes(hub: World) -> None:
    sessions = hub.sessions
    ref = await hub.made("secret")
    await hub.readable("secret", af_names.hub_secret("secret"), af_names.notebook("secret"))
    await sessions.write_environment(ref, {"JUPYTERHUB_API_TOKEN": "first-token", "OLD": "1"})
    assert await sessions.token(ref) == "first-token"
    await sessions.write_environment(ref, {"JUPYTERHUB_API_TOKEN": "second-token", "ÄÖ".encode("idna").decode(): "ü\n"})
    found = await hub.secret_of(ref)
    assert "OLD" not in found["data"]
    assert base64.b64decode(found["data"]["JUPYTERHUB_API_TOKEN"]) == b"second-token"
    assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [ref.uid]
    assert found["metadata"]["labels"][SESSION_UID] == ref.uid
    await sessions.delete(ref)


@pytest.mark.parametrize("whose", ["nobody's", "another session's", "nobody's, for good"])
async def test_a_secret_of_somebody_else_is_left_as_it_is(hub: World, whose: str) -> None:
    sessions = hub.sessions
    name = "met-" + uuid4().hex[:8]
    other = await hub.made(f"{name}-other")
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": other.name, "uid": other.uid}
    metadata = {"name": af_names.hub_secret(name), "namespace": hub.namespace}
    metadata |= {"ownerReferences": [owner]} if "another" in whose else {}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "immutable": "for good" in whose}
    await hub.admin.call(Request("POST", f"/api/v1/namespaces/{hub.namespace}/secrets", body=secret))
    ref = await hub.made(name)
    before = await hub.secret_of(ref)
    with pytest.raises(NameConflict):
        await sessions.write_environment(ref, {"JUPYTERHUB_API_TOKEN": "ours"})
    assert await hub.secret_of(ref) == before
    for each in (ref, other):
        await sessions.delete(each)


async def test_a_server_that_was_begun_without_the_hub_has_the_token_of_its_notebook(hub: World) -> None:
    """Its Role names no other Secret: whether the Hub's is there, the Hub is not told."""
    ref = await hub.made("by-kubectl")
    await hub.readable("by-kubectl", af_names.notebook("by-kubectl"))
    assert await hub.sessions.token(ref) is None
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": ref.name, "uid": ref.uid, "controller": True}
    metadata = {"name": af_names.notebook(ref.name), "ownerReferences": [owner], "labels": {SESSION_UID: ref.uid}}
    data = {"JUPYTERHUB_API_TOKEN": base64.b64encode(b"of-the-notebook").decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    await hub.admin.call(Request("POST", f"/api/v1/namespaces/{hub.namespace}/secrets", body=secret))
    assert await hub.sessions.token(ref) == "of-the-notebook"
    await hub.sessions.delete(ref)


async def test_where_nothing_may_be_read_it_is_said(hub: World) -> None:
    ref = await hub.made("closed")
    await hub.readable("closed", "something-else")
    with pytest.raises(Forbidden):
        await hub.sessions.token(ref)
    await hub.sessions.delete(ref)


async def test_a_name_that_is_taken(hub: World) -> None:
    ref = await hub.made("taken")
    with pytest.raises(NameTaken):
        await hub.made("taken")
    await hub.sessions.delete(ref)


async def test_another_session_of_the_name_is_left_alone(hub: World) -> None:
    sessions = hub.sessions
    old = await hub.made("again")
    await sessions.delete(old)
    new = await hub.made("again")
    await hub.readable("again", af_names.hub_secret("again"), af_names.notebook("again"))
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
