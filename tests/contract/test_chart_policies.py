"""The chart's rights and policies, asked of a real API server: what is refused, with which words, and what is not."""

import copy
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import yaml

from local_cluster import facility
from local_cluster.api import Kubectl
from local_cluster.progress import Progress
from local_cluster.settings import KUBECONFIG, LOCAL
from tests.contract.on_cluster import LABEL, USER, account, answer, create, refused, restricted_pod, until

SYSTEM = facility.SYSTEM_NAMESPACE
ADMIN: tuple[str, ...] = ()
UID = "11111111-2222-3333-4444-555555555555"
OWNER = {
    "apiVersion": "analysisfacility.io/v1alpha1",
    "kind": "AnalysisSession",
    "name": "s1",
    "uid": UID,
    "controller": True,
}
OPERATORS = [account(SYSTEM, "af-operator"), account(SYSTEM, "dask-operator")]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def kubectl() -> Kubectl:
    found = Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)
    facility.install_chart(Progress(), found, facility.image_references(), dask_operator=True)
    return found


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A restricted namespace with alice, who may use sessions, and an editor, who may do more."""
    name = f"chart-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    for user, role in (("alice", "analysisfacility-user"), ("editor", "edit")):
        kubectl("create", "serviceaccount", user, f"--namespace={name}")
        kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--serviceaccount={name}:{user}", f"-n={name}")
    editor, stranger = account(name, "editor"), session(name, "bob")
    until("edit includes sessions", lambda: allowed(kubectl, editor, name, {("create", "analysissessions")}))
    until("the policies are in force", lambda: "denied" in answer(lambda: create(kubectl, editor, stranger)))
    labelled = marked(configmap(name))
    until("the policies are in force", lambda: "denied" in answer(lambda: create(kubectl, editor, labelled)))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def session(namespace: str, user: str) -> dict[str, Any]:
    return {
        "apiVersion": "analysisfacility.io/v1alpha1",
        "kind": "AnalysisSession",
        "metadata": {"name": "s1", "namespace": namespace},
        "spec": {"user": user, "mode": "Interactive"},
    }


def configmap(namespace: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c1", "namespace": namespace}}


def volume_claim(namespace: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    # Of no class: it binds no volume of the cluster's.
    spec |= {"storageClassName": "none"}
    metadata = {"name": "v1", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def workload(namespace: str, kind: str) -> dict[str, Any]:
    """Return one object of a kind that is a pod or makes pods."""
    pod = restricted_pod("example.org/x", ["true"])
    template = {"metadata": {"labels": {"app": "x"}}, "spec": pod}
    selected = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    job = {"template": {**template, "spec": {**pod, "restartPolicy": "Never"}}}
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "Pod": ("v1", pod),
        "ReplicationController": ("v1", {"selector": {"app": "x"}, "template": template}),
        "Deployment": ("apps/v1", selected),
        "ReplicaSet": ("apps/v1", selected),
        "DaemonSet": ("apps/v1", selected),
        "StatefulSet": ("apps/v1", {**selected, "serviceName": "x"}),
        "Job": ("batch/v1", job),
        "CronJob": ("batch/v1", {"schedule": "0 0 * * *", "jobTemplate": {"spec": job}}),
    }
    version, spec = found[kind]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "w1", "namespace": namespace}, "spec": spec}


def marked(body: dict[str, Any]) -> dict[str, Any]:
    """Return the object with a session's label on itself."""
    found = copy.deepcopy(body)
    found["metadata"].setdefault("labels", {})[LABEL] = UID
    return found


def marked_pods(body: dict[str, Any]) -> dict[str, Any]:
    """Return the object with a session's label on the pods that it makes."""
    found = copy.deepcopy(body)
    spec = found["spec"]["jobTemplate"]["spec"] if found["kind"] == "CronJob" else found["spec"]
    marked(spec["template"])
    spec["template"]["metadata"]["labels"][LABEL] = UID
    return found


Wish = tuple[str, str]
"""Verb and resource."""


def allowed(kubectl: Kubectl, who: tuple[str, ...], namespace: str, asked: set[Wish]) -> set[Wish]:
    """Return what they may do of what is asked, all in one run of kubectl."""
    kind, order = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}, sorted(asked)
    bodies = [{**kind, "spec": {"resourceAttributes": attributes(namespace, *what)}} for what in order]
    said = kubectl(
        "create", "--validate=false", "--filename=-", "--output=yaml", *who, stdin=yaml.safe_dump_all(bodies)
    )
    reviews = yaml.safe_load_all(said)
    return {what for what, review in zip(order, reviews, strict=True) if review["status"]["allowed"]}


