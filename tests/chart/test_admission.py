"""The admission policies as objects; what they refuse is tried on a real API server (tests/contract)."""

import pytest

from af_operator import names
from af_operator.components import shipped

from .conftest import DEFAULT, EVERYTHING, NAMESPACE, Objects, Render
from .test_objects import named

OF_THE_OPERATOR = {f"af-operator-own-{about}" for about in ("objects", "pods", "network", "connections")}
GUARDS = {"af-operator-session-children", "af-operator-session-network"}
BOUND = OF_THE_OPERATOR | {"af-operator-network-probe"}
POLICIES = (
    {f"af-operator-session-{about}" for about in ("user", "source", "changes", "profile", "namespace")} | GUARDS | BOUND
)
WARNING = "af-operator-session-namespace"
OF_DASK = {"af-operator-dask-objects", "af-operator-dask-pods"}
OF_THE_HUB = {"af-operator-hub-secrets", "af-operator-hub-connections"}

pytestmark = pytest.mark.timeout(600)


def policies(objects: Objects) -> set[str]:
    return {o["metadata"]["name"] for o in objects if o["kind"] == "ValidatingAdmissionPolicy"}


def test_policies_fail_closed_and_deny(default: Objects, everything: Objects) -> None:
    assert policies(default) == POLICIES
    assert policies(everything) == POLICIES | OF_THE_HUB | OF_DASK
    for name in policies(everything):
        assert named(everything, "ValidatingAdmissionPolicy", name)["spec"]["failurePolicy"] == "Fail"
        binding = named(everything, "ValidatingAdmissionPolicyBinding", name)["spec"]
        actions = ["Warn", "Audit"] if name == WARNING else ["Deny"]
        assert binding == {"policyName": name, "validationActions": actions}


ABOUT = [
    *((name, "dask-operator") for name in sorted(OF_DASK)),
    *((name, "hub") for name in sorted(OF_THE_HUB)),
    *((name, "af-operator") for name in sorted(OF_THE_OPERATOR)),
]


@pytest.mark.parametrize(("policy", "deployment"), ABOUT)
def test_a_policy_about_one_account_is_about_it_alone(everything: Objects, policy: str, deployment: str) -> None:
    spec = named(everything, "ValidatingAdmissionPolicy", policy)["spec"]
    account = named(everything, "Deployment", deployment)["spec"]["template"]["spec"]["serviceAccountName"]
    [condition] = spec["matchConditions"]
    assert condition["expression"].endswith(f"== 'system:serviceaccount:{NAMESPACE}:{account}'")


def test_each_refusal_says_why(everything: Objects) -> None:
    for name in policies(everything):
        for validation in named(everything, "ValidatingAdmissionPolicy", name)["spec"]["validations"]:
            assert validation.get("message") or validation.get("messageExpression")


def test_children_policy_covers_all_that_components_make(default: Objects) -> None:
    spec = named(default, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
    rules = spec["matchConstraints"]["resourceRules"]
    covered = {(group, resource) for r in rules for group in r["apiGroups"] for resource in r["resources"]}
    made = {(k.api_version.rpartition("/")[0], k.plural) for c in shipped() for k in (*c.KINDS, *c.SHARED)}
    assert made | {("", "pods"), ("apps", "replicasets")} <= covered
    assert all(sorted(r["operations"]) == ["CREATE", "UPDATE"] for r in rules)
    assert not any(resource == "events" or "*" in resource for _, resource in covered)


def covered(objects: Objects, policy: str) -> dict[tuple[str, str], set[str]]:
    """Return the operations that a policy judges, by group and resource."""
    rules = named(objects, "ValidatingAdmissionPolicy", policy)["spec"]["matchConstraints"]["resourceRules"]
    return {(g, r): set(rule["operations"]) for rule in rules for g in rule["apiGroups"] for r in rule["resources"]}


def test_what_the_operator_may_write_is_bounded(default: Objects) -> None:
    """Whatever a component will make one day: its own rights are the list."""
    found = covered(default, "af-operator-own-objects")
    rules = named(default, "ClusterRole", "af-operator-sessions")["rules"]
    made = {(g, r) for rule in rules if "create" in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}
    assert {(g, r) for g, r in made if "/" not in r and r != "events"} | {("", "pods")} == set(found)
    assert all(operations == {"CREATE", "UPDATE", "DELETE"} for operations in found.values())


PODLESS = {"configmaps", "secrets", "services", "persistentvolumeclaims", "roles", "rolebindings", "networkpolicies"}


def test_each_kind_that_pods_are_made_of_is_judged_as_a_pod(default: Objects) -> None:
    """A kind that is neither here nor there is new: the policy has to be told where in it the pods stand."""
    pods = covered(default, "af-operator-own-pods")
    for group, resource in covered(default, "af-operator-own-objects"):
        assert (resource in PODLESS) != bool({(group, resource), (group, "*")} & pods.keys()), resource


def test_the_operator_writes_where_it_serves_sessions(default: Objects, everything: Objects) -> None:
    def first(objects: Objects) -> str:
        spec = named(objects, "ValidatingAdmissionPolicy", "af-operator-own-objects")["spec"]
        found: str = spec["validations"][0]["expression"]
        return found

    assert first(default) == f"!request.namespace.startsWith('kube-') && request.namespace != '{NAMESPACE}'"
    assert first(everything) == 'request.namespace in ["physics","detector"]'


def test_children_policy_is_about_the_operators_labels(default: Objects) -> None:
    spec = named(default, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
    labels = [names.USER if v["name"].startswith("user") else names.SESSION_UID for v in spec["variables"]]
    assert all(label in v["expression"] for label, v in zip(labels, spec["variables"], strict=True))
    assert set(labels) == {names.USER, names.SESSION_UID}
    [validation] = spec["validations"]
    assert all(f"variables.{v['name']}" in validation["expression"] for v in spec["variables"])
    assert f'"system:serviceaccount:{NAMESPACE}:af-operator"' in validation["expression"]


def test_trusted_users(default: Objects, with_dask: Objects, everything: Objects) -> None:
    spec = named(everything, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
    assert '"system:serviceaccount:velero:velero","o\'neil"' in spec["validations"][0]["expression"]
    for objects, trusted in ((default, False), (with_dask, True)):
        spec = named(objects, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
        account = f'"system:serviceaccount:{NAMESPACE}:dask-operator"'
        assert (account in spec["validations"][0]["expression"]) == trusted


def test_policies_can_be_left_out(render: Render) -> None:
    for values in (DEFAULT, EVERYTHING):
        assert policies(render({**values, "admissionPolicies": {"enabled": False}})) == set()
    unguarded = render({**DEFAULT, "admissionPolicies": {"guardChildren": False}})
    assert policies(unguarded) == POLICIES - GUARDS
    unwarned = render({**DEFAULT, "admissionPolicies": {"warnUnrestricted": False}})
    assert policies(unwarned) == POLICIES - {WARNING}
    unbounded = render({**DEFAULT, "admissionPolicies": {"boundOperator": False}})
    assert policies(unbounded) == POLICIES - BOUND
