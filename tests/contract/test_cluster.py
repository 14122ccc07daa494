"""The port's verbs: the same tests on the fake and on the real API server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client as sync_client
from kubernetes import dynamic, watch

from af_kube import credentials
from af_kube.connection import Connection
from af_kube.request import Request
from af_operator import names, ownership
from af_operator.cluster import Cluster, KubernetesCluster
from af_operator.components import shipped
from af_operator.errors import Gone, NameConflict, OurBug, Refused, Unavailable
from af_operator.model import Kind, LogRequest, Notice, ObjectRef, SessionRef
from af_operator.world import World
from tests.support.fake_cluster import FakeCluster

# No such profile: an operator that is there as well takes nothing away of a session that it cannot plan.
SPEC = {"profile": "there-is-none", "user": "alice", "mode": "Interactive"}
SESSION = {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisSession"}


@dataclass
class Bed:
    """A port, and a way round it to put things in and look at them."""

    cluster: Cluster
    namespace: str
    store: Callable[[dict[str, Any]], dict[str, Any]]
    get: Callable[[str, str], dict[str, Any] | None]
    put: Callable[[Mapping[str, Any]], object]

    def session(self, name: str = "s") -> SessionRef:
        body = {**SESSION, "metadata": {"name": name, "namespace": self.namespace}, "spec": SPEC}
        return SessionRef(self.namespace, name, self.store(body)["metadata"]["uid"])

    def config_map(self, session: SessionRef, name: str, **data: str) -> dict[str, Any]:
        owner = {**SESSION, "name": session.name, "uid": session.uid, "controller": True, "blockOwnerDeletion": True}
        metadata = {"name": name, "namespace": self.namespace, "ownerReferences": [owner]}
        metadata["labels"] = {names.SESSION_UID: session.uid}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def of_user(self, user: str, **data: str) -> dict[str, Any]:
        metadata = {"name": "shared", "namespace": self.namespace, "annotations": {names.USER: user}}
        metadata["labels"] = {names.USER: user}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def fake_bed() -> Bed:
    fake = FakeCluster()
    get = lambda kind, name: fake.objects.get((kind, "contract", name))  # noqa: E731
    return Bed(fake, "contract", fake.store, get, lambda body: fake._put("MODIFIED", dict(body)))


@asynccontextmanager
async def real_bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    kubeconfig, api_client = request.getfixturevalue("kubeconfig"), request.getfixturevalue("api_client")
    assert request.getfixturevalue("server"), "the CRDs are installed"
    core, kinds = sync_client.CoreV1Api(api_client), dynamic.DynamicClient(api_client)
    namespace = core.create_namespace({"metadata": {"generateName": "contract-"}}).metadata.name

    def resource(kind: str) -> Any:
        return kinds.resources.get(
            api_version="v1" if kind in ("ConfigMap", "Secret") else SESSION["apiVersion"], kind=kind
        )

    def store(body: dict[str, Any]) -> dict[str, Any]:
        return dict(resource(body["kind"]).create(body, namespace=namespace).to_dict())

    def get(kind: str, name: str) -> dict[str, Any] | None:
        try:
            return dict(resource(kind).get(name=name, namespace=namespace).to_dict())
        except dynamic.exceptions.NotFoundError:
            return None

    def put(body: Mapping[str, Any]) -> object:
        return resource(body["kind"]).replace(dict(body), namespace=namespace)

    async with connected(kubeconfig) as api:
        yield Bed(KubernetesCluster(api, World(shipped()).kinds), namespace, store, get, put)
    core.delete_namespace(namespace)


@asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator[Connection]:
    api = Connection(partial(credentials.kubeconfig, kubeconfig))
    yield api
    await api.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    if request.param == "fake":
        yield fake_bed()
        return
    async with real_bed(request) as real:
        yield real


@pytest.fixture
async def real(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with real_bed(request) as found:
        yield found


async def fails(error: type[Exception], doing: Awaitable[Any]) -> str:
    with pytest.raises(error) as caught:
        await doing
    assert type(caught.value) is error
    return str(caught.value)


def at(made: Mapping[str, Any], body: dict[str, Any], **data: str) -> dict[str, Any]:
    """Return what says of this very object that its data shall be this."""
    return {**body, "metadata": {**body["metadata"], "uid": made["metadata"]["uid"]}, "data": data}


async def test_create_makes_and_an_apply_of_the_same_changes_nothing(bed: Bed) -> None:
    body = bed.config_map(bed.session(), "c", a="1")
    first = await bed.cluster.create(body)
    assert ownership.our_entries(first)
    second = await bed.cluster.apply(at(first, body, a="1"))
    assert (second["data"], second["metadata"]["uid"]) == ({"a": "1"}, first["metadata"]["uid"])
    third = await bed.cluster.apply(at(first, body, a="1"))
    assert second["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]
    assert ownership.our_entries(third)


async def test_what_a_user_shares_is_made_once_and_taken_as_it_is(bed: Bed) -> None:
    first = await bed.cluster.create(bed.of_user("alice", a="1"))
    second = await bed.cluster.create(bed.of_user("alice", a="2"))
    assert (second["data"], second["metadata"]["uid"]) == ({"a": "1"}, first["metadata"]["uid"])
    words = await fails(NameConflict, bed.cluster.create(bed.of_user("bob", a="3")))
    assert "shared" in words


async def test_what_is_not_of_the_operator_is_not_taken_for_a_users(bed: Bed) -> None:
    bed.store(bed.of_user("alice", a="1"))
    await fails(NameConflict, bed.cluster.create(bed.of_user("alice", a="1")))


async def test_apply_changes_what_differs(bed: Bed) -> None:
    body = bed.config_map(bed.session(), "c", a="1")
    made = await bed.cluster.create(body)
    await bed.cluster.apply(at(made, body, a="2"))
    stored = bed.get("ConfigMap", "c")
    assert stored is not None
    assert stored["data"] == {"a": "2"}


@pytest.mark.parametrize("verb", ["apply", "overwrite"])
async def test_a_change_is_of_this_very_object(bed: Bed, verb: str) -> None:
    body = bed.config_map(bed.session(), "c", a="1")
    made = await bed.cluster.create(body)
    other = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}
    await fails(Unavailable, getattr(bed.cluster, verb)(at(other, body, a="2")))
    assert (await getattr(bed.cluster, verb)(at(made, body, a="2")))["data"] == {"a": "2"}


async def test_overwrite_takes_away_what_is_null(bed: Bed) -> None:
    body = bed.config_map(bed.session(), "c", a="1")
    made = await bed.cluster.create(body)
    bed.put({**made, "data": {"a": "1", "added": "by hand"}})
    wanted = at(made, body, a="1")
    assert (await bed.cluster.overwrite({**wanted, "data": {"a": "1", "added": None}}))["data"] == {"a": "1"}


async def test_an_apply_to_what_is_gone_makes_nothing(bed: Bed) -> None:
    body = bed.config_map(bed.session(), "c", a="1")
    made = await bed.cluster.create(body)
    await bed.cluster.delete(made)
    await fails(Unavailable, bed.cluster.apply(at(made, body, a="2")))
    assert bed.get("ConfigMap", "c") is None


async def test_creating_again_what_is_ours_is_no_conflict(bed: Bed) -> None:
    body = bed.config_map(bed.session(), "c", a="1")
    made = await bed.cluster.create(body)
    again = await bed.cluster.create({**body, "data": {"a": "2"}})
    assert (again["metadata"]["uid"], again["data"]) == (made["metadata"]["uid"], {"a": "1"})


@pytest.mark.parametrize("owned", [False, True])
async def test_a_name_that_somebody_else_took_is_a_conflict_and_stays_as_it_is(bed: Bed, owned: bool) -> None:
    """Also when they say that it is the session's: our account alone makes what counts as made by us."""
    wanted = bed.config_map(bed.session(), "c", a="1")
    metadata = wanted["metadata"] if owned else {"name": "c", "namespace": bed.namespace}
    bed.store({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"precious": "yes"}})
    await fails(NameConflict, bed.cluster.create(wanted))
    stored = bed.get("ConfigMap", "c")
    assert stored is not None
    assert stored["data"] == {"precious": "yes"}


