"""Simulated nodes for a control plane: kube-scheduler binds pods to them, and KWOK says that they run. Nothing does.

With kube-controller-manager's part for Deployments this is a cluster that starts a thousand pods on two cores, to see
what those who ask for the pods take for it. Limits of clients are lifted as far as they go: what is left is the work.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).parent / "manifests" / "kwok.yaml"
COMPONENTS = ("kube-scheduler", "kwok")
CONTROLLERS = ("deployment-controller", "replicaset-controller")
"""Of kube-controller-manager: those that make pods of Deployments."""
PODS_EACH = 110
CAPACITY = {"cpu": "128", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": str(PODS_EACH)}


def nodes(number: int) -> Iterator[dict[str, Any]]:
    """Yield nodes to be created; KWOK makes them ready."""
    for each in range(number):
        name = f"simulated-{each:03}"
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        yield {"metadata": metadata, "status": {"capacity": CAPACITY, "allocatable": CAPACITY}}


def scheduler(kubeconfig: Path) -> dict[str, Any]:
    """Return the flags of kube-scheduler."""
    return {
        "kubeconfig": kubeconfig,
        "secure-port": 0,
        "leader-elect": "false",
        # The default binds fifty pods a second.
        "kube-api-qps": 1000,
        "kube-api-burst": 2000,
        "profiling": "false",
    }


def kwok(kubeconfig: Path) -> dict[str, Any]:
    """Return the flags of KWOK; it has no limit of requests."""
    return {"kubeconfig": kubeconfig, "config": CONFIGURATION, "v": "WARN"}  # else it says a line for each pod


def ready(listed: dict[str, Any], number: int) -> bool:
    """Return whether so many nodes of a list are ready."""
    conditions: list[dict[str, str]] = [c for node in listed["items"] for c in node["status"].get("conditions", ())]
    return sum(c["type"] == "Ready" and c["status"] == "True" for c in conditions) == number
