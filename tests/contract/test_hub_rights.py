"""What the Hub of the chart may do on a real API server: sessions, and plain Secrets that belong to them."""

import base64
import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

import af_names
from local_cluster import facility
from local_cluster.api import Kubectl
from local_cluster.progress import Progress
from local_cluster.settings import KUBECONFIG, LOCAL
from tests.contract.on_cluster import LABEL, account, answer, create, refused, until
from tests.contract.test_chart_policies import allowed

HUB_NAME = f"system:serviceaccount:{facility.SYSTEM_NAMESPACE}:hub"
HUB = account(facility.SYSTEM_NAMESPACE, "hub")
REFUSAL = "JupyterHub writes no Secret but those of type Opaque that an AnalysisSession owns, called <session>-hub"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def kubectl() -> Kubectl:
    found = Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)
    facility.install_chart(Progress(), found, facility.image_references(), dask_operator=True)
    return found


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"hub-rights-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("create", "secret", "generic", "of-another", "--from-literal=password=hunter2", f"--namespace={name}")
    until("the policy is in force", lambda: "denied" in answer(lambda: create(kubectl, HUB, secret(name, owned=False))))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def called(secret: dict[str, Any], name: str) -> dict[str, Any]:
    return secret | {"metadata": secret["metadata"] | {"name": name}}


def secret(namespace: str, kind: str = "Opaque", *, owned: bool = True) -> dict[str, Any]:
    owner = {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisSession", "name": "s1", "uid": "1-2-3"}
    metadata: dict[str, Any] = {"name": "s1-hub", "namespace": namespace}
    metadata |= {"ownerReferences": [owner], "labels": {LABEL: owner["uid"]}} if owned else {}
    metadata |= {"annotations": {"kubernetes.io/service-account.name": "default"}} if kind != "Opaque" else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind}


def test_it_may_use_sessions_and_profiles_and_reads_no_secret(kubectl: Kubectl, namespace: str) -> None:
    resources = (
        "analysissessions", "analysissessions/status", "analysisprofiles", "secrets", "pods", "pods/exec", "pods/log",
        "pods/portforward", "services", "persistentvolumeclaims", "configmaps", "statefulsets.apps", "deployments.apps",
        "jobs.batch", "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "serviceaccounts",
        "serviceaccounts/token", "nodes", "namespaces",
    )  # fmt: skip
    verbs = (
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "impersonate",
        "manage",
        "use",
    )
    found = allowed(kubectl, HUB, namespace, {(verb, resource) for verb in verbs for resource in resources})
    sessions = {(v, "analysissessions") for v in verbs if v not in ("update", "deletecollection", "use")}
    profiles = {(v, "analysisprofiles") for v in ("get", "list", "watch", "use")}
    assert found == sessions | profiles | {(v, "secrets") for v in ("create", "delete")}


@pytest.mark.parametrize("session", ["s1", "2018-zmumu", "lab.2018", "s" * 40])
def test_it_writes_the_secrets_of_sessions_however_these_are_called(
    kubectl: Kubectl, namespace: str, session: str
) -> None:
    create(kubectl, HUB, called(secret(namespace), af_names.hub_secret(session)))


@pytest.mark.parametrize("name", [af_names.notebook("s1"), "registry", "s1-hub-of-another", "hub"])
def test_it_writes_no_secret_of_another_name(kubectl: Kubectl, namespace: str, name: str) -> None:
    assert REFUSAL in refused(partial(create, kubectl, HUB, called(secret(namespace), name)))


def test_it_makes_no_token_of_a_service_account(kubectl: Kubectl, namespace: str) -> None:
    for where in (namespace, "kube-system"):
        token = secret(where, "kubernetes.io/service-account-token")
        assert REFUSAL in refused(partial(create, kubectl, HUB, token))


