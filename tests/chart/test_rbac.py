"""Who may do what: the operator what its components need, the Dask operator what a list says, users sessions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from af_operator.components import shipped
from af_operator.crdgen import operator_rules
from tests.support.chart import CHART

from .conftest import DEFAULT, NAMESPACE, Objects
from .test_objects import named

HERE = Path(__file__).parent
GENERATED = CHART / "generated" / "operator-rules.yaml"
# Whoever has one of these owns the cluster, or every Secret in it.
DANGEROUS = {
    "secrets", "serviceaccounts/token", "nodes/proxy", "pods/exec", "pods/attach", "pods/portforward",
    "pods/ephemeralcontainers", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "users", "groups",
    "serviceaccounts", "validatingwebhookconfigurations", "mutatingwebhookconfigurations",
    "validatingadmissionpolicies", "validatingadmissionpolicybindings", "certificatesigningrequests",
    "persistentvolumes", "tokenreviews",
}  # fmt: skip
# And why some have a few of them all the same.
EXCEPTIONS = {
    # A notebook's token, and its user's right to read it and to reach the pod: nobody grants what they do not have.
    "af-operator-sessions": {"secrets", "roles", "rolebindings", "pods/portforward"},
    # The Hub's environment for each session's notebook; it knows them by name.
    "af-operator-hub-sessions": {"secrets"},
}
IMPERSONATE = ("analysisfacility.io", "analysissessions", "", "impersonate")
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
READ_ONLY = {"namespaces", "customresourcedefinitions", "analysisprofiles", "nodes"}

Right = tuple[str, str, str, str]
OWN_STATUS: Right = ("analysisfacility.io", "analysisprofiles/status", "", "patch")

pytestmark = pytest.mark.timeout(600)


def rights(rules: list[dict[str, Any]]) -> set[Right]:
    """Return rules as (group, resource, name, verb), so that their grouping does not matter."""
    return {
        (group, resource, name, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def roles(objects: Objects) -> Objects:
    return [o for o in objects if o["kind"] in ("Role", "ClusterRole")]


def rules_of(objects: Objects, prefix: str) -> list[dict[str, Any]]:
    names = (f"{prefix}-cluster", f"{prefix}-sessions")
    return [rule for name in names for rule in named(objects, "ClusterRole", name)["rules"] or []]


@pytest.mark.parametrize("values", ["default", "everything"])
def test_operator_has_the_generated_rights(values: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    components = shipped()
    generated = rights(
        operator_rules((k for c in components for k in c.KINDS), (k for c in components for k in c.SHARED))
    )
    assert generated == rights(yaml.safe_load(GENERATED.read_text())), "stale: run `make generate`"
    assert rights(rules_of(objects, "af-operator")) == generated


def test_operator_has_what_each_component_needs(default: Objects) -> None:
    granted = rights(rules_of(default, "af-operator"))
    for component in shipped():
        for kind in component.KINDS:
            group = kind.api_version.rpartition("/")[0]
            verbs = {verb for g, resource, _, verb in granted if (g, resource) == (group, kind.plural)}
            assert verbs >= {"get", "list", "watch", "create", "patch", "delete"}, f"{component.NAME} {kind.plural}"
        for kind in component.WATCHED:
            group = kind.api_version.rpartition("/")[0]
            assert {(group, kind.plural, "", verb) for verb in ("list", "watch")} <= granted, kind.plural


def test_operator_writes_only_what_components_make(default: Objects) -> None:
    made = {(k.api_version.rpartition("/")[0], k.plural) for c in shipped() for k in (*c.KINDS, *c.SHARED)}
    written = {(g, r) for g, r, _, verb in rights(rules_of(default, "af-operator")) if verb in WRITES}
    own = {(g, r) for g, r in written if g == "analysisfacility.io" or r == "events"}
    assert {(g, r) for g, r in written - own if "/" not in r} <= made


@pytest.mark.parametrize("values", ["default", "everything"])
def test_no_wildcards_and_nothing_dangerous(values: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    assert len(roles(objects)) >= 6
    for role in roles(objects):
        name = role["metadata"]["name"]
        for rule in role["rules"] or []:
            assert "nonResourceURLs" not in rule
        for right in rights(role["rules"] or []):
            group, resource, _, verb = right
            assert "*" not in group + resource + verb, name
            assert resource not in DANGEROUS - EXCEPTIONS.get(name, set()), name
            allowed = name == "af-operator-hub-sessions" and right == IMPERSONATE
            assert allowed or verb not in {"escalate", "bind", "impersonate"}, name


def test_what_outlives_sessions_is_never_changed_or_deleted(default: Objects) -> None:
    granted = rights(rules_of(default, "af-operator"))
    for kind in (k for c in shipped() for k in c.SHARED):
        verbs = {verb for _, resource, _, verb in granted if resource == kind.plural}
        assert verbs == {"get", "list", "watch", "create"}, kind.plural


def test_operators_only_read_what_is_the_clusters(with_dask: Objects, everything: Objects) -> None:
    for objects in (with_dask, everything):
        for prefix in ("af-operator", "af-operator-dask"):
            cluster = rights(named(objects, "ClusterRole", f"{prefix}-cluster")["rules"] or []) - {OWN_STATUS}
            assert {resource for _, resource, _, _ in cluster} <= READ_ONLY
            assert {verb for _, _, _, verb in cluster} <= {"get", "list", "watch"}


@pytest.mark.parametrize("prefix", ["af-operator", "af-operator-dask"])
def test_bound_cluster_wide_or_in_the_named_namespaces(prefix: str, with_dask: Objects, everything: Objects) -> None:
    def bound(objects: Objects) -> set[tuple[str, str | None]]:
        bindings = [o for o in objects if o["kind"].endswith("Binding") and "roleRef" in o]
        sessions = [o for o in bindings if o["roleRef"]["name"] == f"{prefix}-sessions"]
        return {(o["kind"], o["metadata"].get("namespace")) for o in sessions}

    assert bound(with_dask) == {("ClusterRoleBinding", None)}
    assert bound(everything) == {("RoleBinding", "physics"), ("RoleBinding", "detector")}


@pytest.mark.parametrize("values", ["default", "everything"])
def test_bindings_name_roles_and_accounts_that_exist(values: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    bindings = [o for o in objects if "roleRef" in o]
    assert bindings
    for binding in bindings:
        assert named(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        [subject] = binding["subjects"]
        assert subject["namespace"] == NAMESPACE
        assert named(objects, "ServiceAccount", subject["name"])


def test_dask_operator_has_the_reviewed_rights(with_dask: Objects) -> None:
    found = sorted(" ".join(filter(None, right)) for right in rights(rules_of(with_dask, "af-operator-dask")))
    assert found == (HERE / "dask-operator-rights.txt").read_text().splitlines(), "\n".join(found)


def test_users_have_sessions_and_logs_and_nothing_else(default: Objects) -> None:
    user = rights(named(default, "ClusterRole", "analysisfacility-user")["rules"])
    verbs = ("create", "get", "list", "watch", "patch", "delete")
    sessions = {("analysisfacility.io", "analysissessions", "", verb) for verb in verbs}
    use = {("analysisfacility.io", "analysisprofiles", "", "use")}
    assert user == sessions | {("", "pods/log", "", "get")} | use
    viewer = rights(named(default, "ClusterRole", "analysisfacility-viewer")["rules"])
    assert {verb for _, _, _, verb in viewer} == {"get", "list", "watch"}
    assert viewer < user


def test_nobody_but_the_operator_writes_status(default: Objects) -> None:
    for role in roles(default):
        if not role["metadata"]["name"].startswith("af-operator-"):
            assert {r for _, r, _, _ in rights(role["rules"]) if r.endswith(("/status", "/finalizers"))} == set()


def test_aggregation_can_be_left_out(default: Objects, render: Any) -> None:
    def aggregated(objects: Objects) -> set[str]:
        return {key for role in roles(objects) for key in role["metadata"]["labels"] if "aggregate-to" in key}

    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert aggregated(default) == {f"{prefix}edit", f"{prefix}view"}
    image = {**DEFAULT, "image": {"operator": "x"}}
    assert aggregated(render({**image, "userRoles": {"aggregate": False}})) == set()
    names = {role["metadata"]["name"] for role in roles(render({**image, "userRoles": {"create": False}}))}
    assert not any(name.startswith("analysisfacility-") for name in names)
