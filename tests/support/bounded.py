"""The chart's policies on a control plane without nodes, asked by its administrator and by the operator itself."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client, dynamic
from kubernetes.client.exceptions import ApiException

from local_cluster.control_plane import ADMIN, ControlPlane
from tests.support import chart

Body = dict[str, Any]
SYSTEM, TENANT = "af-system", "physics"
UID = "5e551011-0000-4000-8000-000000000000"
LABEL = "analysisfacility.io/session-uid"
OWNER: Body = {
    "apiVersion": "analysisfacility.io/v1alpha1",
    "kind": "AnalysisSession",
    "name": "zmumu",
    "uid": UID,
    "controller": True,
    "blockOwnerDeletion": True,
}
ACCOUNTS = ("af-operator", "dask-operator")
ADMISSION = "admissionregistration.k8s.io/v1"
BIND = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
IN_FORCE_SECONDS = 60.0


@dataclass(frozen=True)
class Account:
    """Somebody who asks the API server, by a token.

    Attributes
    ----------
    kinds
        What the server knows; asked by the administrator, for it is the same for everybody.
    """

    kinds: dynamic.DynamicClient
    asks: dynamic.DynamicClient

    def create(self, body: Body, *, keep: bool = False) -> str:
        """Create an object, or only have its creation judged. Returns the words of a refusal, else nothing."""
        return self._said("post", body, "", [] if keep else [("dryRun", "All")])

    def change(self, body: Body) -> str:
        """Set what the body says in the object of its name."""
        return self._said("patch", body, body["metadata"]["name"], [], "application/merge-patch+json")

    def delete(self, body: Body) -> str:
        """Delete the object of its name, and what it owns in the background."""
        return self._said("delete", body, body["metadata"]["name"], [("propagationPolicy", "Background")])

    def get(self, path: str) -> str:
        """Ask for a path."""
        return _words(lambda: self.asks.request("get", path))

    def request(self, verb: str, path: str, body: Body | None = None) -> str:
        """Ask for a path by any verb; a patch is a merge patch."""
        content = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        return _words(lambda: self.asks.request(verb.lower(), path, body=body, content_type=content))

    def apply(self, body: Body) -> str:
        """Set what the body says by a server-side apply, whoever has set it before."""
        query = [("fieldManager", "test"), ("force", "true")]
        return self._said("patch", body, body["metadata"]["name"], query, "application/apply-patch+yaml")

    def put(self, path: str, body: Body) -> str:
        """Replace what is at a path."""
        return _words(lambda: self.asks.request("put", path, body=body))

    def _said(self, verb: str, body: Body, name: str, query: list[tuple[str, str]], content: str = "") -> str:
        kind = self.kinds.resources.get(api_version=body["apiVersion"], kind=body["kind"])
        path = kind.path(name=name or None, namespace=body["metadata"].get("namespace"))
        # Strict: what the server would drop, it would neither refuse nor do.
        query = query if verb == "delete" else [*query, ("fieldValidation", "Strict")]
        given = {} if verb == "delete" else {"body": body}
        content = content or "application/json"
        return _words(lambda: self.asks.request(verb, path, query_params=query, content_type=content, **given))


@dataclass(frozen=True)
class Bounded:
    """A control plane with the chart's policies in force.

    Attributes
    ----------
    operator
        The operator's service account, which has all rights here: what it is refused, the policies refuse.
    dask
        The same of the Dask operator, where the values install it.
    """

    admin: Account
    operator: Account
    dask: Account


@contextmanager
def bounded(plane: ControlPlane, values: chart.Values, system: str = SYSTEM) -> Iterator[Bounded]:
    """Put the policies of one more release into force; its account is in the namespace `system`."""
    admin_client = _client(plane, plane.token(ADMIN))
    kinds = dynamic.DynamicClient(admin_client)
    admin = Account(kinds, kinds)
    for body in _documents(values, system):
        said = admin.create(body, keep=True)
        assert not said or (body["kind"] == "Namespace" and "already exists" in said), said
    clients = [_client(plane, token(plane, system, name)) for name in ACCOUNTS]
    with ExitStack() as stack:
        for each in (admin_client, *clients):
            stack.enter_context(each)
        found = Bounded(admin, *(Account(kinds, dynamic.DynamicClient(each)) for each in clients))
        _await_force(found)
        yield found


def token(plane: ControlPlane, namespace: str, name: str) -> str:
    """Return a token of a service account."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return str(plane.request("POST", path, request)["status"]["token"])


