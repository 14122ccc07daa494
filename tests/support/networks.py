"""The network of a facility, as its chart tells the operator of it."""

from __future__ import annotations

from typing import Any

NETWORK: dict[str, Any] = {
    "clusterCidrs": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"],
    "dns": {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}},
    "operator": {"namespace": "af-system", "podLabels": {"app.kubernetes.io/name": "af-operator"}},
    "hub": {"namespace": "af-system", "podLabels": {"app.kubernetes.io/name": "hub"}},
    "proxy": {"namespace": "af-system", "podLabels": {"app.kubernetes.io/name": "proxy"}},
}
