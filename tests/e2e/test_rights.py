"""What a user may do in the tenant, asked and tried: sessions and their logs, and nothing that leads further."""

from __future__ import annotations

import json

import pytest

from local_cluster.facility import SYSTEM_NAMESPACE
from tests.support.people import Person
from tests.support.tenant import API, HEADLESS, SESSION_UID, Body, Tenant, kubectl

FORBIDDEN = "Error from server (Forbidden): "
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
CLOSED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD = {
    "securityContext": RESTRICTED,
    "containers": [{"name": "c", "image": "localhost:5000/nope:1", "securityContext": CLOSED}],
}
OBJECTS: dict[str, Body] = {
    "pod": {"apiVersion": "v1", "kind": "Pod", "spec": POD},
    "job": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
    "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
    "secret": {"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "b"}},
    "daskcluster": {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "spec": {}},
    "profile": {"apiVersion": API, "kind": "AnalysisProfile", "spec": {}},
    "rolebinding": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    },
}


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A user with a session that has run."""
    found = Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))
    assert "created" in found.kubectl("create", "--filename=-", stdin=session("mine", found.user))
    shared_tenant.wait_condition("mine", "RunComplete", reason="Succeeded")
    return found


@pytest.fixture(scope="module")
def editor(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with Kubernetes' own role `edit`, which sessions are a part of."""
    return Person.create(shared_tenant, "editor", tmp_path_factory.mktemp("editor"), role="edit")


