"""The ways that are compared, and what dask-kubernetes is given where it is used without a session."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
NATIVE, DASK_KUBERNETES = "Native", "DaskKubernetes"
ENGINES = (NATIVE, DASK_KUBERNETES)
"""Engines of a session's Dask, as a profile has them in ``dask.engine``."""
OWN_WAY = "dask-kubernetes"
"""A bare DaskCluster and its groups: all others are compared with it."""


@dataclass(frozen=True)
class Shape:
    """What a session's DaskCluster and one of its groups are made of; the plain ones have the very same pods."""

    cluster: Body
    group: Body

    def plain_cluster(self, name: str) -> Body:
        """Return the spec of a DaskCluster with Dask's own scheduler: the agent is what this project adds."""
        spec = copy.deepcopy(self.cluster)
        spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] = name
        pod = spec["scheduler"]["spec"]
        pod.pop("volumes")
        container = pod["containers"][0]
        container.pop("volumeMounts")
        at = container["args"].index("--preload")
        del container["args"][at : at + 2]
        return spec

    def plain_group(self, cluster: str) -> Body:
        """Return the spec of an empty DaskWorkerGroup."""
        spec = copy.deepcopy(self.group) | {"cluster": cluster}
        spec["worker"]["replicas"] = 0
        return spec

    def worker_pod(self) -> Body:
        """Return the spec of a worker's pod."""
        return dict(copy.deepcopy(self.group["worker"]["spec"]))


def plain(kind: str, name: str, spec: Body) -> Body:
    """Return an object of dask-kubernetes, to be created."""
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
