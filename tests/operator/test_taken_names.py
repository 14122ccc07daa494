"""Where a name is taken, what refers to it is not made; and whose an object is can be told from whose it says it is."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import names, references
from af_operator.memory import REFUSED_RETRY
from af_operator.model import Manifest, ObjectRef, ref_of
from tests.support.bench import PROFILE, SPEC, UNDER_DASK_KUBERNETES, Bench

pytestmark = pytest.mark.usefixtures("same_names")
ENGINES = pytest.mark.parametrize("profile", [PROFILE, UNDER_DASK_KUBERNETES], ids=["Native", "DaskKubernetes"])
LAB = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {}, "dask": SPEC["dask"]}
CACHED = {**SPEC, "xcache": {"placement": "Session"}}


async def planned(spec: dict[str, Any], profile: dict[str, Any] = PROFILE) -> dict[ObjectRef, dict[str, Any]]:
    """Return everything that a session makes, by what is said of it in templates."""
    bench = Bench(spec, profile)
    await bench.settle()
    return {ref_of(body): body for body in bench.made.values()}


def needs(made: dict[ObjectRef, dict[str, Any]], taken: ObjectRef) -> set[ObjectRef]:
    """Return what refers to an object, perhaps through others."""
    found, before = {taken}, set[ObjectRef]()
    while found != before:
        before = set(found)
        found |= {ref for ref, body in made.items() if references.references(body) & found}
    return found - {taken}


def squat(bench: Bench, ref: ObjectRef, **metadata: Any) -> dict[str, Any]:
    taken = {"name": ref.name, "namespace": "physics", **metadata}
    return bench.cluster.store({"apiVersion": ref.api_version, "kind": ref.kind, "metadata": taken})


@ENGINES
@pytest.mark.parametrize("spec", [SPEC, CACHED, LAB], ids=["run", "cache", "notebook"])
async def test_what_refers_to_a_taken_name_is_not_made_and_all_else_is(
    spec: dict[str, Any], profile: dict[str, Any]
) -> None:
    made = await planned(spec, profile)
    for taken in made:
        bench = Bench(spec, profile)
        foreign = squat(bench, taken)
        await bench.settle()
        there = {ref_of(body) for body in bench.made.values()}
        assert there == made.keys() - needs(made, taken), taken
        assert bench.cluster.objects[taken.kind, "physics", taken.name] == foreign


async def test_a_foreign_secret_is_readable_by_nobody_through_a_session() -> None:
    """The Role of a notebook would let its user read the Secret of its name, whoever has made that."""
    bench = Bench(LAB)
    squat(bench, ObjectRef("v1", "Secret", "zmumu-notebook"))
    await bench.settle()
    kinds = {kind for kind, _ in bench.made}
    assert not kinds & {"Role", "RoleBinding", "StatefulSet"}
    assert bench.condition("NotebookReady")["reason"] == "NameConflict"


@ENGINES
async def test_a_foreign_config_map_runs_in_no_scheduler(profile: dict[str, Any]) -> None:
    bench = Bench(profile=profile)
    squat(bench, ObjectRef("v1", "ConfigMap", "zmumu-dask-agent"))
    await bench.settle()
    assert not {kind for kind, _ in bench.made} & {"DaskCluster", "DaskWorkerGroup", "Deployment"}
    assert bench.condition("DaskReady")["reason"] == "NameConflict"


@ENGINES
@pytest.mark.parametrize("spec", [SPEC, LAB], ids=["run", "notebook"])
async def test_beside_a_foreign_service_nothing_connects_to_it(spec: dict[str, Any], profile: dict[str, Any]) -> None:
    """`Client()` finds its scheduler by that name, and so do workers: they would run what its owner sends."""
    bench = Bench(spec, profile)
    squat(bench, ObjectRef("v1", "Service", "zmumu-scheduler"))
    await bench.settle()
    assert not {kind for kind, _ in bench.made} & {"Job", "StatefulSet", "Pod", "DaskCluster", "DaskWorkerGroup"}
    dask = bench.condition("DaskReady")
    assert dask["reason"] == "NameConflict"
    assert "Service" in dask["message"]
    assert "zmumu-scheduler" in dask["message"]


async def test_a_service_of_the_dask_operators_is_the_sessions() -> None:
    bench = Bench(profile=UNDER_DASK_KUBERNETES)
    uid = bench.session["metadata"]["uid"]
    await bench.settle()
    cluster = bench.made["DaskCluster", "zmumu"]["metadata"]["uid"]
    labels = {names.SESSION_UID: uid, names.COMPONENT: "dask"}
    squat(
        bench,
        ObjectRef("v1", "Service", "zmumu-scheduler"),
        labels=labels,
        ownerReferences=[{"kind": "DaskCluster", "uid": cluster, "controller": True}],
    )
    bench.now += 2 * REFUSED_RETRY
    await bench.settle()
    assert bench.condition("DaskReady")["reason"] != "NameConflict"


@pytest.mark.parametrize("owner", [None, "other", "the session"])
async def test_what_others_call_as_the_hubs_secret_is_in_no_environment(owner: str | None) -> None:
    bench = Bench(LAB)
    uid = bench.session["metadata"]["uid"] if owner == "the session" else owner
    owners = [{"kind": "AnalysisSession", "uid": uid, "controller": True}] if owner else []
    squat(bench, ObjectRef("v1", "Secret", "zmumu-hub"), ownerReferences=owners)
    await bench.settle()
    assert hub_secrets(bench) == []


async def test_the_hubs_own_is_looked_at_once_for_each_start() -> None:
    bench, ref = Bench({**LAB, "suspend": True}), ObjectRef("v1", "Secret", "zmumu-hub")
    await bench.settle()
    assert bench.cluster.reads == []
    uid = bench.session["metadata"]["uid"]
    owner = {"kind": "AnalysisSession", "uid": uid, "controller": True}
    squat(bench, ref, labels={names.SESSION_UID: uid}, ownerReferences=[owner])
    bench.change(suspend=False)
    await bench.settle()
    assert hub_secrets(bench) == ["zmumu-hub"]
    await bench.settle()
    assert bench.cluster.reads == [ref]
    bench.change(suspend=True)
    await bench.settle()
    bench.change(suspend=False)
    await bench.settle()
    assert bench.cluster.reads == [ref, ref]


def hub_secrets(bench: Bench) -> list[str]:
    container = bench.made["StatefulSet", "zmumu-notebook"]["spec"]["template"]["spec"]["containers"][0]
    named = [each["secretRef"]["name"] for each in container["envFrom"]]
    assert "zmumu-notebook" in named
    return [name for name in named if name != "zmumu-notebook"]


async def test_once_the_name_is_free_all_of_it_is_made() -> None:
    made = await planned(SPEC)
    bench = Bench()
    squat(bench, ObjectRef("v1", "ConfigMap", "zmumu-dask-agent"))
    await bench.settle()
    del bench.cluster.objects["ConfigMap", "physics", "zmumu-dask-agent"]
    bench.now += REFUSED_RETRY
    await bench.settle()
    assert {ref_of(body) for body in bench.made.values()} == made.keys()


async def test_an_object_that_only_says_that_it_is_ours_is_not() -> None:
    """Its owner and its manager can be written by anyone who may make it; the label by the operators alone."""
    bench = Bench()
    uid = bench.session["metadata"]["uid"]
    owner = {"uid": uid, "controller": True}
    entry = {"manager": names.MANAGER, "operation": "Apply"}
    squat(bench, ObjectRef("v1", "ConfigMap", "zmumu-source"), ownerReferences=[owner], managedFields=[entry])
    await bench.settle()
    assert bench.condition("RunReady")["reason"] == "NameConflict"


@ENGINES
async def test_an_answer_that_was_lost_makes_nothing_twice(profile: dict[str, Any]) -> None:
    bench = Bench(profile=profile)
    await bench.settle()
    made = {ref_of(body): body["metadata"]["uid"] for body in bench.made.values()}
    bench.restart()
    for store in bench.world.children.values():  # the watch has told of none of it yet
        for key in store:
            store.drop(key, store.uid(key) or "", store.version(key))
    await bench.settle()
    assert {ref_of(body): body["metadata"]["uid"] for body in bench.made.values()} == made


def test_what_is_made_first_is_what_others_refer_to() -> None:
    secret = Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["get"]}
    role = Manifest(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "r"},
            "rules": [rule],
        }
    )
    assert references.waves([role, secret]) == [[secret], [role]]