async def test_delete_is_by_uid_and_twice_is_once(bed: Bed) -> None:
    made = await bed.cluster.create(bed.config_map(bed.session(), "c", a="1"))
    other = {**made, "metadata": {**made["metadata"], "uid": "00000000-0000-0000-0000-000000000000"}}
    await fails(Unavailable, bed.cluster.delete(other))
    assert bed.get("ConfigMap", "c") is not None
    await bed.cluster.delete(made)
    assert bed.get("ConfigMap", "c") is None
    await bed.cluster.delete(made)


async def test_a_session_is_read_by_uid(bed: Bed) -> None:
    session = bed.session()
    assert (await bed.cluster.read_session(session))["spec"]["user"] == "alice"
    await fails(Gone, bed.cluster.read_session(session._replace(uid="00000000-0000-0000-0000-000000000000")))
    await fails(Gone, bed.cluster.read_session(session._replace(name="gone")))


def status(**more: Any) -> dict[str, Any]:
    return {"observedGeneration": 1, "phase": "Starting", "conditions": [], **more}


async def test_the_status_is_replaced_as_a_whole(bed: Bed) -> None:
    session = bed.session()
    before = status(endpoints={"dask": "tcp://x:1", "dashboard": "http://x"})
    await bed.cluster.write_status(session, before)
    stored = await bed.cluster.write_status(session, status(endpoints={"dask": "tcp://y:1"}))
    assert stored["status"] == status(endpoints={"dask": "tcp://y:1"})
    stored = await bed.cluster.write_status(session, status())
    assert stored["status"] == status()


