"""alice against all that is bob's, in a namespace where both have the role for users: asked by what is really there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException

from af_operator import names
from tests.e2e.attacks.conftest import HERS, VICTIM, Place
from tests.support.people import USER_ROLE
from tests.support.tenant import API, Body, kubectl

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]  # the two sessions are large

GROUP = "analysisfacility.io"
NOT_HERS = f"session '{VICTIM}' is of "
SEEN = "sees"
"""Of what the role gives: she looks at the text of sessions and the logs of pods in her namespace, says security.md."""
RIGHTS = {
    ("analysissessions", "create"): "spec.user is",
    ("analysissessions", "get"): SEEN,
    ("analysissessions", "list"): SEEN,
    ("analysissessions", "watch"): SEEN,
    ("analysissessions", "patch"): NOT_HERS,
    ("analysissessions", "delete"): NOT_HERS,
    ("pods/log", "get"): SEEN,
    ("analysisprofiles", "use"): "",
}
"""What comes of each verb of the role on what is bob's: part of the refusal. `use` is asked by policies alone."""
SUBRESOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Pod": (
        ("get", "exec?command=id&stdout=true"),
        ("post", "exec?command=id&stdout=true"),
        ("post", "attach?stdout=true"),
        ("get", "portforward?ports=8888"),
        ("post", "portforward?ports=8888"),
        ("get", "proxy/"),
        ("post", "eviction"),
        ("patch", "ephemeralcontainers"),
        ("patch", "status"),
    ),
    "Service": (("get", "proxy/"), ("post", "proxy/api/kernels")),
    "AnalysisSession": (("patch", "status"), ("patch", "finalizers")),
    "Deployment": (("patch", "scale"),),
    "StatefulSet": (("patch", "scale"),),
}


@dataclass(frozen=True)
class Asked:
    """A request as alice: the code and the words of the answer."""

    what: str
    code: int
    said: str


@pytest.fixture(scope="package")
def alice(place: Place) -> dynamic.DynamicClient:
    """Her client, which knows the kinds of the cluster."""
    return dynamic.DynamicClient(config.new_client_from_config(str(place.alice.kubeconfig)))


def ask(alice: dynamic.DynamicClient, verb: str, path: str, body: Any = None) -> Asked:
    """Ask, without any effect should it be allowed."""
    path = f"{path}{'&' if '?' in path else '?'}dryRun=All" if verb in ("post", "patch", "put", "delete") else path
    content = "application/merge-patch+json" if verb == "patch" else "application/json"
    try:
        alice.request(verb, path, body=body, content_type=content, _request_timeout=20)
    except ApiException as error:
        return Asked(f"{verb} {path}", error.status, str(error.body))
    return Asked(f"{verb} {path}", 200, "done")  # what came may be a Secret's


def objects(place: Place) -> list[Body]:
    """Return all that bob's session has, and his home."""
    uid = place.tenant.session(VICTIM)["metadata"]["uid"]
    found = [*place.tenant.children(uid).values(), place.tenant.session(VICTIM)]
    homes = json.loads(place.tenant.kubectl("get", "pvc", names.home(place.bob.user), "-o", "json"))
    return [*found, homes]


def path(place: Place, body: Body) -> str:
    """Return where the API server has an object."""
    known = dynamic.DynamicClient(place.tenant.api).resources.get(api_version=body["apiVersion"], kind=body["kind"])
    return str(known.path(name=body["metadata"]["name"], namespace=body["metadata"]["namespace"]))


def test_each_verb_of_her_role_is_judged(place: Place, alice: dynamic.DynamicClient) -> None:
    role = json.loads(kubectl("get", "clusterrole", USER_ROLE, "-o", "json"))
    given = {(what, verb) for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}
    assert given == set(RIGHTS), "the role has other rights: say here what they mean for what is another user's"
    where = f"/apis/{API}/namespaces/{place.tenant.namespace}/analysissessions"
    spec = {"user": place.bob.user, "mode": "Headless", "run": {"command": ["true"]}}
    forged = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": "forged"}, "spec": spec}
    tries = {
        "create": [ask(alice, "post", where, forged)],
        "patch": [ask(alice, "patch", f"{where}/{VICTIM}", patch) for patch in _patches()],
        "delete": [ask(alice, "delete", f"{where}/{VICTIM}{how}") for how in ("", "?propagationPolicy=Orphan")],
    }
    for verb, asked in tries.items():
        for each in asked:
            assert each.code in (403, 422), each
            assert RIGHTS["analysissessions", verb] in each.said, each