def test_it_writes_no_secret_of_another(kubectl: Kubectl, namespace: str) -> None:
    assert REFUSAL in refused(lambda: create(kubectl, HUB, secret(namespace, owned=False)))
    here = f"--namespace={namespace}"
    assert REFUSAL in refused(lambda: kubectl("delete", "secret", "of-another", here, *HUB))
    # Nor is it patched: a patch that copies its text to where that is refused would be answered with the text.
    copied = json.dumps([{"op": "copy", "from": "/data/password", "path": "/type"}])
    words = refused(lambda: kubectl("patch", "secret", "of-another", here, "--type=json", f"--patch={copied}", *HUB))
    assert 'resource "secrets" in API group "" in the namespace' in words
    assert base64.b64encode(b"hunter2").decode() not in words


@pytest.fixture(scope="module")
def session_uid(kubectl: Kubectl, namespace: str) -> str:
    """Of a session that is there: what has an owner that is not, is collected."""
    spec = {"user": "admin", "mode": "Interactive", "suspend": True}
    kind = {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisSession", "metadata": {"name": "s1"}}
    kubectl("create", "--filename=-", f"--namespace={namespace}", stdin=json.dumps({**kind, "spec": spec}))
    return str(kubectl.get("analysissession", "s1", f"--namespace={namespace}")["metadata"]["uid"])


def of_session(namespace: str, name: str, uid: str, label: str | None) -> dict[str, Any]:
    """Return a Secret that names the session as its owner, with some label of one."""
    found = called(secret(namespace), name)
    found["metadata"]["ownerReferences"][0]["uid"] = uid
    found["metadata"]["labels"] = {LABEL: label} if label else {}
    return found


@pytest.mark.parametrize("label", [None, "1-2-4"], ids=["none", "of another session"])
def test_what_only_names_a_session_as_its_owner_is_not_its_to_write_or_delete(
    kubectl: Kubectl, namespace: str, session_uid: str, label: str | None
) -> None:
    theirs = of_session(namespace, f"said-{label or 'nothing'}-hub", session_uid, label)
    assert REFUSAL in refused(partial(create, kubectl, HUB, theirs))
    kubectl("create", "--filename=-", stdin=json.dumps(theirs))
    assert REFUSAL in refused(lambda: kubectl("delete", "secret", theirs["metadata"]["name"], "-n", namespace, *HUB))


def test_it_deletes_what_it_has_written(kubectl: Kubectl, namespace: str, session_uid: str) -> None:
    mine = of_session(namespace, "mine-hub", session_uid, session_uid)
    for _ in range(2):
        kubectl("create", "--filename=-", *HUB, stdin=json.dumps(mine))
        kubectl("delete", "secret", "mine-hub", f"--namespace={namespace}", *HUB)


@pytest.mark.parametrize("way", ["exec", "portforward", "attach"])
def test_it_connects_to_no_pod(kubectl: Kubectl, namespace: str, way: str) -> None:
    """Not even where a Role gives it the right, as that of each notebook does."""
    role = ("role", f"way-{way}", "--verb=create,get", f"--resource=pods/{way}", f"--namespace={namespace}")
    kubectl("create", *role)
    kubectl(
        "create", "rolebinding", f"way-{way}", f"--role=way-{way}", f"--user={HUB_NAME}", f"--namespace={namespace}"
    )
    path = f"/api/v1/namespaces/{namespace}/pods/x/{way}?command=true&ports=8888"
    until("the right is there", lambda: "connects to no pod" in answer(lambda: kubectl("get", "--raw", path, *HUB)))


def test_an_upgrade_keeps_tokens_and_password(kubectl: Kubectl) -> None:
    def data() -> dict[str, str]:
        found: dict[str, str] = kubectl.get("secret", "hub", f"--namespace={facility.SYSTEM_NAMESPACE}")["data"]
        return found

    before = data()
    facility.install_chart(Progress(), kubectl, facility.image_references(), dask_operator=True)
    assert data() == before
