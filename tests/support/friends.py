"""Pods of a test's own that talk with sessions: none of theirs, so the sessions' NetworkPolicies keep them out."""

from __future__ import annotations

import json
from collections.abc import Mapping

from local_cluster.settings import HOST_ADDRESS
from tests.support.tenant import SESSION_UID, Body, Tenant


def befriend(tenant: Tenant, labels: Mapping[str, str]) -> None:
    """Let all sessions of a namespace and pods with these labels connect to each other. Policies add up."""
    _befriend(tenant, {"podSelector": {"matchLabels": dict(labels)}})


def befriend_machine(tenant: Tenant) -> None:
    """Let this machine connect to all sessions of a namespace: an operator that runs on it is no pod."""
    _befriend(tenant, {"ipBlock": {"cidr": f"{HOST_ADDRESS}/32"}})


def befriend_everybody(tenant: Tenant) -> None:
    """Let all pods of the cluster and the sessions of a namespace connect: what holds then is no network's."""
    _befriend(tenant, {"namespaceSelector": {}})


def _befriend(tenant: Tenant, peer: Body) -> None:
    chosen = {"matchExpressions": [{"key": SESSION_UID, "operator": "Exists"}]}
    ways = {"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [peer]}], "egress": [{"to": [peer]}]}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends"},
        "spec": {"podSelector": chosen, **ways},
    }
    tenant.kubectl("apply", "--filename=-", stdin=json.dumps(body))
