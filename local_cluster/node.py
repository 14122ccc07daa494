"""What the one node offers: GPUs, volumes, names."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_cluster.api import Kubectl
from local_cluster.settings import GPU_COUNT, GPU_RESOURCE, NODE, STORAGE_CLASS, VOLUME_COUNT, VOLUME_SIZE

MANIFESTS = Path(__file__).resolve().parent / "manifests"


def ready(kubectl: Kubectl, node: str = NODE) -> bool:
    """Say whether the node is there and ready."""
    nodes = kubectl.get("nodes", f"--field-selector=metadata.name={node}")["items"]
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for found in nodes
        for condition in found["status"].get("conditions", [])
    )


def advertise_gpus(kubectl: Kubectl, node: str = NODE) -> None:
    """Make the scheduler believe in GPUs; the kubelet keeps what it did not write itself."""
    resources = {GPU_RESOURCE: str(GPU_COUNT)}
    patch = json.dumps({"status": {"capacity": resources, "allocatable": resources}})
    kubectl("patch", "node", node, "--subresource=status", "--type=merge", f"--patch={patch}")


def deployment_available(kubectl: Kubectl, namespace: str, name: str) -> bool:
    """Say whether a Deployment has a pod that is ready."""
    deployment = kubectl.get("deployment", name, f"--namespace={namespace}")
    return bool(deployment.get("status", {}).get("availableReplicas", 0) >= 1)


def volume_names() -> list[str]:
    """Return the names of the persistent volumes, which are the names of their directories too."""
    return [f"{STORAGE_CLASS}-{number:02d}" for number in range(VOLUME_COUNT)]


def storage_class() -> dict[str, Any]:
    """Return the class whose volumes exist beforehand: there is no provisioner."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def volume(name: str, directory: Path, node: str) -> dict[str, Any]:
    """Return a ``local`` volume: unlike hostPath it honours a pod's fsGroup."""
    hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(directory / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
        },
    }


def renew_volumes(kubectl: Kubectl, directory: Path, node: str, empty: Callable[[Path], None]) -> None:
    """Make the volumes that are missing, and make those anew whose claim is gone, with nothing in them."""
    live = {
        found["metadata"]["name"]: found["status"].get("phase") for found in kubectl.get("persistentvolumes")["items"]
    }
    released = [name for name in volume_names() if live.get(name) in {"Released", "Failed"}]
    if released:
        kubectl("delete", "persistentvolume", "--wait=true", *released)
    new = [name for name in volume_names() if name not in live or name in released]
    if not new:
        return
    for name in new:
        empty(directory / name)
    objects = [storage_class(), *(volume(name, directory, node) for name in new)]
    kubectl.apply("\n---\n".join(json.dumps(found) for found in objects))


def empty_directory(path: Path) -> None:
    """Leave an empty directory that any user may write to, as pods run as many."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    path.chmod(0o1777)
