"""What the operator's account may make, change and delete: all that the golden cases have, and little else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from rich.console import Console

from af_operator.components import child_kinds, shipped
from local_cluster.control_plane import ControlPlane, control_plane
from local_cluster.progress import Progress
from tests.support import chart
from tests.support.bounded import LABEL, OWNER, SYSTEM, TENANT, UID, Body, Bounded, bounded, owned

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.yaml"))
POLICY = "af-operator-own-objects"

NAMESPACE = "writes nothing in namespace"
OWNED = "makes nothing but what an AnalysisSession owns"
KEPT = "puts no finalizer on anything"
CHANGED = "changes nothing but what an AnalysisSession owns already"
DELETED = "deletes nothing but what has the label"
CLAIMS = "claims no volume but new ones, of no volume that is there already"
SECRETS = "no Secret but those of type Opaque"
SERVICES = "no Service but those of type ClusterIP"
SELECTED = "selects no pods but those of the session"
GRANTED = "grants nothing but, by Roles called *-notebook, *-inference or *-scheduler, to get the Secret of that name"
HUB = f"system:serviceaccount:{SYSTEM}:hub"
WITH_HUB = {
    "image": {"operator": chart.IMAGE, "hub": chart.IMAGE},
    "hub": {"enabled": True, "existingSecret": "of-the-facility"},
}
BOUND = "binds nothing but the Role of the RoleBinding's own name"


def golden(case: str) -> list[Body]:
    return list(yaml.safe_load_all((GOLDEN / case / "expected.yaml").read_text()))


def changed(body: Body, *steps: tuple[str, Any]) -> Body:
    """Return the object with other values at some places; ``None`` leaves them out."""
    found = copy.deepcopy(body)
    for path, value in steps:
        *way, last = path.split("/")
        place: Any = found
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if isinstance(place, list):
            place[int(last)] = value
        elif value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return found


def bare(body: Body) -> Body:
    """Return an object that no fact of the facility is in: what a release knows of its network is in its policies.

    Those of the golden cases are tried in ``test_operator_network``.
    """
    return changed(body, ("spec/ingress", []), ("spec/egress", [])) if body["kind"] == "NetworkPolicy" else body


def one_of_each_kind() -> list[Body]:
    return list({body["kind"]: bare(body) for case in CASES for body in golden(case)}.values())


EACH = [pytest.param(body, id=body["kind"]) for body in one_of_each_kind()]
OF_SESSIONS = [pytest.param(b, id=b["kind"]) for b in one_of_each_kind() if b["kind"] != "PersistentVolumeClaim"]


@pytest.fixture(scope="module")
def control() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True))) as found:
        yield found


@pytest.fixture(scope="module")
def plane(control: ControlPlane) -> Iterator[Bounded]:
    with bounded(control, WITH_HUB) as found:
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
        assert found.admin.create({**priority, "metadata": {"name": "analysis"}}, keep=True) == ""
        yield found


@pytest.fixture(scope="module")
def named(control: ControlPlane, plane: Bounded) -> Iterator[Bounded]:
    """A second release, which serves one namespace."""
    with bounded(control, {"watchNamespaces": [TENANT]}, "af-named") as found:
        yield found


def of_another_name(body: Body) -> Body:
    return changed(body, ("metadata/name", f"{body['metadata']['name']}-kept"))


@pytest.mark.parametrize("case", CASES)
def test_what_sessions_are_made_of_is_made_changed_and_deleted(plane: Bounded, case: str) -> None:
    for body in map(bare, golden(case)):
        note = {"metadata": {**body["metadata"], "annotations": {"example.org/note": "x"}}}
        change = {key: body[key] for key in ("apiVersion", "kind")} | note
        shared = body["kind"] == "PersistentVolumeClaim"
        assert plane.operator.create(body, keep=True) == "", body["kind"]
        assert (CHANGED in plane.operator.change(change)) if shared else (plane.operator.change(change) == "")
    for body in map(bare, golden(case)):
        kept = body["kind"] == "PersistentVolumeClaim"
        assert (DELETED in plane.operator.delete(body)) if kept else (plane.operator.delete(body) == "")
        assert not kept or plane.admin.delete(body) == ""


def test_each_kind_that_it_has_rights_on_is_among_them() -> None:
    generated = yaml.safe_load((GOLDEN.parents[1] / "helm/af-operator/generated/operator-rules.yaml").read_text())
    made = {r for rule in generated if "create" in rule["verbs"] for r in rule["resources"] if "/" not in r}
    plurals = {kind.kind: kind.plural for kind in child_kinds(shipped())}
    assert {plurals[body["kind"]] for body in one_of_each_kind()} >= made - {"events"}


@pytest.mark.parametrize("body", EACH)
@pytest.mark.parametrize("namespace", [SYSTEM, "kube-system", "kube-public"])
def test_not_where_there_are_no_sessions(plane: Bounded, body: Body, namespace: str) -> None:
    elsewhere = changed(body, ("metadata/namespace", namespace))
    assert plane.operator.create(body) == plane.admin.create(elsewhere) == ""
    said = plane.operator.create(elsewhere)
    assert POLICY in said
    assert f"{NAMESPACE} '{namespace}'" in said


@pytest.mark.parametrize("body", EACH)
def test_only_in_the_namespaces_that_are_named(named: Bounded, plane: Bounded, body: Body) -> None:
    elsewhere = changed(body, ("metadata/namespace", "default"))
    assert named.operator.create(body) == plane.operator.create(elsewhere) == ""
    said = named.operator.create(elsewhere)
    assert f"{NAMESPACE} 'default': it holds no sessions (watchNamespaces)" in said


OWNERS: dict[str, Callable[[Body], Body]] = {
    "no owner": lambda b: changed(b, ("metadata/ownerReferences", None)),
    "not its controller": lambda b: changed(b, ("metadata/ownerReferences/0/controller", None)),
    "an owner of another kind": lambda b: changed(b, ("metadata/ownerReferences/0/kind", "AnalysisProfile")),
    "an owner of another group": lambda b: changed(b, ("metadata/ownerReferences/0/apiVersion", "example.org/v1")),
    "another session's label": lambda b: changed(b, ("metadata/labels", {LABEL: "1-2-3"})),
    # One other label at least: a Job without any gets those of its pods.
    "no label": lambda b: changed(b, ("metadata/labels", {"app": "x"})),
    "a DaskCluster": lambda b: changed(b, ("metadata/ownerReferences/0", DASK_OWNER)),
}
DASK_OWNER = {
    "apiVersion": "kubernetes.dask.org/v1",
    "kind": "DaskCluster",
    "name": "c",
    "uid": "1-2-3",
    "controller": True,
}


@pytest.mark.parametrize("body", OF_SESSIONS)
@pytest.mark.parametrize("how", OWNERS)
def test_only_what_a_session_owns(plane: Bounded, body: Body, how: str) -> None:
    stray = OWNERS[how](body)
    assert plane.operator.create(body) == plane.admin.create(stray) == ""
    said = plane.operator.create(stray)
    assert POLICY in said
    assert OWNED in said


class Row(NamedTuple):
    """One object, what may not be so in it, and the words of the refusal."""

    kind: str
    path: str
    refused: Any
    accepted: Any
    words: str


NAMED = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x-notebook"], "verbs": ["get"]}
LOG = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["x-notebook"], "verbs": ["get"]}
PORTS = {
    "apiGroups": [""],
    "resources": ["pods/portforward"],
    "resourceNames": ["x-notebook-0"],
    "verbs": ["get", "create"],
}
MALLORY = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}
PORT = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}
ANOTHER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": "1-2-3"}
ROWS = [
    Row("ConfigMap", "metadata/finalizers", ["example.org/never"], [], KEPT),
    Row("ConfigMap", "metadata/ownerReferences", [OWNER, ANOTHER], [OWNER], KEPT),
    Row("Secret", "type", "kubernetes.io/service-account-token", "Opaque", SECRETS),
    Row("Secret", "type", "helm.sh/release.v1", "Opaque", SECRETS),
    Row("Secret", "type", "bootstrap.kubernetes.io/token", "Opaque", SECRETS),
    Row("Service", "spec/type", "NodePort", "ClusterIP", SERVICES),
    Row("Service", "spec/type", "LoadBalancer", "ClusterIP", SERVICES),
    Row("Service", "spec/externalIPs", ["192.0.2.1"], None, SERVICES),
    Row("Service", "spec/selector", {"app": "database"}, {LABEL: UID}, SELECTED),
    Row("Service", "spec/selector", None, {LABEL: UID}, SELECTED),
    Row("PersistentVolumeClaim", "metadata/name", "database", "home-bob", CLAIMS),
    Row("PersistentVolumeClaim", "metadata/labels", None, {"analysisfacility.io/user": "bob"}, CLAIMS),
    Row("PersistentVolumeClaim", "metadata/ownerReferences", [OWNER], None, CLAIMS),
    Row("PersistentVolumeClaim", "spec/volumeName", "of-another", None, CLAIMS),
    Row("PersistentVolumeClaim", "spec/selector", {"matchLabels": {"data": "raw"}}, None, CLAIMS),
    Row("PersistentVolumeClaim", "spec/volumeMode", "Block", "Filesystem", CLAIMS),
    Row("PersistentVolumeClaim", "spec/dataSource", {"kind": "PersistentVolumeClaim", "name": "x"}, None, CLAIMS),
    Row("PersistentVolumeClaim", "spec/dataSourceRef", {"kind": "PersistentVolumeClaim", "name": "x"}, None, CLAIMS),
    Row("Role", "rules/0/resourceNames", None, ["x-notebook"], GRANTED),
    Row("Role", "rules/0/resourceNames", ["database"], ["x-notebook", "x-hub"], GRANTED),
    Row("Role", "rules/0/resourceNames", ["x-notebook-2"], ["x-hub"], GRANTED),
    Row("Role", "rules/0/verbs", ["get", "create"], ["get"], GRANTED),
    Row("Role", "rules/0/verbs", ["get", "patch"], ["get"], GRANTED),
    Row("Role", "rules/0/verbs", ["*"], ["get"], GRANTED),
    Row("Role", "rules/0/apiGroups", ["*"], [""], GRANTED),
    Row("Role", "rules/0/apiGroups", ["", "example.org"], [""], GRANTED),
    Row("Role", "rules/0/resources", ["*"], ["secrets"], GRANTED),
    Row("Role", "rules/0/resources", ["secrets", "pods/portforward"], ["secrets"], GRANTED),
    Row("Role", "rules/0", {**PORTS, "resources": ["pods/exec"]}, PORTS, GRANTED),
    Row("Role", "rules/0", {**PORTS, "resourceNames": ["database-0"]}, PORTS, GRANTED),
    Row("Role", "rules/0", {**PORTS, "verbs": ["get", "delete"]}, PORTS, GRANTED),
    Row("Role", "rules/0", LOG, NAMED, GRANTED),
    Row("RoleBinding", "roleRef/kind", "ClusterRole", "Role", BOUND),
    Row("RoleBinding", "roleRef/name", "admin", "x-notebook", BOUND),
    Row("RoleBinding", "subjects", [MALLORY, {**MALLORY, "name": "bob"}], [MALLORY, {**MALLORY, "name": HUB}], BOUND),
    Row("RoleBinding", "subjects/0/name", f"system:serviceaccount:{SYSTEM}:af-operator", HUB, BOUND),
    Row("RoleBinding", "subjects/0/name", "system:serviceaccount:kube-system:x", "github:physics/zmumu", BOUND),
    Row("RoleBinding", "subjects/0/name", "system:anonymous", "system:serviceaccount:physics:alice", BOUND),
    Row(
        "RoleBinding",
        "subjects/0",
        {"kind": "ServiceAccount", "name": "default", "namespace": "default"},
        {**MALLORY, "name": "bob"},
        BOUND,
    ),
    Row("RoleBinding", "subjects/0", {**MALLORY, "kind": "Group", "name": "system:authenticated"}, MALLORY, BOUND),
    Row("DaskCluster", "spec/scheduler/service/selector", {"app": "x"}, {LABEL: UID}, SELECTED),
    Row("Deployment", "spec/selector/matchLabels", {"app": "x"}, {LABEL: UID}, SELECTED),
    Row("StatefulSet", "spec/selector/matchLabels", {"app": "x"}, {LABEL: UID}, SELECTED),
    Row("NetworkPolicy", "spec/podSelector/matchLabels", {LABEL: "1-2-3"}, {LABEL: UID}, SELECTED),
    Row("DaskCluster", "spec/scheduler/service/type", "NodePort", "ClusterIP", SERVICES),
    Row("DaskCluster", "spec/scheduler/service/externalIPs", ["192.0.2.1"], None, SERVICES),
]


POD: Body = {
    "automountServiceAccountToken": False,
    "containers": [
        {
            "name": "main",
            "image": "example.org/x",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
}


def simple(kind: str) -> Body:
    """Return the least object of a session of this kind."""
    template = {"metadata": {"labels": {LABEL: UID, "app": "x"}}, "spec": POD}
    selected = {"selector": {"matchLabels": {LABEL: UID}}, "template": template}
    rbac, dask = "rbac.authorization.k8s.io/v1", "kubernetes.dask.org/v1"
    service = {"type": "ClusterIP", "selector": {LABEL: UID}, "ports": [PORT]}
    both_ways = {"podSelector": {"matchLabels": {LABEL: UID}}, "policyTypes": ["Ingress", "Egress"]}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    found: dict[str, tuple[str, Body]] = {
        "ConfigMap": ("v1", {}),
        "Secret": ("v1", {"type": "Opaque"}),
        "Service": ("v1", {"spec": service}),
        "PersistentVolumeClaim": ("v1", {"spec": claim}),
        "Role": (rbac, {"rules": [NAMED]}),
        "RoleBinding": (
            rbac,
            {
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x-notebook"},
                "subjects": [MALLORY],
            },
        ),
        "Deployment": ("apps/v1", {"spec": selected}),
        "StatefulSet": ("apps/v1", {"spec": {**selected, "serviceName": "x"}}),
        "Job": ("batch/v1", {"spec": {"template": {**template, "spec": {**POD, "restartPolicy": "Never"}}}}),
        "DaskCluster": (
            dask,
            {"spec": {"scheduler": {"spec": POD, "service": service}, "worker": {"replicas": 0, "spec": POD}}},
        ),
        "NetworkPolicy": ("networking.k8s.io/v1", {"spec": both_ways}),
        "DaskWorkerGroup": (dask, {"spec": {"cluster": "c", "worker": {"replicas": 1, "spec": POD}}}),
    }
    version, rest = found[kind]
    name = "x-notebook" if kind.startswith("Role") else "x"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": TENANT}, **rest}
    if kind != "PersistentVolumeClaim":
        return owned(body)
    return changed(body, ("metadata/name", "home-alice"), ("metadata/labels", {"analysisfacility.io/user": "alice"}))


@pytest.mark.parametrize("row", ROWS, ids=[f"{r.kind}-{r.path}-{n}" for n, r in enumerate(ROWS)])
def test_it_may_not(plane: Bounded, row: Row) -> None:
    right, wrong = (changed(simple(row.kind), (row.path, value)) for value in (row.accepted, row.refused))
    if row.refused == "kubernetes.io/service-account-token":
        wrong["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "default"}
    assert plane.operator.create(right) == plane.admin.create(wrong) == ""
    said = plane.operator.create(wrong)
    assert POLICY in said
    assert row.words in said


@pytest.mark.parametrize("name", ["x-inference", "x-scheduler", "x-run-log", "s-2018-zmumu-0a1b2c3d"])
def test_roles_of_these_names_alone_grant_what_has_their_name(plane: Bounded, name: str) -> None:
    rule = LOG if name.endswith("-run-log") else NAMED
    for each, words in ((name, ""), ("database", GRANTED)):
        role = changed(simple("Role"), ("metadata/name", each), ("rules/0", {**rule, "resourceNames": [each]}))
        said = plane.operator.create(role)
        assert (words in said) if words else (said == "")
        binding = changed(simple("RoleBinding"), ("metadata/name", each), ("roleRef/name", each))
        said = plane.operator.create(binding)
        assert (BOUND in said) if words else (said == "")
        assert plane.admin.create(role) == plane.admin.create(binding) == ""


def test_an_owner_has_the_uid_of_something_that_was_made(plane: Bounded) -> None:
    """Whether it is there, admission cannot see: Kubernetes collects what has an owner that is not."""
    mine = simple("ConfigMap")
    assert plane.operator.create(mine) == ""
    for uid in ("zmumu", UID.upper(), UID[:-1]):
        body = changed(mine, ("metadata/labels", {LABEL: uid}), ("metadata/ownerReferences/0/uid", uid))
        assert plane.admin.create(body) == ""
        assert OWNED in plane.operator.create(body)


def test_a_claim_that_a_session_owns_is_for_its_models_and_new(plane: Bounded) -> None:
    found = owned(changed(simple("PersistentVolumeClaim"), ("metadata/name", "x-inference-store")))
    assert plane.operator.create(found) == ""
    for path, value in (("metadata/name", "x-store"), ("spec/volumeName", "of-another")):
        wrong = changed(found, (path, value))
        assert plane.admin.create(wrong) == ""
        assert CLAIMS in plane.operator.create(wrong)


def test_a_job_selects_no_pods_by_hand(plane: Bounded) -> None:
    job = simple("Job")
    wrong = changed(job, ("spec/manualSelector", True), ("spec/selector", {"matchLabels": {"app": "x"}}))
    assert plane.operator.create(job) == plane.admin.create(wrong) == ""
    assert SELECTED in plane.operator.create(wrong)


def config_map(name: str, **metadata: Any) -> Body:
    body = simple("ConfigMap")
    return {**body, "metadata": {**body["metadata"], "name": name, **metadata}, "data": {"a": "b"}}


def test_what_is_not_a_sessions_is_neither_changed_nor_adopted_nor_deleted(plane: Bounded) -> None:
    strange = config_map("strange", labels={}, ownerReferences=[])
    assert plane.admin.create(strange, keep=True) == ""
    for change in (strange, config_map("strange")):
        said = plane.operator.change(change)
        assert POLICY in said
        assert OWNED in said or CHANGED in said
    assert CHANGED in plane.operator.change(config_map("strange"))
    assert DELETED in plane.operator.delete(strange)
    assert plane.admin.delete(strange) == ""


def test_what_is_a_sessions_stays_one(plane: Bounded) -> None:
    mine = config_map("mine")
    assert plane.operator.create(mine, keep=True) == plane.operator.change({**mine, "data": {"a": "c"}}) == ""
    assert OWNED in plane.operator.change(config_map("mine", ownerReferences=[]))
    assert OWNED in plane.operator.change(config_map("mine", labels={LABEL: "1-2-3"}))
    assert plane.operator.delete(mine) == ""


def test_finalizers_and_owners_of_others_are_no_reason_not_to_change_it(plane: Bounded) -> None:
    held = config_map("held", finalizers=["example.org/backup"], ownerReferences=[OWNER, ANOTHER])
    assert plane.admin.create(held, keep=True) == ""
    assert plane.operator.change({**held, "data": {"a": "c"}}) == ""
    more = config_map("held", finalizers=["example.org/backup", "example.org/never"])
    assert KEPT in plane.operator.change(more)
    assert plane.operator.change(config_map("held", finalizers=[])) == plane.operator.delete(held) == ""


@pytest.mark.parametrize("how", OWNERS)
def test_only_what_a_session_owned_before_is_changed(plane: Bounded, how: str) -> None:
    mine = config_map(f"before-{sorted(OWNERS).index(how)}")
    assert plane.admin.create(OWNERS[how](mine), keep=True) == ""
    assert CHANGED in plane.operator.change(mine)
    assert plane.admin.change(mine) == plane.operator.change(mine) == plane.operator.delete(mine) == ""


def test_a_group_that_the_dask_operator_has_taken_over_is_resized_and_deleted(plane: Bounded) -> None:
    group = changed(simple("DaskWorkerGroup"), ("metadata/ownerReferences/0", DASK_OWNER))
    assert plane.admin.create(group, keep=True) == ""
    assert plane.operator.change(changed(group, ("spec/worker/replicas", 2))) == ""
    owner = "metadata/ownerReferences/0"
    for stray in (
        changed(group, ("metadata/labels", {LABEL: None})),
        changed(group, (f"{owner}/controller", None)),
        changed(group, (f"{owner}/kind", "DaskJob")),
        changed(group, (f"{owner}/apiVersion", "example.org/v1")),
    ):
        assert OWNED in plane.operator.change(stray)
    assert plane.operator.delete(group) == ""


def test_a_group_that_somebody_made_by_hand_is_theirs(plane: Bounded) -> None:
    group = changed(simple("DaskWorkerGroup"), ("metadata/ownerReferences/0", DASK_OWNER), ("metadata/name", "by-hand"))
    assert plane.admin.create(changed(group, ("metadata/labels", {})), keep=True) == ""
    assert CHANGED in plane.operator.change(group)


def test_dask_takes_over_nothing_but_groups(plane: Bounded) -> None:
    mine = config_map("not-of-dask")
    assert plane.operator.create(mine, keep=True) == ""
    assert OWNED in plane.operator.change(changed(mine, ("metadata/ownerReferences/0", DASK_OWNER)))
    assert plane.operator.delete(mine) == ""


@pytest.mark.parametrize(
    "way", ["pods/x/portforward", "pods/x/exec", "pods/x/attach", "pods/x/proxy", "services/x/proxy"]
)
def test_it_connects_to_nothing(plane: Bounded, way: str) -> None:
    path = f"/api/v1/namespaces/{TENANT}/{way}"
    said = plane.operator.get(path)
    assert "af-operator-own-connections" in said
    assert "may forward ports only to grant that" in said
    assert "not found" in plane.admin.get(path)
