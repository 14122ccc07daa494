"""What the Dask operator's account may write: what dask-kubernetes makes of a session's DaskCluster, little else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dask_kubernetes.operator.controller import controller
from rich.console import Console

from local_cluster.control_plane import ControlPlane, control_plane
from local_cluster.processes import poll
from local_cluster.progress import Progress
from tests.contract import test_operator_objects, test_operator_pods
from tests.contract.test_operator_objects import changed, golden, simple
from tests.support.bounded import LABEL, OWNER, SYSTEM, TENANT, UID, Body, Bounded, bounded

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
CASES = [case for case in test_operator_objects.CASES if any(b["kind"] == "DaskCluster" for b in golden(case))]
DASK = "kubernetes.dask.org/v1"
LABELS = {LABEL: UID}
KINDS = "makes and deletes Deployments, makes Services and groups"
SESSIONS = "touches nothing but what belongs to a session"
OWNED = "nothing but what a DaskCluster or a group of one owns"
CHANGED = "changes no spec, but how many workers a group has"
SERVICES = "makes no Service but those of type ClusterIP"
SELECTED = "selects no pods but those of the session that the object belongs to"
NOWHERE = "writes nothing in namespace"


@pytest.fixture(scope="module")
def control() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True))) as found:
        yield found


@pytest.fixture(scope="module")
def plane(control: ControlPlane) -> Iterator[Bounded]:
    with bounded(control, {"daskOperator": {"enabled": True}}) as found:
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
        assert found.admin.create({**priority, "metadata": {"name": "analysis"}}, keep=True) == ""
        token = changed(made("Deployment"), ("spec/template/spec/automountServiceAccountToken", True))
        assert poll(lambda: "af-operator-dask-pods" in found.dask.create(token), 60)
        assert poll(lambda: KINDS in found.dask.create(simple("ConfigMap")), 60)
        yield found


def owner(kind: str = "DaskCluster", api_version: str = DASK) -> Body:
    found = {"apiVersion": api_version, "kind": kind, "name": "c1", "uid": "1-2-3"}
    return {**found, "controller": True, "blockOwnerDeletion": True}


def made(kind: str) -> Body:
    """Return the least that the Dask operator makes of this kind."""
    return changed(simple(kind), ("metadata/ownerReferences/0", owner()))


def of(body: Body, kind: str = "DaskCluster") -> Body:
    metadata = {**body["metadata"], "namespace": TENANT, "ownerReferences": [owner(kind)]}
    return {**body, "metadata": metadata}


@pytest.mark.parametrize("case", CASES)
def test_what_dask_kubernetes_makes_of_a_session_is_made_and_deleted(plane: Bounded, case: str) -> None:
    """By its own functions: what a new version of it makes, it must be let make."""
    bodies = golden(case)
    [cluster] = [body for body in bodies if body["kind"] == "DaskCluster"]
    groups = [body for body in bodies if body["kind"] == "DaskWorkerGroup"]
    name, labels, spec = cluster["metadata"]["name"], cluster["metadata"]["labels"], cluster["spec"]
    scheduler = spec["scheduler"]
    worker = copy.deepcopy(groups[0]["spec"]["worker"]["spec"])
    made = [
        of(controller.build_scheduler_deployment_spec(name, scheduler["spec"], {}, labels)),
        of(controller.build_scheduler_service_spec(name, scheduler["service"], {}, labels)),
        of(controller.build_default_worker_group_spec(name, spec["worker"], {}, labels)),
        of(
            controller.build_worker_deployment_spec(
                groups[0]["metadata"]["name"], TENANT, name, "0123456789", worker, {}, labels
            ),
            "DaskWorkerGroup",
        ),
    ]
    for body in made:
        assert plane.dask.create(body, keep=True) == "", body["kind"]
    for body in made:
        deleted = plane.dask.delete(body)
        assert (deleted == "") if body["kind"] == "Deployment" else (KINDS in deleted)
        assert body["kind"] == "Deployment" or plane.admin.delete(body) == ""


def test_it_notes_and_adopts(plane: Bounded) -> None:
    kinds = ("DaskCluster", "DaskWorkerGroup", "Service")
    cluster, group, service = (changed(made(kind), ("metadata/name", "noted")) for kind in kinds)
    for body in (cluster, group, service):
        assert plane.admin.create(body, keep=True) == ""
        note = {"annotations": {"kopf.zalando.org/x": "{}"}, "finalizers": ["kopf.zalando.org/KopfFinalizerMarker"]}
        assert plane.dask.change({**body, "metadata": {**body["metadata"], **note}, "spec": {}}) == ""
    assert plane.dask.change({**group, "spec": {"worker": {"replicas": 0}}}) == ""
    assert plane.dask.change({**cluster, "status": {"phase": "Running"}, "spec": {}}) == ""
    assert plane.dask.delete(cluster) == ""


def test_it_adopts_a_group_that_the_operator_has_made(plane: Bounded) -> None:
    group = changed(simple("DaskWorkerGroup"), ("metadata/name", "adopted"))
    assert plane.operator.create(group, keep=True) == ""
    assert plane.dask.change(changed(group, ("metadata/ownerReferences/0", owner()))) == ""


STRAY: dict[str, tuple[Callable[[Body], Body], str]] = {
    "no label": (lambda b: changed(b, ("metadata/labels", {"app": "x"})), SESSIONS),
    "a label that is no uid": (lambda b: changed(b, ("metadata/labels", {LABEL: "zmumu"})), SESSIONS),
    "no owner": (lambda b: changed(b, ("metadata/ownerReferences", None)), OWNED),
    "not its controller": (lambda b: changed(b, ("metadata/ownerReferences/0/controller", None)), OWNED),
    "a session's own": (lambda b: changed(b, ("metadata/ownerReferences/0", OWNER)), OWNED),
    "owned by something of another group": (
        lambda b: changed(b, ("metadata/ownerReferences/0/apiVersion", "example.org/v1")),
        OWNED,
    ),
}


@pytest.mark.parametrize("kind", ["Deployment", "Service", "DaskWorkerGroup"])
@pytest.mark.parametrize("how", STRAY)
def test_only_what_is_a_sessions_by_its_cluster(plane: Bounded, kind: str, how: str) -> None:
    change, words = STRAY[how]
    stray = change(changed(made(kind), ("metadata/name", "stray")))
    assert plane.dask.create(made(kind)) == plane.admin.create(stray) == ""
    assert words in plane.dask.create(stray)
    if kind == "Deployment":
        assert plane.admin.create(stray, keep=True) == ""
        assert words in plane.dask.delete(stray)
        assert plane.admin.delete(stray) == ""


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret", "Role", "RoleBinding", "StatefulSet", "Job", "DaskCluster"])
def test_it_makes_nothing_of_other_kinds(plane: Bounded, kind: str) -> None:
    assert plane.admin.create(made(kind)) == ""
    assert KINDS in plane.dask.create(made(kind))


def test_it_makes_no_pods_by_itself_and_no_sessions(plane: Bounded) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": made("ConfigMap")["metadata"],
        "spec": test_operator_objects.POD,
    }
    session = {
        "apiVersion": "analysisfacility.io/v1alpha1",
        "kind": "AnalysisSession",
        "metadata": {"name": "x", "namespace": TENANT, "labels": LABELS},
        "spec": {"user": "x", "mode": "Headless", "run": {"command": ["true"]}},
    }
    for body in (pod, session):
        assert plane.admin.create(body) == ""
        assert KINDS in plane.dask.create(body)


@pytest.mark.parametrize("namespace", [SYSTEM, "kube-system"])
def test_not_where_there_are_no_sessions(plane: Bounded, namespace: str) -> None:
    elsewhere = changed(made("Deployment"), ("metadata/namespace", namespace))
    assert plane.admin.create(elsewhere) == ""
    assert f"{NOWHERE} '{namespace}'" in plane.dask.create(elsewhere)


@pytest.mark.parametrize(
    ("kind", "path", "wrong", "words"),
    [
        ("Service", "spec/type", "NodePort", SERVICES),
        ("Service", "spec/externalIPs", ["192.0.2.1"], SERVICES),
        ("Service", "spec/selector", {"app": "database"}, SELECTED),
        ("Service", "spec/selector", {"dask.org/cluster-name": "of-another"}, SELECTED),
        ("Deployment", "spec/selector/matchLabels", {"app": "x"}, SELECTED),
    ],
)
def test_it_draws_no_traffic_and_no_pods(plane: Bounded, kind: str, path: str, wrong: Any, words: str) -> None:
    body = changed(made(kind), (path, wrong))
    assert plane.dask.create(made(kind)) == plane.admin.create(body) == ""
    assert words in plane.dask.create(body)


CHANGES: dict[str, tuple[str, str, Any, str]] = {
    "a scheduler": ("DaskCluster", "spec/idleTimeout", 3, CHANGED),
    "workers' image": ("DaskWorkerGroup", "spec/worker/spec/containers/0/image", "evil", CHANGED),
    "whose workers": ("DaskWorkerGroup", "spec/cluster", "c2", CHANGED),
    "a selector": ("Service", "spec/selector", {LABEL: UID, "app": "y"}, CHANGED),
    "a finalizer": ("DaskCluster", "metadata/finalizers", ["example.org/never"], CHANGED),
    "an owner": ("Service", "metadata/ownerReferences", [owner("ConfigMap", "v1")], OWNED),
    "one more owner": ("Service", "metadata/ownerReferences", [owner(), {**OWNER, "controller": False}], CHANGED),
    "whose it is": ("DaskCluster", "metadata/labels", {LABEL: UID.replace("5", "6")}, SESSIONS),
    "that it is anybody's": ("DaskCluster", "metadata/labels", {LABEL: None}, SESSIONS),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_there_stays_as_it_is(plane: Bounded, what: str) -> None:
    kind, path, value, words = CHANGES[what]
    name = what.replace(" ", "-").replace("'", "")
    body = changed(made(kind) if kind == "Service" else simple(kind), ("metadata/name", name))
    assert plane.admin.create(body, keep=True) == ""
    assert words in plane.dask.change(changed(body, (path, value)))
    assert plane.dask.change(changed(body, ("metadata/annotations", {"kopf.zalando.org/x": "1"}))) == ""


def test_a_cluster_of_an_earlier_version_gets_its_service(plane: Bounded) -> None:
    component = {"dask.org/cluster-name": "c1", "dask.org/component": "scheduler"}
    assert plane.dask.create(changed(made("Service"), ("spec/selector", component))) == ""


def test_deployments_are_not_changed(plane: Bounded) -> None:
    body = changed(made("Deployment"), ("metadata/name", "kept"))
    assert plane.dask.create(body, keep=True) == ""
    assert KINDS in plane.dask.change(changed(body, ("spec/replicas", 2)))


ROWS = [
    (row, kind)
    for row, kind in test_operator_pods.ROWS
    if kind in ("Deployment", "DaskWorkerGroup") and not row.path.startswith("ephemeralContainers")
]


@pytest.mark.parametrize(("row", "kind"), ROWS, ids=[f"{kind}-{row.path}-{n}" for n, (row, kind) in enumerate(ROWS)])
def test_its_pods_have_no_privilege_either(plane: Bounded, row: Any, kind: str) -> None:
    right, wrong = (
        changed(test_operator_pods.variant(kind, row.path, value), ("metadata/ownerReferences/0", owner()))
        for value in (row.accepted, row.refused)
    )
    assert plane.dask.create(right) == plane.admin.create(wrong) == ""
    said = plane.dask.create(wrong)
    assert "af-operator-dask-pods" in said
    assert row.words in said
