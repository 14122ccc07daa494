"""The ways that are compared, and what dask-kubernetes is given where it is used without a session."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
NATIVE, DASK_KUBERNETES = "Native", "DaskKubernetes"
ENGINES = (NATIVE, DASK_KUBERNETES)
"""Engines of a session's Dask, as a profile has them in ``dask.engine``."""
OURS = ("DASK_SCHEDULER_ADDRESS", "DASK_DISTRIBUTED__COMM__", "DASK_DISTRIBUTED__WORKER__PRELOAD")
"""Variables by which a session's programs speak TLS, and guard their pages."""
OWN_WAY = "dask-kubernetes"
"""A bare DaskCluster and its groups: all others are compared with it."""


@dataclass(frozen=True)
class Shape:
    """What a session's DaskCluster and one of its groups are made of; the plain ones have the very same pods."""

    cluster: Body
    group: Body

    def plain_cluster(self, name: str) -> Body:
        """Return the spec of a DaskCluster with Dask's own scheduler."""
        spec = copy.deepcopy(self.cluster)
        spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] = name
        _without_what_is_ours(spec["scheduler"]["spec"])
        return spec

    def plain_group(self, cluster: str) -> Body:
        """Return the spec of an empty DaskWorkerGroup."""
        spec = copy.deepcopy(self.group) | {"cluster": cluster}
        spec["worker"]["replicas"] = 0
        _without_what_is_ours(spec["worker"]["spec"])
        return spec

    def worker_pod(self) -> Body:
        """Return the spec of a worker's pod."""
        return dict(copy.deepcopy(self.group["worker"]["spec"]))


def _without_what_is_ours(pod: Body) -> None:
    """Take away the agent, the guard and TLS: that operator would not find its way into such a scheduler."""
    container = pod["containers"][0]
    while "--preload" in container["args"]:
        at = container["args"].index("--preload")
        del container["args"][at : at + 2]
    container["env"] = [each for each in container["env"] if not each["name"].startswith(OURS)]
    for holder, entries in ((pod, "volumes"), (container, "volumeMounts")):
        holder[entries] = [each for each in holder.get(entries, ()) if each["name"] not in ("agent", "dask")]


def plain(kind: str, name: str, spec: Body) -> Body:
    """Return an object of dask-kubernetes, to be created."""
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