async def test_the_status_of_another_session_of_the_same_name_is_not_touched(bed: Bed) -> None:
    session = bed.session()._replace(uid="00000000-0000-0000-0000-000000000000")
    await fails(Gone, bed.cluster.write_status(session, status()))
    await fails(Gone, bed.cluster.write_status(session._replace(name="gone"), status()))


@pytest.fixture
def a_profile(bed: Bed, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Name and uid of a profile: they are cluster-wide, so it goes at the end."""
    name = f"contract-{uuid.uuid4().hex[:8]}"
    spec = {"images": [{"name": "a", "image": "a:1"}], "sizes": [{"name": "s", "cpu": "1", "memory": "1Gi"}]}
    kind = {"apiVersion": SESSION["apiVersion"], "kind": "AnalysisProfile"}
    made = bed.store({**kind, "metadata": {"name": name}, "spec": spec})
    yield name, made["metadata"]["uid"]
    if not isinstance(bed.cluster, FakeCluster):
        request.getfixturevalue("kubectl")("delete", "analysisprofile", name)


async def test_the_status_of_a_profile_is_replaced_and_its_generation_stays(
    bed: Bed, a_profile: tuple[str, str]
) -> None:
    name, uid = a_profile
    pools = [{"name": "gpu", "gpus": 2, "gpusFree": 1}]
    first = await bed.cluster.write_profile_status(name, uid, {"nodePools": pools, "gpus": "gpu 1 of 2 free"})
    assert first["status"] == {"nodePools": pools, "gpus": "gpu 1 of 2 free"}
    second = await bed.cluster.write_profile_status(name, uid, {})
    assert second.get("status", {}) == {}
    # What tells a change of the catalogue from one of its status.
    assert first["metadata"].get("generation") == second["metadata"].get("generation")
    await fails(Gone, bed.cluster.write_profile_status(name, "00000000-0000-0000-0000-000000000000", {}))
    await fails(Gone, bed.cluster.write_profile_status(f"{name}-gone", uid, {}))


async def test_delete_session_is_by_uid(bed: Bed) -> None:
    session = bed.session()
    other = session._replace(uid="00000000-0000-0000-0000-000000000000")
    await fails(Unavailable, bed.cluster.delete_session(other))
    await bed.cluster.delete_session(session)
    assert bed.get("AnalysisSession", "s") is None
    await bed.cluster.delete_session(session)


async def test_the_log_of_a_pod_that_is_gone(bed: Bed) -> None:
    await fails(Gone, bed.cluster.read_log(bed.session(), LogRequest("no-such-pod", "run", 10)))


async def test_an_event_is_recorded(bed: Bed) -> None:
    await bed.cluster.record(bed.session(), Notice("Warning", "UnknownImage", "choose from [...]"))


@pytest.mark.cluster
async def test_an_undeclared_field_is_our_bug(real: Bed) -> None:
    body = real.config_map(real.session(), "c", a="1") | {"dota": {}}
    assert "dota" in await fails(OurBug, real.cluster.create(body))


@pytest.mark.cluster
async def test_a_quota_is_a_refusal_in_the_servers_words(real: Bed, api_client: sync_client.ApiClient) -> None:
    core = sync_client.CoreV1Api(api_client)
    core.create_namespaced_resource_quota(
        real.namespace, {"metadata": {"name": "none"}, "spec": {"hard": {"count/configmaps": "0"}}}
    )
    for event in watch.Watch().stream(core.list_namespaced_resource_quota, real.namespace, timeout_seconds=30):
        if event["object"].status.hard:
            break
    said = await fails(Refused, real.cluster.create(real.config_map(real.session(), "c", a="1")))
    assert "exceeded quota: none" in said


@pytest.mark.cluster
async def test_kinds_that_are_not_installed_are_named(real: Bed) -> None:
    known, unknown = Kind("v1", "Pod", "pods"), Kind("kubernetes.dask.org/v9", "DaskCluster", "daskclusters")
    port = real.cluster
    assert isinstance(port, KubernetesCluster)
    assert await port.missing([known, unknown]) == ["daskclusters.kubernetes.dask.org/v9"]
    assert await port.missing(World(shipped()).kinds) == []


@asynccontextmanager
async def nowhere(fence: Callable[[], float] = lambda: 30.0) -> AsyncIterator[KubernetesCluster]:
    async def load() -> credentials.Credentials:
        return credentials.ServiceAccount("http://127.0.0.1:1", True, Path("/dev/null"))

    api = Connection(load)
    yield KubernetesCluster(api, World(shipped()).kinds, fence)
    await api.close()


async def test_an_unreachable_server_is_unavailable() -> None:
    async with nowhere() as port:
        doing = port.read_log(SessionRef("a", "b", "c"), LogRequest("p", "c", 1))
        assert "127.0.0.1" in await fails(Unavailable, doing)


async def test_of_a_log_the_last_lines_are_read_and_of_them_the_end() -> None:
    asked: list[Request] = []

    class Api:
        async def read(self, request: Request) -> bytes:
            asked.append(request)
            return b"no branch Muon_pt"

        lines = Connection.lines

    port = KubernetesCluster(Api(), World(shipped()).kinds)  # type: ignore[arg-type]
    assert await port.read_log(SessionRef("a", "b", "c"), LogRequest("p", "run", 200)) == "no branch Muon_pt"
    # limitBytes would cut off the end.
    assert (asked[0].query, asked[0].last_bytes) == ({"container": "run", "tailLines": "200"}, 262_144)


async def test_who_lost_the_lease_writes_nothing() -> None:
    def fence() -> float:
        raise Unavailable("the lease is not ours (any more)")

    async with nowhere(fence) as port:
        assert "lease" in await fails(Unavailable, port.write_status(SessionRef("a", "b", "c"), status()))


async def test_no_write_outlives_the_lease() -> None:
    asked: list[Request] = []

    class Api:
        async def read(self, request: Request) -> bytes:
            asked.append(request)
            return b"{}"

        lines = Connection.lines

    port = KubernetesCluster(Api(), World(shipped()).kinds, lambda: 4.2)  # type: ignore[arg-type]
    await port.write_status(SessionRef("a", "b", "c"), status())
    assert [request.read_seconds for request in asked] == [4.2]


async def test_metadata_is_read_without_what_is_in_the_object(bed: Bed) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"token": "c2VjcmV0"}}
    metadata = {"name": "others", "namespace": bed.namespace, "labels": {"a": "b"}}
    uid = bed.store({**secret, "metadata": metadata})["metadata"]["uid"]
    found = await bed.cluster.read_metadata(bed.namespace, ObjectRef("v1", "Secret", "others"))
    assert found is not None
    assert (found["metadata"]["uid"], found["metadata"]["labels"]) == (uid, {"a": "b"})
    assert "data" not in found
    assert await bed.cluster.read_metadata(bed.namespace, ObjectRef("v1", "Secret", "none")) is None
