"""What an object refers to, and in which order and whether things are made."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator.components import shipped
from af_operator.model import Body, Kind, Manifest, ObjectRef
from af_operator.references import GRANTED, held_back, references, waves

CM, SECRET, CLAIM = "ConfigMap", "Secret", "PersistentVolumeClaim"
DASK = "kubernetes.dask.org/v1"


def core(kind: str, name: str) -> ObjectRef:
    return ObjectRef("v1", kind, name)


def body(kind: str, name: str = "x", api_version: str = "v1", **more: Any) -> Body:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "physics"}, **more}


def pod(name: str = "x", **spec: Any) -> Body:
    return body("Pod", name, spec={"containers": [], **spec})


def mounting(name: str, *others: str) -> Manifest:
    return Manifest(pod(name, volumes=[{"name": "v", "configMap": {"name": other}} for other in others]))


def config_map(name: str) -> Manifest:
    return Manifest(body(CM, name))


def container(**more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", **more}]}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"volumes": [{"name": "v", "configMap": {"name": "a"}}]}, core(CM, "a")),
        ({"volumes": [{"name": "v", "configMap": {"name": "a", "optional": True}}]}, core(CM, "a")),
        ({"volumes": [{"name": "v", "secret": {"secretName": "a"}}]}, core(SECRET, "a")),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}]}, core(CLAIM, "a")),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "a"}}]}}]}, core(CM, "a")),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "a"}}]}}]}, core(SECRET, "a")),
        ({"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "a"}}}]}, core(SECRET, "a")),
        (container(envFrom=[{"configMapRef": {"name": "a"}}]), core(CM, "a")),
        (container(envFrom=[{"secretRef": {"name": "a", "optional": True}}]), core(SECRET, "a")),
        (container(env=[{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "k"}}}]), core(CM, "a")),
        (container(env=[{"name": "E", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}}]), core(SECRET, "a")),
        ({"initContainers": [{"name": "c", "envFrom": [{"secretRef": {"name": "a"}}]}]}, core(SECRET, "a")),
        ({"imagePullSecrets": [{"name": "a"}]}, core(SECRET, "a")),
        ({"serviceAccountName": "a"}, core("ServiceAccount", "a")),
        (container(env=[{"name": "E", "value": "root://a.physics.svc.cluster.local:1096//"}]), core("Service", "a")),
        (container(args=["--to", "a.physics.svc"]), core("Service", "a")),
    ],
)
def test_what_a_pod_refers_to(spec: dict[str, Any], found: ObjectRef) -> None:
    assert references(pod(**spec)) == {found}
    inside = {"spec": {"containers": [], **spec}}
    for whole in (
        body("Job", api_version="batch/v1", spec={"template": inside}),
        body("DaskWorkerGroup", api_version=DASK, spec={"worker": inside}),
    ):
        assert references(whole) == {found}
    cluster = body("DaskCluster", "c", DASK, spec={"scheduler": inside, "worker": {"replicas": 0}})
    assert references(cluster) == {found, core("Service", "c-scheduler")}


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "configMap", "emptyDir": {}}]},
        {"nodeSelector": {"configMap": "a", "secret": "b"}},
        container(env=[{"name": "configMap", "value": "a"}, {"name": "E", "value": "a.other.svc.cluster.local"}]),
        container(args=["a.physics.svcs", "-a.physics.svc", f"{'a' * 64}.physics.svc", "9a.physics.svc"]),
    ],
)
def test_what_looks_like_a_reference_and_is_none(spec: dict[str, Any]) -> None:
    assert references(pod(**spec)) == set()


def rbac(kind: str, **more: Any) -> Body:
    return body(kind, api_version="rbac.authorization.k8s.io/v1", **more)


def rule(group: str, resource: str, *resource_names: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": [resource], "resourceNames": [*resource_names], "verbs": ["get"]}


def test_what_a_role_grants() -> None:
    assert references(rbac("Role", rules=[rule("", "secrets", "a"), rule("", "configmaps", "b", "c")])) == {
        core(SECRET, "a"),
        core(CM, "b"),
        core(CM, "c"),
    }
    assert references(rbac("Role", rules=[rule("batch", "jobs", "a")])) == {ObjectRef("batch/v1", "Job", "a")}
    assert core(SECRET, "a") in references(rbac("Role", rules=[rule("*", "*", "a")]))
    everything = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
    assert references(rbac("Role", rules=[everything, rule("apps", "secrets", "a")])) == set()
    assert references(rbac("Role")) == set()


def test_the_pod_that_a_role_grants_is_its_stateful_sets() -> None:
    found = references(rbac("Role", rules=[rule("", "pods/portforward", "nb-0")]))
    assert found == {core("Pod", "nb-0"), ObjectRef("apps/v1", "StatefulSet", "nb")}


def test_what_a_role_binding_binds() -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subjects = [
        {"kind": "User", "name": "alice"},
        {"kind": "ServiceAccount", "name": "a"},
        {"kind": "ServiceAccount", "name": "b", "namespace": "other"},
    ]
    assert references(rbac("RoleBinding", roleRef=role, subjects=subjects)) == {
        ObjectRef("rbac.authorization.k8s.io/v1", "Role", "r"),
        core("ServiceAccount", "a"),
    }
    assert references(rbac("RoleBinding", roleRef={**role, "kind": "ClusterRole"})) == set()


def test_fields_that_name_another_object() -> None:
    group = body("DaskWorkerGroup", api_version=DASK, spec={"cluster": "c", "worker": {}})
    assert references(group) == {ObjectRef(DASK, "DaskCluster", "c"), core("Service", "c-scheduler")}
    replicas = body("StatefulSet", api_version="apps/v1", spec={"serviceName": "s", "template": {}})
    assert references(replicas) == {core("Service", "s")}


def names(found: list[list[Manifest]]) -> list[list[str]]:
    return [[m.ref.name for m in wave] for wave in found]


def test_what_others_refer_to_comes_first_and_the_rest_at_the_same_time() -> None:
    given = [mounting("p", "a", "b"), config_map("a"), mounting("q", "elsewhere"), config_map("b")]
    assert names(waves(given)) == [["a", "q", "b"], ["p"]]
    assert waves([]) == []


def chain(length: int) -> list[Manifest]:
    """Return pods each of which says the address of the one before, as if it had a Service of its name."""
    service = Manifest(body("Service", "s0", spec={}))
    later = [
        Manifest(body("Service", f"s{n}", spec=container(args=[f"s{n - 1}.physics.svc"]))) for n in range(1, length)
    ]
    return [*reversed(later), service]


def test_through_others() -> None:
    given = chain(4)
    assert names(waves(given)) == [["s0"], ["s1"], ["s2"], ["s3"]]
    s1, s2, s3 = (core("Service", f"s{n}") for n in (1, 2, 3))
    assert held_back(given, {s1}) == {s2: s1, s3: s1}
    assert held_back(given, set()) == {}


def test_wave_by_wave_says_the_same_as_all_at_once() -> None:
    given, taken = chain(6), core("Service", "s2")
    at_once = held_back(given, {taken})
    gone = {taken}
    for wave in waves(given):
        gone |= held_back(wave, gone).keys()
    assert gone == {taken, *at_once}


def cycle(*order: int) -> list[Manifest]:
    back = {0: 2, 1: 0, 2: 1}
    return [Manifest(body("Service", f"s{n}", spec=container(args=[f"s{back[n]}.physics.svc"]))) for n in order]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_cycle_hangs_nothing(order: tuple[int, ...]) -> None:
    itself = Manifest(body("Service", "self", spec=container(args=["self.physics.svc"])))
    after = Manifest(pod("after", **container(args=["s1.physics.svc"])))
    given = [*cycle(*order), itself, after]
    found = waves(given)
    assert sorted(m.ref.name for wave in found for m in wave) == ["after", "s0", "s1", "s2", "self"]
    where = {m.ref.name: index for index, wave in enumerate(found) for m in wave}
    assert where["s1"] < where["after"]
    assert set(held_back(given, {core("Service", "s0")})) == {
        core("Service", "s1"),
        core("Service", "s2"),
        core("Pod", "after"),
    }


@pytest.mark.parametrize("rest", [{"replicas": 0}, {"suspend": True}])
def test_what_is_to_stop_is_never_held_back_but_not_made_either(rest: dict[str, Any]) -> None:
    template = {"template": {"spec": {"containers": [], "volumes": [{"configMap": {"name": "a"}}]}}}
    stops = Manifest(body("StatefulSet", api_version="apps/v1", spec={**rest, **template}))
    runs = Manifest(body("StatefulSet", api_version="apps/v1", spec={"replicas": 1, "suspend": False, **template}))
    taken = core(CM, "a")
    assert held_back([stops], {taken}) == {stops.ref: taken}
    assert held_back([stops], {taken}, live={stops.ref}) == {}
    assert held_back([runs], {taken}, live={runs.ref}) == {runs.ref: taken}


def test_a_role_may_grant_every_kind_that_a_component_makes() -> None:
    """Of a kind that is not in it, a Role could grant somebody else's object of a name that is taken."""
    made = {kind for component in shipped() for kind in (*component.KINDS, *component.SHARED)}
    assert made <= set(GRANTED)


@pytest.mark.parametrize("kind", [kind for kind in GRANTED if kind.kind != "Role"], ids=lambda kind: kind.kind)
def test_what_a_role_grants_by_name_is_referred_to(kind: Kind) -> None:
    group = kind.api_version.rpartition("/")[0]
    rule = {"apiGroups": [group], "resources": [f"{kind.plural}/status"], "resourceNames": ["a"], "verbs": ["get"]}
    role = body("Role", "r", "rbac.authorization.k8s.io/v1", rules=[rule])
    assert references(role) == {ObjectRef(kind.api_version, kind.kind, "a")}
