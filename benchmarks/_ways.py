"""The two ways to scale: a session's pools, and plain objects of dask-kubernetes as ``KubeCluster`` makes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Protocol

from af_client.sessions import Sessions
from tests.support.tenant import kubectl, poll

Body = dict[str, Any]
POOLS = ("cpu", "other")
SIZE = {"name": "tiny", "cpu": "10m", "memory": "400Mi"}
START_SECONDS = 180


class Way(Protocol):
    """A Dask cluster with two groups of workers, both empty at first."""

    title: str
    cluster: str

    def start(self) -> None:
        """Make it, and wait until its scheduler is ready."""

    def scale(self, pool: str, workers: int) -> None:
        """Ask for this many workers."""

    def group(self, pool: str) -> str:
        """Return the name of the pool's DaskWorkerGroup."""

    def stop(self) -> None:
        """Delete it, and wait until all its pods are gone."""


class SessionPools:
    """Pools of an AnalysisSession, whose spec is edited."""

    title = "AnalysisSession"
    cluster = "session"

    def __init__(self, namespace: str, profile: str) -> None:
        self._namespace, self._profile = namespace, profile
        self._sessions = Sessions(namespace)

    def start(self) -> None:
        """See ``Way.start``."""
        none = {"min": 0, "max": 0}
        pools = [{"name": name, "nodePool": "cpu", "size": SIZE["name"], "workers": none} for name in POOLS]
        spec = {"profile": self._profile, "mode": "Interactive", "dask": {"pools": pools}}
        self._sessions.create({"metadata": {"name": self.cluster}, "spec": spec})
        _started(self._namespace, self.cluster)

    def scale(self, pool: str, workers: int) -> None:
        """See ``Way.scale``."""
        self._sessions.scale(self.cluster, pool, workers)

    def group(self, pool: str) -> str:
        """See ``Way.group``."""
        return str(self._live(pool)["metadata"]["name"])

    def stop(self) -> None:
        """See ``Way.stop``."""
        self._sessions.delete(self.cluster)
        _gone(self._namespace)

    def shape(self) -> tuple[Body, Body]:
        """Return the specs of its DaskCluster and of one of its groups."""
        return _get(self._namespace, "daskcluster", self.cluster)["spec"], self._live(POOLS[0])["spec"]

    def _live(self, pool: str) -> Body:
        found = _get(self._namespace, "daskworkergroups", "-l", f"analysisfacility.io/pool={pool}")["items"]
        return dict(found[0])


class PlainGroups:
    """A DaskCluster and two DaskWorkerGroups with the same pods, whose ``replicas`` are set."""

    title = "dask-kubernetes"
    cluster = "plain"

    def __init__(self, namespace: str, shape: tuple[Body, Body]) -> None:
        self._namespace = namespace
        self._cluster_spec, self._group_spec = (copy.deepcopy(spec) for spec in shape)

    def start(self) -> None:
        """See ``Way.start``."""
        spec = _without_agent(self._cluster_spec)
        spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] = self.cluster
        _create(self._namespace, "DaskCluster", self.cluster, spec)
        _started(self._namespace, self.cluster)
        for pool in POOLS:
            spec = self._group_spec | {"cluster": self.cluster}
            spec["worker"]["replicas"] = 0
            _create(self._namespace, "DaskWorkerGroup", self.group(pool), spec)

    def scale(self, pool: str, workers: int) -> None:
        """See ``Way.scale``; this is what ``KubeCluster.scale`` sends."""
        patch = json.dumps({"spec": {"replicas": workers}})
        kubectl(
            *("--namespace", self._namespace, "patch", "daskworkergroup", self.group(pool)),
            *("--subresource=scale", "--type=merge", f"--patch={patch}"),
        )

    def group(self, pool: str) -> str:
        """See ``Way.group``."""
        return f"{self.cluster}-{pool}"

    def stop(self) -> None:
        """See ``Way.stop``."""
        kubectl("--namespace", self._namespace, "delete", "daskcluster", self.cluster, "--wait=false")
        kubectl("--namespace", self._namespace, "delete", "daskworkergroups", "--all", "--wait=false")
        _gone(self._namespace)


def _without_agent(spec: Body) -> Body:
    """Return a cluster's spec with Dask's own scheduler: the agent is what this project adds."""
    pod = spec["scheduler"]["spec"]
    pod.pop("volumes")
    container = pod["containers"][0]
    container.pop("volumeMounts")
    at = container["args"].index("--preload")
    del container["args"][at : at + 2]
    return spec


def _get(namespace: str, *what: str) -> Body:
    found: Body = json.loads(kubectl("--namespace", namespace, "get", *what, "--output=json"))
    return found


def _create(namespace: str, kind: str, name: str, spec: Mapping[str, Any]) -> None:
    body = {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps(body))


def _started(namespace: str, cluster: str) -> None:
    pods = ("pods", "-l", f"dask.org/cluster-name={cluster},dask.org/component=scheduler")
    poll(lambda: _ready(_get(namespace, *pods)), f"the scheduler of {cluster} is ready", START_SECONDS)


def _ready(pods: Body) -> bool:
    conditions = [c for pod in pods["items"] for c in pod["status"].get("conditions", ())]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _gone(namespace: str) -> None:
    poll(lambda: not _get(namespace, "pods")["items"], "all pods are gone", START_SECONDS)