def _patches() -> Iterator[Body]:
    yield {"spec": {"suspend": True}}
    yield {"spec": {"lifetimeSeconds": 60}}
    yield {"metadata": {"labels": {"a": "b"}}}
    yield {"metadata": {"annotations": {"kopf.zalando.org/last-handled-configuration": "{}"}}}
    yield {"metadata": {"finalizers": ["mallory.example/held"]}}


def test_she_reads_and_changes_nothing_else_of_his(place: Place, alice: dynamic.DynamicClient) -> None:
    let_in, there = [], objects(place)
    assert {"Secret", "ConfigMap", "Role", "RoleBinding", "Pod", "Service", "PersistentVolumeClaim"} <= {
        body["kind"] for body in there
    }
    for body in there:
        where = path(place, body)
        tries = [ask(alice, verb, f"{where}/{sub}", {}) for verb, sub in SUBRESOURCES.get(body["kind"], ())]
        if body["kind"] != "AnalysisSession":
            change = {"metadata": {"labels": {"a": "b"}}}
            tries += [ask(alice, "get", where), ask(alice, "delete", where), ask(alice, "patch", where, change)]
        let_in += [each for each in tries if each.code != 403]
    assert not let_in, "\n".join(map(str, let_in))


def test_of_kinds_as_a_whole_she_has_what_the_role_says(place: Place, alice: dynamic.DynamicClient) -> None:
    """What her own session gives her is by name, and the name is her session's."""
    body = {"spec": {"namespace": place.tenant.namespace}}
    review = client.AuthorizationV1Api(alice.client).create_self_subject_rules_review(body)
    rules = [rule for rule in review.status.resource_rules if not _of_everybody(rule)]
    named = {name for rule in rules for name in rule.resource_names or ()}
    assert named, "her own session gives her rights"
    assert all(name.startswith(f"{HERS}-") for name in named), named
    whole = {(r, v) for rule in rules if not rule.resource_names for r in rule.resources for v in rule.verbs}
    assert whole == set(RIGHTS)


def _of_everybody(rule: Any) -> bool:
    return set(rule.api_groups) <= {"authorization.k8s.io", "authentication.k8s.io"}


def test_a_session_of_hers_takes_nothing_of_his(place: Place, alice: dynamic.DynamicClient) -> None:
    """Neither his Secrets nor his ConfigMaps as the source of a run of her own."""
    where = f"/apis/{API}/namespaces/{place.tenant.namespace}/analysissessions"
    maps = [body["metadata"]["name"] for body in objects(place) if body["kind"] == "ConfigMap"]
    assert maps
    for name in maps:
        spec: Body = {"user": place.alice.user, "mode": "Headless"}
        spec["run"] = {"command": ["true"], "source": {"configMap": name}}
        body = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": "borrows"}, "spec": spec}
        asked = ask(alice, "post", where, body)
        assert asked.code in (403, 422), asked
        assert "af-operator-session-source" in asked.said, asked


def test_the_namespace_itself_is_not_hers(place: Place, alice: dynamic.DynamicClient) -> None:
    """So nobody takes Pod Security away who may only use sessions."""
    where = f"/api/v1/namespaces/{place.tenant.namespace}"
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    for asked in (ask(alice, "patch", where, labels), ask(alice, "delete", where), ask(alice, "get", where)):
        assert asked.code == 403, asked
    roles: Body = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "mine"}}
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.tenant.namespace}/rolebindings"
    assert ask(alice, "post", path, binding | roles).code == 403
