"""Pods of a test's own that talk with sessions: none of theirs, so the sessions' NetworkPolicies keep them out."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.support.tenant import SESSION_UID, Tenant


def befriend(tenant: Tenant, labels: Mapping[str, str]) -> None:
    """Let all sessions of a namespace and pods with these labels connect to each other. Policies add up."""
    friends = [{"podSelector": {"matchLabels": dict(labels)}}]
    chosen = {"matchExpressions": [{"key": SESSION_UID, "operator": "Exists"}]}
    ways = {"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": friends}], "egress": [{"to": friends}]}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends"},
        "spec": {"podSelector": chosen, **ways},
    }
    tenant.kubectl("apply", "--filename=-", stdin=json.dumps(body))