def attributes(namespace: str, verb: str, resource: str) -> dict[str, str]:
    plural, _, subresource = resource.partition("/")
    plural, _, group = plural.partition(".")
    group = "analysisfacility.io" if plural.startswith("analysis") else group
    return {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": subresource}


def test_a_session_belongs_to_its_creator(kubectl: Kubectl, namespace: str) -> None:
    alice = account(namespace, "alice")
    create(kubectl, alice, session(namespace, f"system:serviceaccount:{namespace}:alice"))
    words = refused(lambda: create(kubectl, alice, session(namespace, "bob")))
    assert f"spec.user is 'bob', but you are 'system:serviceaccount:{namespace}:alice': write that" in words


def test_only_impersonators_create_for_others(kubectl: Kubectl, namespace: str) -> None:
    editor = account(namespace, "editor")
    assert "but you are" in refused(lambda: create(kubectl, editor, session(namespace, "bob")))
    create(kubectl, ADMIN, session(namespace, "bob"))
    rule = {"apiGroups": ["analysisfacility.io"], "resources": ["analysissessions"], "verbs": ["impersonate"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "portal"}}
    kubectl("create", "--filename=-", f"-n={namespace}", stdin=yaml.safe_dump({**role, "rules": [rule]}))
    kubectl("create", "serviceaccount", "hub", f"--namespace={namespace}")
    for number, bound in enumerate(("--role=portal", "--clusterrole=analysisfacility-user")):
        kubectl("create", "rolebinding", f"hub-{number}", bound, f"--serviceaccount={namespace}:hub", f"-n={namespace}")
    create(kubectl, account(namespace, "hub"), session(namespace, "bob"))


KINDS = ["Pod", "ReplicationController", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "CronJob"]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_else_marks_objects(kubectl: Kubectl, namespace: str, kind: str) -> None:
    editor, body = account(namespace, "editor"), workload(namespace, kind)
    create(kubectl, editor, body)
    assert f"the label {LABEL} marks" in refused(lambda: create(kubectl, editor, marked(body)))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_nobody_else_marks_what_pods_are_made_of(kubectl: Kubectl, namespace: str, kind: str) -> None:
    editor, body = account(namespace, "editor"), workload(namespace, kind)
    assert f"the label {LABEL} marks" in refused(lambda: create(kubectl, editor, marked_pods(body)))


def test_a_mark_is_neither_added_nor_taken_away(kubectl: Kubectl, namespace: str) -> None:
    editor, mine = account(namespace, "editor"), f"--namespace={namespace}"
    kubectl("create", "configmap", "plain", mine, *editor)
    words = refused(lambda: kubectl("label", "configmap", "plain", f"{LABEL}=x", mine, *editor))
    assert f"the label {LABEL} marks" in words
    kubectl("create", "configmap", "child", mine)
    kubectl("label", "configmap", "child", f"{LABEL}=x", mine)  # the administrator may
    assert "denied" in refused(lambda: kubectl("label", "configmap", "child", f"{LABEL}-", mine, *editor))
    kubectl("annotate", "configmap", "child", "note=kept", mine, *editor)
    kubectl("delete", "configmap", "child", mine, *editor)


def test_nobody_else_marks_a_home_volume(kubectl: Kubectl, namespace: str) -> None:
    editor, claim = account(namespace, "editor"), volume_claim(namespace)
    create(kubectl, editor, claim)
    marked_claim = {**claim, "metadata": {**claim["metadata"], "name": "home-alice", "labels": {USER: "alice"}}}
    assert f"{USER} the volumes" in refused(lambda: create(kubectl, editor, marked_claim))
    create(kubectl, OPERATORS[0], marked_claim)


def test_the_operator_grants_no_right_that_it_lacks(kubectl: Kubectl, namespace: str) -> None:
    rule = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": [rule]}
    body = {**role, "metadata": {"name": "more", "namespace": namespace}}
    assert "attempting to grant RBAC permissions not currently held" in refused(
        lambda: create(kubectl, OPERATORS[0], body)
    )


def test_the_operators_mark_what_they_make(kubectl: Kubectl, namespace: str) -> None:
    operator, dask = OPERATORS
    child = marked(configmap(namespace))
    child["metadata"]["ownerReferences"] = [OWNER]
    create(kubectl, operator, child)
    made = marked_pods(marked(workload(namespace, "Deployment")))
    made["metadata"]["ownerReferences"] = [{**OWNER, "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster"}]
    made["spec"]["selector"]["matchLabels"] = {LABEL: UID}
    create(kubectl, dask, made)


MAY = {(verb, "analysissessions") for verb in ("create", "get", "list", "watch", "patch", "delete")}
MAY |= {("get", "pods/log"), ("use", "analysisprofiles")}
ASKED = MAY | {
    (verb, resource)
    for verb in ("create", "get", "list", "update", "patch", "delete")
    for resource in (
        "analysissessions/status", "analysissessions/finalizers", "analysisprofiles", "pods", "secrets", "configmaps",
        "deployments.apps", "jobs.batch", "daskclusters.kubernetes.dask.org", "rolebindings.rbac.authorization.k8s.io",
    )
}  # fmt: skip
ASKED |= {("create", "pods/exec"), ("impersonate", "analysissessions"), ("deletecollection", "analysissessions")}
ASKED |= {("use", "analysisprofiles"), ("manage", "analysissessions")}


def test_alice_may_use_sessions_and_nothing_else(kubectl: Kubectl, namespace: str) -> None:
    alice = account(namespace, "alice")
    assert allowed(kubectl, alice, namespace, ASKED) == MAY


@pytest.mark.parametrize("operator", OPERATORS, ids=["af-operator", "dask-operator"])
def test_operators_do_not_own_the_cluster(kubectl: Kubectl, namespace: str, operator: tuple[str, ...]) -> None:
    # The tokens of notebooks, and their users' right to these; and workers.
    own = {("get", "secrets"), ("list", "secrets"), ("create", "rolebindings.rbac.authorization.k8s.io")}
    own |= {("create", "pods"), ("delete", "pods")}
    others = {
        ("delete", "persistentvolumeclaims"), ("create", "pods/exec"), ("get", "nodes"),
        ("create", "serviceaccounts/token"), ("patch", "namespaces"),
        ("patch", "validatingadmissionpolicies.admissionregistration.k8s.io"), ("create", "analysissessions"),
    }  # fmt: skip
    assert allowed(kubectl, operator, namespace, own | others) == (own if operator == OPERATORS[0] else set())


def test_an_operator_holds_only_its_own_lease(kubectl: Kubectl) -> None:
    operator = OPERATORS[0]
    lease = ("get", "leases", f"--namespace={SYSTEM}", *operator)
    kubectl(*lease, "af-operator")
    assert "forbidden" in refused(lambda: kubectl(*lease, "another"))
    assert "forbidden" in refused(lambda: kubectl(*lease))
