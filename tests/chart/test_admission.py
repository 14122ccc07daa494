"""The admission policies as objects; what they refuse is tried on a real API server (tests/contract)."""

import pytest

from af_operator import names
from af_operator.components import shipped

from .conftest import DEFAULT, EVERYTHING, NAMESPACE, Objects, Render
from .test_objects import named

POLICIES = {"af-operator-session-user", "af-operator-session-children"}
OF_THE_HUB = "af-operator-hub-secrets"

pytestmark = pytest.mark.timeout(600)


def policies(objects: Objects) -> set[str]:
    return {o["metadata"]["name"] for o in objects if o["kind"] == "ValidatingAdmissionPolicy"}


def test_policies_fail_closed_and_deny(default: Objects, everything: Objects) -> None:
    assert policies(default) == POLICIES
    assert policies(everything) == POLICIES | {OF_THE_HUB}
    for name in policies(everything):
        assert named(everything, "ValidatingAdmissionPolicy", name)["spec"]["failurePolicy"] == "Fail"
        binding = named(everything, "ValidatingAdmissionPolicyBinding", name)["spec"]
        assert binding == {"policyName": name, "validationActions": ["Deny"]}


def test_the_hubs_policy_is_about_the_hub_alone(everything: Objects) -> None:
    spec = named(everything, "ValidatingAdmissionPolicy", OF_THE_HUB)["spec"]
    account = named(everything, "Deployment", "hub")["spec"]["template"]["spec"]["serviceAccountName"]
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


def test_children_policy_is_about_the_operators_labels(default: Objects) -> None:
    spec = named(default, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
    labels = [names.USER if v["name"].startswith("user") else names.SESSION_UID for v in spec["variables"]]
    assert all(label in v["expression"] for label, v in zip(labels, spec["variables"], strict=True))
    assert set(labels) == {names.USER, names.SESSION_UID}
    [validation] = spec["validations"]
    assert all(f"variables.{v['name']}" in validation["expression"] for v in spec["variables"])
    for account in ("af-operator", "dask-operator"):
        assert f'"system:serviceaccount:{NAMESPACE}:{account}"' in validation["expression"]


def test_trusted_users(everything: Objects, render: Render) -> None:
    spec = named(everything, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
    assert '"system:serviceaccount:velero:velero","o\'neil"' in spec["validations"][0]["expression"]
    without = render({**DEFAULT, "daskOperator": {"enabled": False}})
    spec = named(without, "ValidatingAdmissionPolicy", "af-operator-session-children")["spec"]
    assert ":dask-operator" not in spec["validations"][0]["expression"]


def test_policies_can_be_left_out(render: Render) -> None:
    for values in (DEFAULT, EVERYTHING):
        assert policies(render({**values, "admissionPolicies": {"enabled": False}})) == set()
    only = render({**DEFAULT, "admissionPolicies": {"guardChildren": False}})
    assert policies(only) == {"af-operator-session-user"}
