"""What pods the operator's account may make: each thing that it may not, beside the same without it, of every kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from local_cluster.control_plane import control_plane
from local_cluster.progress import Progress
from tests.support.bounded import LABEL, TENANT, UID, Body, Bounded, bounded, owned

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
POLICY = "af-operator-own-pods"
ABSENT = object()
LABELS = {LABEL: UID}

TOKEN = "no right in the API"
VOLUMES = "no volumes but configMap, emptyDir, secret"
NODE = "none of their node's namespaces"
PLACE = "choose no node by its name"
SECURITY = "say runAsNonRoot and seccompProfile RuntimeDefault"
CONTEXT = "is root, or has a profile"
PRIVILEGE = "have no privilege"
PROBE = "probed at their own address"

CORE = ("Pod", "Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet", "ReplicaSet", "ReplicationController")
DASK = ("scheduler", "worker", "DaskWorkerGroup")
EVERY = CORE + DASK


class Row(NamedTuple):
    """One thing that is refused, where it stands, and what may stand there instead."""

    path: str
    refused: Any
    accepted: Any
    words: str
    kinds: tuple[str, ...] = EVERY


def volume(**source: Any) -> Body:
    return {"name": "more", **source}


def claim(name: str, **more: bool) -> Body:
    return volume(persistentVolumeClaim={"claimName": name, **more})


TOKEN_SOURCE = {"serviceAccountToken": {"path": "token"}}
CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
OF_PODS = [
    Row("automountServiceAccountToken", True, False, TOKEN),
    Row("automountServiceAccountToken", ABSENT, False, TOKEN),
    Row("serviceAccountName", "builder", "default", TOKEN),
    Row("serviceAccount", "builder", "default", TOKEN, EVERY[1:]),  # in a pod the other name of it counts
    Row("volumes.0", volume(hostPath={"path": "/"}), volume(emptyDir={}), VOLUMES),
    Row("volumes.0", volume(projected={"sources": [TOKEN_SOURCE]}), volume(secret={"secretName": "s"}), VOLUMES),
    Row("volumes.0", volume(nfs={"server": "s", "path": "/"}), volume(configMap={"name": "c"}), VOLUMES),
    Row("volumes.0", volume(csi={"driver": "d"}), volume(emptyDir={"medium": "Memory"}), VOLUMES),
    Row("volumes.0", volume(ephemeral={"volumeClaimTemplate": CLAIM}), volume(emptyDir={}), VOLUMES),
    Row("volumes.0", claim("database"), claim("home-alice"), VOLUMES),
    Row("volumes.0", claim("database", readOnly=True), claim("models-cms", readOnly=True), VOLUMES),
    Row("volumes.0", claim("models-cms"), claim("cvmfs", readOnly=True), VOLUMES),
    Row("volumes.0", claim("cvmfs", readOnly=False), claim("x-inference-store"), VOLUMES),
    Row("hostNetwork", True, False, NODE),
    Row("hostPID", True, False, NODE),
    Row("hostIPC", True, False, NODE),
    Row("hostUsers", False, ABSENT, NODE, CORE),
    Row("nodeName", "control-plane-1", ABSENT, PLACE),
    Row("priorityClassName", "system-node-critical", ABSENT, PLACE),
    Row("securityContext.runAsNonRoot", ABSENT, True, SECURITY),
    Row("securityContext.seccompProfile", ABSENT, {"type": "RuntimeDefault"}, SECURITY),
    Row("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], ABSENT, SECURITY),
    Row("securityContext.runAsUser", 0, 1001, CONTEXT),
    Row("securityContext.seLinuxOptions", {"type": "spc_t"}, {"level": "s0:c1"}, CONTEXT),
    Row("securityContext.windowsOptions", {"runAsUserName": "x"}, ABSENT, CONTEXT),
    Row("securityContext.appArmorProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}, CONTEXT, CORE),
]
OF_CONTAINERS = [
    Row("ports.0.hostPort", 8080, ABSENT, NODE),
    # This server takes no privileged container at all, for its flag is not set; of foreign kinds it knows nothing.
    Row("securityContext.privileged", True, False, PRIVILEGE, DASK),
    Row("securityContext.allowPrivilegeEscalation", True, False, PRIVILEGE),
    Row("securityContext.allowPrivilegeEscalation", ABSENT, False, PRIVILEGE),
    Row("securityContext.capabilities.drop", ["NET_RAW"], ["ALL"], PRIVILEGE),
    Row("securityContext.capabilities", ABSENT, {"drop": ["ALL"]}, PRIVILEGE),
    Row("securityContext.capabilities.add", ["NET_BIND_SERVICE"], ABSENT, PRIVILEGE),
    Row("securityContext.procMount", "Unmasked", "Default", PRIVILEGE, DASK),
    Row("securityContext", ABSENT, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, PRIVILEGE),
    Row("securityContext.runAsNonRoot", False, True, CONTEXT),
    Row("securityContext.runAsUser", 0, 1001, CONTEXT),
    Row("securityContext.seccompProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}, CONTEXT),
    Row("securityContext.seLinuxOptions", {"user": "root"}, ABSENT, CONTEXT),
    Row("securityContext.windowsOptions", {"runAsUserName": "x"}, ABSENT, CONTEXT),
    Row("securityContext.appArmorProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}, CONTEXT, CORE),
]
HOST = {"host": "169.254.169.254", "path": "/", "port": "http", "scheme": "HTTP"}
OWN = {"path": "/", "port": "http", "scheme": "HTTP"}
ASKED = [
    Row("livenessProbe", {"httpGet": HOST}, {"httpGet": OWN}, PROBE),
    Row("readinessProbe", {"tcpSocket": {"host": "10.0.0.1", "port": "http"}}, {"tcpSocket": {"port": "http"}}, PROBE),
    Row("startupProbe", {"httpGet": HOST}, {"httpGet": OWN}, PROBE),
    Row("lifecycle", {"postStart": {"httpGet": HOST}}, {"postStart": {"httpGet": OWN}}, PROBE),
    Row("lifecycle", {"preStop": {"httpGet": HOST}}, {"preStop": {"httpGet": OWN}}, PROBE),
]
APPARMOR = "container.apparmor.security.beta.kubernetes.io/main"


def of_containers() -> Iterator[Row]:
    """Yield the rows for each list of containers that a pod may be made with."""
    for row in OF_CONTAINERS:
        yield row._replace(path=f"containers.0.{row.path}")
        yield row._replace(path=f"initContainers.0.{row.path}")
        # Kubernetes takes them in pods that run, and the CRD of Dask's operator in what pods are made of.
        kinds = tuple(kind for kind in row.kinds if kind in DASK)
        if kinds:
            yield row._replace(path=f"ephemeralContainers.0.{row.path}", kinds=kinds)
    for row in ASKED:
        yield row._replace(path=f"containers.0.{row.path}")


ROWS = [(row, kind) for row in (*OF_PODS, *of_containers()) for kind in row.kinds]


@pytest.fixture(scope="module")
def plane() -> Iterator[Bounded]:
    with control_plane(Progress(Console(quiet=True))) as found, bounded(found, {}) as policies:
        yield policies


def container(name: str) -> Body:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "name": name,
        "image": "example.org/x",
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "securityContext": security,
    }


def pod_spec(kind: str) -> Body:
    found: Body = {
        "automountServiceAccountToken": False,
        "containers": [container("main")],
        "initContainers": [container("before")],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [],
    }
    # As Kubernetes fills it in, where its plugin for that is not left out as here.
    account = {"serviceAccountName": "default"} if kind == "Pod" else {}
    return found | account | ({"restartPolicy": "Never"} if kind in ("Job", "CronJob") else {})


def workload(kind: str, pod: Body, annotations: dict[str, str]) -> Body:
    """Return an object of a session that is this pod, or that pods are made of."""
    metadata: Body = {"labels": LABELS, "annotations": annotations}
    selected: Body = {"template": {"metadata": metadata, "spec": pod}}
    job: Body = {"spec": selected}
    selector = {"selector": {"matchLabels": LABELS}}
    service = {"type": "ClusterIP", "selector": LABELS, "ports": []}
    plain = (
        workload_of_dask(kind, pod, {"annotations": annotations}, service)
        or {
            "Pod": ("v1", pod),
            "ReplicationController": ("v1", {"selector": LABELS, **selected}),
            "Deployment": ("apps/v1", {**selector, **selected}),
            "ReplicaSet": ("apps/v1", {**selector, **selected}),
            "DaemonSet": ("apps/v1", {**selector, **selected}),
            "StatefulSet": ("apps/v1", {**selector, **selected, "serviceName": "x"}),
            "Job": ("batch/v1", selected),
            "CronJob": ("batch/v1", {"schedule": "0 0 * * *", "jobTemplate": job}),
        }[kind]
    )
    version, spec = plain
    own = annotations if kind == "Pod" else {}
    name = {"scheduler": "DaskCluster", "worker": "DaskCluster"}.get(kind, kind)
    body = {"apiVersion": version, "kind": name, "metadata": {"name": "w1", "namespace": TENANT}, "spec": spec}
    return owned({**body, "metadata": {**body["metadata"], "annotations": own}})


def workload_of_dask(kind: str, pod: Body, metadata: Body, service: Body) -> tuple[str, Body] | None:
    if kind not in DASK:
        return None
    made, plain = {"metadata": metadata, "spec": pod}, {"spec": pod_spec(kind)}
    if kind == "DaskWorkerGroup":
        return "kubernetes.dask.org/v1", {"cluster": "c1", "worker": {**made, "replicas": 1}}
    scheduler, worker = (made, plain) if kind == "scheduler" else (plain, made)
    both = {"scheduler": {**scheduler, "service": service}, "worker": {**worker, "replicas": 0}}
    return "kubernetes.dask.org/v1", both


def variant(kind: str, path: str, value: Any) -> Body:
    """Return an object of a session whose pods have this value at this place."""
    pod = pod_spec(kind)
    if path.startswith("ephemeralContainers"):
        pod["ephemeralContainers"] = [container("late")]
    *way, last = path.split(".")
    place: Any = pod
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        place[int(last) :] = [value]
    elif value is ABSENT:
        place.pop(last, None)
    else:
        place[last] = value
    return workload(kind, pod, {})


@pytest.mark.parametrize(
    ("row", "kind"), ROWS, ids=[f"{kind}-{row.path}-{number}" for number, (row, kind) in enumerate(ROWS)]
)
def test_it_may_not(plane: Bounded, row: Row, kind: str) -> None:
    refused = variant(kind, row.path, row.refused)
    assert plane.operator.create(variant(kind, row.path, row.accepted)) == ""
    # Nothing but the policy refuses it: the server takes it, and the account has every right.
    assert plane.admin.create(refused) == ""
    said = plane.operator.create(refused)
    assert POLICY in said
    assert row.words in said


@pytest.mark.parametrize("kind", EVERY)
def test_annotations_loosen_nothing(plane: Bounded, kind: str) -> None:
    assert plane.operator.create(workload(kind, pod_spec(kind), {"example.org/note": "x"})) == ""
    said = plane.operator.create(workload(kind, pod_spec(kind), {APPARMOR: "unconfined"}))
    assert POLICY in said
    assert CONTEXT in said


def test_no_volumes_are_made_for_a_stateful_set(plane: Bounded) -> None:
    body = workload("StatefulSet", pod_spec("StatefulSet"), {})
    more = copy.deepcopy(body)
    more["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, **CLAIM}]
    assert plane.operator.create(body) == plane.admin.create(more) == ""
    assert VOLUMES in plane.operator.create(more)


def test_no_container_is_added_to_a_pod_that_runs(plane: Bounded) -> None:
    body = workload("Pod", pod_spec("Pod"), {})
    body["metadata"]["name"] = "running"
    assert plane.operator.create(body, keep=True) == ""
    path = f"/api/v1/namespaces/{TENANT}/pods/running/ephemeralcontainers"
    loose, late = {**container("late"), "securityContext": {"allowPrivilegeEscalation": True}}, container("late")
    for each in (loose, late):
        del each["ports"]
    body["spec"]["ephemeralContainers"] = [loose]
    assert PRIVILEGE in plane.operator.put(path, body)
    body["spec"]["ephemeralContainers"] = [late]
    assert plane.operator.put(path, body) == ""


def test_a_pod_that_has_its_node_is_changed(plane: Bounded) -> None:
    body = workload("Pod", pod_spec("Pod"), {})
    body["metadata"]["name"] = "placed"
    body["spec"]["nodeName"] = "node-1"
    assert PLACE in plane.operator.create(body)
    assert plane.admin.create(body, keep=True) == ""
    note = {**body, "metadata": {**body["metadata"], "annotations": {"example.org/note": "x"}}}
    assert plane.operator.change(note) == ""


def test_no_node_is_chosen_later_for_the_pods_of_a_workload(plane: Bounded) -> None:
    body = variant("Deployment", "nodeName", ABSENT)
    body["metadata"]["name"] = "later"
    assert plane.operator.create(body, keep=True) == ""
    assert PLACE in plane.operator.change(changed_pod(body, nodeName="control-plane-1"))
    assert plane.operator.change(changed_pod(body, terminationGracePeriodSeconds=5)) == ""


def changed_pod(body: Body, **fields: Any) -> Body:
    return {**body, "spec": {"template": {"spec": fields}}}


def test_what_holds_pods_in_a_place_unknown_is_not_made(plane: Bounded) -> None:
    """A DaskJob has pods elsewhere than all others: whatever it says of them, nobody would judge it."""
    pod = pod_spec("DaskJob")
    worker = {"replicas": 1, "spec": pod}
    service = {"type": "ClusterIP", "selector": LABELS, "ports": []}
    cluster = {"spec": {"worker": worker, "scheduler": {"spec": pod, "service": service}}}
    metadata = {"name": "j1", "namespace": TENANT}
    spec = {"job": {"spec": pod}, "cluster": cluster}
    job = owned({"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob", "metadata": metadata, "spec": spec})
    assert plane.admin.create(job) == ""
    assert POLICY in plane.operator.create(job)


def test_what_others_have_put_into_it_is_no_reason_to_let_it_run(plane: Bounded) -> None:
    body = variant("StatefulSet", "hostNetwork", True)
    body["metadata"]["name"] = "edited"
    assert plane.admin.create(body, keep=True) == ""
    stopped = {**body, "spec": {"replicas": 0}}
    assert plane.operator.change(stopped) == ""
    other = {"template": {"metadata": {"annotations": {"example.org/note": "x"}}}}
    assert NODE in plane.operator.change({**stopped, "spec": {"replicas": 1, **other}})


def test_a_large_pod_is_judged_within_the_cost_that_the_server_allows(plane: Bounded) -> None:
    pod = pod_spec("DaskCluster")
    pod["volumes"] = [{"name": f"v{n}", "configMap": {"name": "c"}} for n in range(200)]
    many = [{"containerPort": 1024 + n, "protocol": "TCP"} for n in range(200)]
    pod["containers"] = [{**container(f"c{n}"), "ports": many} for n in range(30)]
    for kind in EVERY:
        spec = pod | ({"restartPolicy": "Never"} if kind in ("Job", "CronJob") else {})
        assert plane.operator.create(workload(kind, spec, {})) == ""
