"""The Dask operator lives on the rights that the chart gives it: made, grown, shrunk, ended when idle, deleted.

A hardened API server is what this is for: with OwnerReferencesPermissionEnforcement the rights of
dask-kubernetes' own chart are not enough, and in all other things they are far too many.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from af_operator.components.dask.programs import ROUTES
from local_cluster import facility
from local_cluster.api import Kubectl
from local_cluster.progress import Progress
from local_cluster.settings import KUBECONFIG, LOCAL
from tests.contract.on_cluster import LABEL, restricted_pod, until

ROOT = Path(__file__).parents[2]
SESSION = {LABEL: "11111111-2222-3333-4444-555555555555"}
"""It makes nothing of what belongs to no session."""
OPERATOR = f"system:serviceaccount:{facility.SYSTEM_NAMESPACE}:dask-operator"
# Rights that no request shows. Finalizers: admission asks for them by itself. daskworkergroups delete: likewise,
# when the operator makes a DaskCluster the owner of a group that is there.
UNSEEN = {
    "kubernetes.dask.org daskclusters/finalizers update",
    "kubernetes.dask.org daskworkergroups/finalizers update",
    "kubernetes.dask.org daskworkergroups delete",
}

# It restarts the Dask operator, and looks at all that this asks for.
pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image() -> str:
    """The operator's image has Dask in it, too."""
    return facility.image_references()["operator"]


@pytest.fixture(scope="module")
def kubectl() -> Kubectl:
    found = Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)
    facility.install_chart(Progress(), found, facility.image_references(), dask_operator=True)
    facility.await_rollout(Progress(), found, facility.SYSTEM_NAMESPACE)
    return found


@pytest.fixture(scope="module")
def audit_log() -> Path:
    command = [sys.executable, "-m", "local_cluster", "audit-log"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip())


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"dask-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def cluster(name: str, image: str, idle: int = 0) -> dict[str, Any]:
    env = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": json.dumps(ROUTES)}
    scheduler = restricted_pod(image, ["dask", "scheduler"], env)
    ports = {"tcp-comm": 8786, "http-dashboard": 8787}
    scheduler["containers"][0] |= {
        "ports": [{"name": n, "containerPort": p} for n, p in ports.items()],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 1},
    }
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler", **SESSION},
        "ports": [{"name": n, "port": p, "protocol": "TCP", "targetPort": n} for n, p in ports.items()],
    }
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name, "labels": SESSION},
        "spec": {
            "idleTimeout": idle,
            "scheduler": {"spec": scheduler, "service": service},
            "worker": {"replicas": 0, "spec": worker(image)},
        },
    }


def worker(image: str) -> dict[str, Any]:
    command = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--no-dashboard"]
    return restricted_pod(image, [*command, "--local-directory", "/tmp"])


def group(name: str, of: str, image: str, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": name, "labels": SESSION},
        "spec": {"cluster": of, "worker": {"replicas": replicas, "spec": worker(image)}},
    }


def requests(audit_log: Path, start: int) -> list[dict[str, Any]]:
    """Return what the Dask operator has asked of the API server since the log had this size."""
    with audit_log.open("rb") as log:
        log.seek(start)
        events = (json.loads(line) for line in log if line.endswith(b"\n"))
        return [e for e in events if e["user"]["username"] == OPERATOR and "objectRef" in e]


def right(event: dict[str, Any]) -> str:
    what = event["objectRef"]
    resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
    return " ".join(filter(None, (what.get("apiGroup"), resource, event["verb"])))


def test_it_lives_on_its_rights(kubectl: Kubectl, namespace: str, image: str, audit_log: Path) -> None:
    start, here = audit_log.stat().st_size, f"--namespace={namespace}"

    def ready(component: str, number: int) -> bool:
        found = kubectl.get("deployments", here, f"--selector=dask.org/component={component}")["items"]
        return len(found) == number and all(d["status"].get("readyReplicas") == 1 for d in found)

    # The pod starts anew, so that what it does first is seen, too.
    kubectl("rollout", "restart", "deployment/dask-operator", f"--namespace={facility.SYSTEM_NAMESPACE}")
    facility.await_rollout(Progress(), kubectl, facility.SYSTEM_NAMESPACE)
    kubectl("create", here, "--filename=-", stdin=yaml.safe_dump(cluster("c1", image)))
    kubectl("create", here, "--filename=-", stdin=yaml.safe_dump(group("c1-pool", "c1", image, 1)))
    until("a scheduler", lambda: ready("scheduler", 1))
    until("one worker", lambda: ready("worker", 1))
    owners = kubectl.get("daskworkergroup", "c1-pool", here)["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["DaskCluster"]

    scale(kubectl, here, 3)
    # Retired are only workers that the scheduler knows: the others would be forgotten.
    until("three workers have joined", lambda: joined(kubectl, namespace, "c1") == 3)
    scale(kubectl, here, 1)
    until("one worker again", lambda: ready("worker", 1))

    kubectl("delete", "daskcluster", "c1", here, "--wait=false")
    until("nothing is left", lambda: not remains(kubectl, here))
    kubectl("create", here, "--filename=-", stdin=yaml.safe_dump(cluster("c2", image, idle=2)))
    until("the idle cluster has been ended", lambda: ended(requests(audit_log, start), "c2"), seconds=90)
    until("nothing is left", lambda: not remains(kubectl, here))

    seen = requests(audit_log, start)
    assert [(right(e), e["responseStatus"].get("message")) for e in seen if e["responseStatus"]["code"] == 403] == []
    granted = set((ROOT / "tests/chart/dask-operator-rights.txt").read_text().splitlines())
    assert granted - {right(event) for event in seen} == UNSEEN, "a right that is never used should not be there"


def scale(kubectl: Kubectl, here: str, replicas: int) -> None:
    patch = json.dumps({"spec": {"worker": {"replicas": replicas}}})
    kubectl("patch", "daskworkergroup", "c1-pool", here, "--type=merge", f"--patch={patch}")


def joined(kubectl: Kubectl, namespace: str, name: str) -> int:
    """Return how many workers the scheduler has."""
    service = f"/api/v1/namespaces/{namespace}/services/{name}-scheduler:http-dashboard"
    return int(json.loads(kubectl("get", "--raw", f"{service}/proxy/api/v1/get_workers"))["num_workers"])


def remains(kubectl: Kubectl, here: str) -> list[str]:
    kinds = "daskclusters,daskworkergroups,deployments,services,pods"
    return kubectl("get", kinds, here, "--output=name").split()


def ended(events: list[dict[str, Any]], name: str) -> bool:
    return any(e["verb"] == "delete" and e["objectRef"].get("name") == name for e in events)
