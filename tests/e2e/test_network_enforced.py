"""Whether the cluster enforces NetworkPolicies is found out, and told: also where they hold nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from af_operator.enforcement import CONFIG_MAP, LOOK_SECONDS, Finding, read
from af_operator.network_probe import CLOSED, NAME_LABEL, OPEN, POLICY_SECONDS
from local_cluster import facility as demo
from tests.support import chart
from tests.support.tenant import Tenant, kubectl, poll

ROOM_SECONDS = 150.0
"""For three small pods to start, on a busy machine."""
OPEN_TO_ALL = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "open-to-all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]},
}
"""Policies add up: beside this one no other closes anything, as on a network that enforces none."""


def found(namespace: str) -> Finding:
    return read(json.loads(kubectl("get", "configmap", CONFIG_MAP, f"--namespace={namespace}", "--output=json")))


def said(name: str) -> dict[str, Any]:
    """Return the profile's condition."""
    status = json.loads(kubectl("get", "analysisprofile", name, "--output=json")).get("status", {})
    return next((c for c in status.get("conditions", ()) if c["type"] == "NetworkEnforced"), {})


def left(namespace: str) -> str:
    names = kubectl("get", "pods,networkpolicies", f"--namespace={namespace}", "--output=name").split()
    return " ".join(name for name in names if name.endswith((OPEN, CLOSED)))


def in_namespace(namespace: str) -> list[dict[str, Any]]:
    """Return the Job and what it needs as the chart has them, for another namespace."""
    values = {"image": {"operator": demo.image_references()["operator"]}, "watchNamespaces": ["*"]}
    objects = chart.rendered(values, namespace)
    mine = [o for o in objects if o["metadata"].get("labels", {}).get(NAME_LABEL) == CONFIG_MAP]
    return [o for o in mine if o["metadata"].get("namespace") == namespace and "reader" not in o["metadata"]["name"]]


@pytest.mark.timeout(300)
def test_the_facility_is_told_that_policies_hold(facility: demo.Facility) -> None:
    poll(lambda: found(demo.SYSTEM_NAMESPACE).enforced == "true", "policies are found to hold", ROOM_SECONDS)
    condition = poll(
        lambda: (told := said("default")).get("status") == "True" and told, "the profile says so", LOOK_SECONDS + 30
    )
    assert "refused with one" in condition["message"]
    shown = kubectl("get", "analysisprofile", "default").splitlines()
    assert shown[0].index("NETWORK ENFORCED") == shown[1].index("True")
    poll(lambda: not left(demo.SYSTEM_NAMESPACE), "its pods and its policy have gone")


@pytest.mark.timeout(300)
def test_where_a_policy_closes_nothing_it_is_found_out(tenant: Tenant) -> None:
    """Under Pod Security `restricted`; the Job, its account and its rights are the chart's."""
    documents = [OPEN_TO_ALL, *in_namespace(tenant.namespace)]
    assert {o["kind"] for o in documents} == {
        "NetworkPolicy",
        "ServiceAccount",
        "ConfigMap",
        "Role",
        "RoleBinding",
        "Job",
    }
    tenant.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))
    finding = poll(
        lambda: (now := found(tenant.namespace)).message.startswith("a connection") and now,
        "something is found out",
        ROOM_SECONDS + POLICY_SECONDS,
    )
    assert finding.enforced == "false"
    assert "Install a network plugin" in finding.message
    poll(lambda: not left(tenant.namespace), "its pods and its policy have gone")