@contextmanager
def tenant(plane: ControlPlane, admin: Account, name: str, rules: list[Body]) -> Iterator[Account]:
    """Make a service account in the tenant's namespace that has these rights there, and act as it."""
    group, meta = "rbac.authorization.k8s.io", {"name": name, "namespace": TENANT}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": TENANT}
    reference = {"apiGroup": group, "kind": "Role", "name": name}
    for body in (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": reference,
            "subjects": [subject],
        },
    ):
        assert not (said := admin.create(body, keep=True)), said
    with _client(plane, token(plane, TENANT, name)) as asking:
        yield Account(admin.kinds, dynamic.DynamicClient(asking))


def _documents(values: chart.Values, system: str) -> Iterator[Body]:
    for namespace in (system, TENANT):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    for name in ACCOUNTS:
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": system}}
    for body in chart.rendered({"image": {"operator": chart.IMAGE}, "watchNamespaces": ["*"], **values}, system):
        if body["apiVersion"] == ADMISSION:
            yield _of_release(body, system)
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": system} for name in ACCOUNTS]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": system}}
    yield {**binding, "roleRef": role, "subjects": subjects}


def _of_release(body: Body, system: str) -> Body:
    """Return a policy under a name of this release: several stand side by side, each about its own account."""
    found = copy.deepcopy(body)
    if body["apiVersion"] == ADMISSION:
        found["metadata"]["name"] += f"-{system}"
    if body["kind"] == "ValidatingAdmissionPolicyBinding":
        found["spec"]["policyName"] += f"-{system}"
    return found


def _client(plane: ControlPlane, token: str) -> client.ApiClient:
    settings = client.Configuration(host=plane.server)
    settings.ssl_ca_cert = str(plane.authority)
    settings.api_key = {"authorization": f"Bearer {token}"}
    return client.ApiClient(settings)


def _await_force(found: Bounded) -> None:
    """Wait until the API server has heard of each policy, and of the account's rights."""
    pod = {"containers": [{"name": "main", "image": "example.org/x"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": TENANT}, "spec": pod}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": TENANT}}
    path = f"/api/v1/namespaces/{TENANT}/pods/x/portforward"
    selector = {"podSelector": {"matchLabels": {LABEL: UID}}}  # of one direction alone, which is too little
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": selector}
    asked: dict[str, Callable[[], str]] = {
        "af-operator-own-pods": lambda: found.operator.create({**body, "metadata": owned(body)["metadata"]}),
        "af-operator-own-network": lambda: found.operator.create(owned({**policy, "metadata": config["metadata"]})),
        "af-operator-own-objects": lambda: found.operator.create(config),
        "af-operator-own-connections": lambda: found.operator.get(path),
    }
    end = time.monotonic() + IN_FORCE_SECONDS
    while waiting := [name for name, ask in asked.items() if name not in ask()]:
        assert time.monotonic() < end, f"not in force after {IN_FORCE_SECONDS:.0f} s: {waiting}"
        time.sleep(0.2)


def owned(body: Body) -> Body:
    """Return the object as one of a session's."""
    found = copy.deepcopy(body)
    found["metadata"] |= {"labels": {**found["metadata"].get("labels", {}), LABEL: UID}, "ownerReferences": [OWNER]}
    return found


def _words(ask: Callable[[], Any]) -> str:
    try:
        ask()
    except ApiException as error:
        return str(json.loads(error.body)["message"] if error.body else error.reason)
    return ""
