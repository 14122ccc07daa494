"""The ways to scale on the cluster: a session's pools with either engine, and plain objects of dask-kubernetes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from kubernetes import client as kube
from kubernetes import config

from benchmarks._engines import DASK_KUBERNETES, OWN_WAY, Shape, plain
from local_cluster.settings import KUBECONFIG
from tests.support.tenant import API, kubectl, poll

Body = dict[str, Any]
POOLS = ("cpu", "other")
SIZE = {"name": "tiny", "cpu": "10m", "memory": "400Mi"}
START_SECONDS = 180
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Names:
    """What the objects of one Dask cluster are called.

    Attributes
    ----------
    role
        Key of the label that says ``scheduler`` or ``worker``.
    deployments
        Whether each worker has a Deployment of its own.
    """

    cluster: str
    role: str
    deployments: bool

    @property
    def workers(self) -> str:
        """Selector of all that is made for workers."""
        return f"{self.role}=worker"

    @property
    def scheduler(self) -> str:
        """Selector of the scheduler's pod."""
        return f"{self.role}=scheduler"

    def pool_of(self, worker: str) -> str:
        """Return the pool of a worker, of its pod or of its Deployment, by its name; empty where it is of none."""
        group, _, _ = worker.partition("-worker-")
        return next((pool for pool in POOLS if f"{group}-".startswith(f"{self.cluster}-{pool}-")), "")


class Way(Protocol):
    """A Dask cluster with two pools of workers, both empty at first."""

    title: str
    names: Names

    def start(self) -> None:
        """Make it, and wait until its scheduler is ready."""

    def scale(self, pool: str, workers: int) -> None:
        """Ask for this many workers, in one request."""

    def stop(self) -> None:
        """Delete it, and wait until all its pods are gone."""


class SessionPools:
    """Pools of an AnalysisSession, whose spec is edited."""

    def __init__(self, namespace: str, engine: str, profile: str) -> None:
        self.title = engine
        by_dask = engine == DASK_KUBERNETES
        role = "dask.org/component" if by_dask else "analysisfacility.io/role"
        self.names = Names("session", role, deployments=by_dask)
        self._namespace, self._profile, self._api = namespace, profile, _api()
        self._workers = dict.fromkeys(POOLS, 0)

    def start(self) -> None:
        """See ``Way.start``."""
        spec = {"profile": self._profile, "user": "admin", "mode": "Interactive", "dask": self._dask()}
        _create(self._namespace, {"apiVersion": API, "kind": "AnalysisSession", "spec": spec}, self.names.cluster)
        _started(self._namespace, self.names)

    def scale(self, pool: str, workers: int) -> None:
        """See ``Way.scale``."""
        self._workers[pool] = workers
        where = (*API.split("/"), self._namespace, "analysissessions", self.names.cluster)
        self._api.patch_namespaced_custom_object(*where, {"spec": {"dask": self._dask()}}, _content_type=MERGE)

    def stop(self) -> None:
        """See ``Way.stop``."""
        kubectl("--namespace", self._namespace, "delete", "analysissession", self.names.cluster, "--wait=false")
        _gone(self._namespace)

    def shape(self) -> Shape:
        """Return what its DaskCluster and its groups are made of, where it has them."""
        groups = _get(self._namespace, "daskworkergroups", "-l", f"analysisfacility.io/pool={POOLS[0]}")["items"]
        return Shape(_get(self._namespace, "daskcluster", self.names.cluster)["spec"], groups[0]["spec"])

    def _dask(self) -> Body:
        shape = {"nodePool": "cpu", "size": SIZE["name"]}
        pools = [{"name": name, **shape, "workers": {"min": n, "max": n}} for name, n in self._workers.items()]
        return {"pools": pools}


class PlainGroups:
    """A DaskCluster and two DaskWorkerGroups with the same pods, whose ``replicas`` are set."""

    title = OWN_WAY
    names = Names("plain", "dask.org/component", deployments=True)

    def __init__(self, namespace: str, shape: Shape) -> None:
        self._namespace, self._shape, self._api = namespace, shape, _api()

    def start(self) -> None:
        """See ``Way.start``."""
        cluster = self.names.cluster
        _create(self._namespace, plain("DaskCluster", cluster, self._shape.plain_cluster(cluster)), cluster)
        _started(self._namespace, self.names)
        for pool in POOLS:
            group = self._shape.plain_group(cluster)
            _create(self._namespace, plain("DaskWorkerGroup", self._group(pool), group), self._group(pool))

    def scale(self, pool: str, workers: int) -> None:
        """See ``Way.scale``; this is what ``KubeCluster.scale`` sends."""
        where = ("kubernetes.dask.org", "v1", self._namespace, "daskworkergroups", self._group(pool))
        self._api.patch_namespaced_custom_object_scale(*where, {"spec": {"replicas": workers}}, _content_type=MERGE)

    def stop(self) -> None:
        """See ``Way.stop``."""
        kubectl("--namespace", self._namespace, "delete", "daskcluster", self.names.cluster, "--wait=false")
        kubectl("--namespace", self._namespace, "delete", "daskworkergroups", "--all", "--wait=false")
        _gone(self._namespace)

    def _group(self, pool: str) -> str:
        return f"{self.names.cluster}-{pool}"


def _api() -> kube.CustomObjectsApi:
    return kube.CustomObjectsApi(config.new_client_from_config(str(KUBECONFIG)))


def _get(namespace: str, *what: str) -> Body:
    found: Body = json.loads(kubectl("--namespace", namespace, "get", *what, "--output=json"))
    return found


def _create(namespace: str, body: Body, name: str) -> None:
    kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps({**body, "metadata": {"name": name}}))


def _started(namespace: str, names: Names) -> None:
    pods = ("pods", "-l", names.scheduler)
    poll(lambda: _ready(_get(namespace, *pods)), f"the scheduler of {names.cluster} is ready", START_SECONDS)


def _ready(pods: Body) -> bool:
    conditions = [c for pod in pods["items"] for c in pod["status"].get("conditions", ())]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _gone(namespace: str) -> None:
    poll(lambda: not _get(namespace, "pods")["items"], "all pods are gone", START_SECONDS)