def session(name: str, user: str, **metadata: str) -> str:
    """Return a session as JSON."""
    spec = {**HEADLESS, "user": user}
    return json.dumps(
        {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": name, **metadata}, "spec": spec}
    )


def test_the_rights_of_a_user_are_these(alice: Person) -> None:
    listed = [line.split() for line in alice.kubectl("auth", "can-i", "--list", "--no-headers").splitlines()]
    about_herself = ("authentication.k8s.io", "authorization.k8s.io")
    named = [f for f in listed if not f[0].startswith("[") and f[0].partition(".")[2] not in about_herself]
    verbs = {fields[0]: set(" ".join(fields).rpartition("[")[2].strip("]").split()) for fields in named}
    assert verbs == {
        "analysissessions.analysisfacility.io": {"create", "get", "list", "watch", "patch", "delete"},
        "analysisprofiles.analysisfacility.io": {"use"},
        "pods/log": {"get"},
        "configmaps": {"get"},
    }
    assert {fields[-2] for fields in named if fields[0] == "configmaps"} == {"[mine-run-log]"}


def test_what_a_user_may_do_works(alice: Person) -> None:
    pod = alice.kubectl("get", "analysissession", "mine", "-o", "jsonpath={.status.run.pod}")
    # `kubectl logs` asks for the pod first, which she may not.
    assert "done" in alice.kubectl("get", "--raw", f"/api/v1/namespaces/{alice.namespace}/pods/{pod}/log")
    assert "done" in alice.kubectl("get", "configmap", "mine-run-log", "-o", "jsonpath={.data.log}")
    assert "mine" in alice.kubectl("get", "analysissessions")
    assert "patched" in alice.kubectl("patch", "afs/mine", "--type=merge", '-p={"spec":{"suspend":true}}')
    assert "patched" in alice.kubectl("patch", "afs/mine", "--type=merge", '-p={"spec":{"suspend":false}}')
    assert "created" in alice.kubectl("create", "--filename=-", stdin=session("brief", alice.user))
    assert "deleted" in alice.kubectl("delete", "analysissession", "brief")


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_user_creates_nothing_else(alice: Person, kind: str) -> None:
    body = OBJECTS[kind] | {"metadata": {"name": "hers"}}
    assert refused(alice.kubectl("create", "--filename=-", stdin=json.dumps(body)))


@pytest.mark.parametrize(
    "args",
    [
        ("get", "pods"),
        ("get", "secrets"),
        ("get", "configmaps"),
        ("get", "configmap", "kube-root-ca.crt"),
        ("delete", "configmap", "mine-run-log"),
        ("get", "jobs"),
        ("get", "nodes"),
        ("get", "analysisprofiles"),
        ("get", "analysissessions", "-A"),
        ("get", "--raw", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"),
        ("delete", "pods", "--all"),
        ("delete", "job", "mine-run"),
        ("get", "serviceaccounts"),
        ("create", "token", "alice"),
        ("create", "token", "default"),
        ("patch", "afs/mine", "--subresource=status", "--type=merge", '-p={"status":{"phase":"Ready"}}'),
    ],
    ids=" ".join,
)
def test_a_user_sees_and_changes_nothing_else(alice: Person, args: tuple[str, ...]) -> None:
    assert refused(alice.kubectl(*args))


def test_a_user_enters_no_pod(alice: Person) -> None:
    pod = alice.kubectl("get", "analysissession", "mine", "-o", "jsonpath={.status.run.pod}")
    for way in ("exec", "attach", "portforward"):
        path = f"/api/v1/namespaces/{alice.namespace}/pods/{pod}/{way}?command=id"
        assert refused(alice.kubectl("create", "--raw", path, "--filename=-", stdin="{}")), way


@pytest.mark.parametrize("kind", ["analysissessions", "pods", "secrets"])
def test_another_tenant_is_closed(alice: Person, tenant: Tenant, kind: str) -> None:
    assert refused(alice.kubectl("get", kind, "-n", tenant.namespace))
    assert refused(alice.kubectl("create", "-n", tenant.namespace, "--filename=-", stdin=session("in", alice.user)))
    assert refused(alice.kubectl("delete", "afs", "--all", "-n", tenant.namespace))


@pytest.mark.parametrize("somebody", ["bob", "system:serviceaccount:kube-system:default", "system:admin"])
def test_a_session_is_its_creators(alice: Person, editor: Person, somebody: str) -> None:
    for person in (alice, editor):
        said = person.kubectl("create", "--filename=-", stdin=session("theirs", somebody))
        assert f"spec.user is '{somebody}', but you are '{person.user}': write that, or ask for the verb" in said
        assert "af-operator-session-user" in said


def test_a_session_never_changes_hands(alice: Person) -> None:
    said = alice.kubectl("patch", "afs/mine", "--type=merge", '-p={"spec":{"user":"bob"}}')
    assert "user cannot be changed: create a new session with the user you want" in said


def test_nobody_else_changes_it(alice: Person, editor: Person) -> None:
    whose = f"session 'mine' is of '{alice.user}', and you are '{editor.user}': only its user changes, suspends or"
    for args in (("patch", "afs/mine", "--type=merge", '-p={"spec":{"suspend":true}}'), ("delete", "afs/mine")):
        assert whose in editor.kubectl(*args)
    for command in (("suspend", "mine"), ("delete", "mine", "--yes")):
        done = editor.af(*command)
        assert done.returncode == 1
        assert "the cluster refuses (403): ValidatingAdmissionPolicy 'af-operator-session-changes'" in done.stderr
        assert whose in done.stderr


@pytest.mark.parametrize("kind", ["pod", "job", "configmap"])
def test_nobody_forges_a_part_of_a_session(alice: Person, editor: Person, shared_tenant: Tenant, kind: str) -> None:
    """The editor may create pods, but none that the operator would take for the session's."""
    uid = shared_tenant.session("mine")["metadata"]["uid"]
    body = OBJECTS[kind] | {"metadata": {"name": "forged", "labels": {SESSION_UID: uid}}}
    said = editor.kubectl("create", "--filename=-", stdin=json.dumps(body))
    assert "set by its operator alone: leave them out, or create an AnalysisSession" in said
    plain = json.dumps(body | {"metadata": {"name": "plain"}})
    assert "created" in editor.kubectl("create", "--filename=-", stdin=plain)
    said = editor.kubectl("label", kind, "plain", f"{SESSION_UID}={uid}")
    assert "set by its operator alone" in said
    assert "deleted" in editor.kubectl("delete", kind, "plain", "--wait=false")


def test_a_label_on_a_session_makes_it_no_part_of_another(alice: Person, shared_tenant: Tenant) -> None:
    uid = shared_tenant.session("mine")["metadata"]["uid"]
    body = json.loads(session("tagged", alice.user))
    body["metadata"]["labels"] = {SESSION_UID: uid}
    alice.kubectl("create", "--filename=-", stdin=json.dumps(body))
    shared_tenant.wait_condition("tagged", "RunComplete", reason="Succeeded")
    assert shared_tenant.session("mine")["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize(
    "wish",
    [
        ("update", "secrets"),
        ("create", "pods", "--subresource=exec"),
        ("create", "serviceaccounts", "--subresource=token"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("delete", "namespaces"),
        ("delete", "persistentvolumeclaims"),
        ("patch", "nodes"),
        ("patch", "analysisprofiles.analysisfacility.io"),
        ("create", "analysissessions.analysisfacility.io"),
    ],
    ids=" ".join,
)
def test_the_operator_has_no_right_to(wish: tuple[str, ...]) -> None:
    account = f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:af-operator"
    for where in ("--all-namespaces", f"--namespace={SYSTEM_NAMESPACE}"):
        said = kubectl("auth", "can-i", *wish, account, where, check=False).split()
        assert ("no" in said, "yes" in said) == (True, False)


def test_the_operator_grants_nothing_that_it_does_not_hold(shared_tenant: Tenant) -> None:
    """It makes a Role for each notebook, and so may make Roles: of its own rights only."""
    account = f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:af-operator"
    grants = (
        ("create", "rolebinding", "grant", "--clusterrole=cluster-admin", "--user=mallory"),
        ("create", "role", "grant", "--verb=create", "--resource=pods/exec"),
    )
    for grant in grants:
        assert "attempting to grant RBAC permissions not currently held" in shared_tenant.kubectl(
            *grant, account, check=False
        )


def test_the_pods_of_a_session_have_no_rights(alice: Person, shared_tenant: Tenant) -> None:
    found = json.loads(shared_tenant.kubectl("get", "pods", "-l", "analysisfacility.io/session=mine", "-o", "json"))
    for pod in found["items"]:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [v for v in pod["spec"]["volumes"] if "projected" in v or "secret" in v]
    assert found["items"]


def refused(said: str) -> bool:
    """Return whether the API server refused by its rules of rights."""
    return said.startswith((FORBIDDEN, "error: failed to create token: ")) and " is forbidden: " in said
