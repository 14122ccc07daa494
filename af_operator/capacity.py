"""From (profile, nodes, pods of sessions) to the profile's status: how many GPUs of each node pool are free. Pure.

Counted is what sessions ask for. Pods of anybody else are not seen (the operator has no right to), and where it serves
a few namespaces, neither are those of other sessions: on nodes that are shared with them, fewer may be free than is
said here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from af_operator.api.profile import NodePool, ProfileSpec
from af_operator.components._pods import parse_quantity
from af_operator.model import Body

OVER = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Node:
    """What is of interest of a node; equal ones need no second look.

    Attributes
    ----------
    extended
        Allocatable extended resources, such as ``nvidia.com/gpu``.
    usable
        It is ready and takes new pods.
    """

    name: str
    labels: Mapping[str, str]
    extended: Mapping[str, int]
    usable: bool


def parse_node(body: Body) -> Node:
    """Return the value of a Node."""
    status, spec = body.get("status", {}), body.get("spec", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return Node(
        name=body["metadata"]["name"],
        labels=dict(body["metadata"].get("labels", {})),
        extended=_extended(status.get("allocatable", {})),
        usable=ready and not spec.get("unschedulable", False),
    )


def extended_of(pod: Body) -> dict[str, int]:
    """Return the extended resources that a pod asks for: of these, a limit is also the request."""
    found: dict[str, int] = {}
    for container in pod.get("spec", {}).get("containers", ()):
        for name, count in _extended(container.get("resources", {}).get("limits", {})).items():
            found[name] = found.get(name, 0) + count
    return found


def status(spec: ProfileSpec, nodes: Iterable[Node], pods: Iterable[Body]) -> dict[str, Any]:
    """Return the status that a profile should have; an empty one where no node pool has GPUs."""
    usable = [node for node in nodes if node.usable]
    asking = [pod for pod in pods if extended_of(pod) and pod.get("status", {}).get("phase") not in OVER]
    pools = [_pool(pool, pool.gpu_resource, usable, asking) for pool in spec.node_pools if pool.gpu_resource]
    said = ", ".join(f"{p['name']} {p['gpusFree']} of {p['gpus']} free" for p in pools)
    return {"nodePools": pools, "gpus": said} if pools else {}


def _pool(pool: NodePool, resource: str, nodes: Iterable[Node], pods: Iterable[Body]) -> dict[str, Any]:
    total = {n.name: n.extended.get(resource, 0) for n in nodes if pool.node_selector.items() <= n.labels.items()}
    free = dict(total)
    waiting = 0
    for pod in pods:
        count, node = extended_of(pod).get(resource, 0), pod["spec"].get("nodeName")
        if node in free:
            free[node] -= count
        elif not node and _waits_for(pod, pool, count, max(total.values(), default=0)):
            waiting += count
    left = sum(max(0, each) for each in free.values())
    return {"name": pool.name, "gpus": sum(total.values()), "gpusFree": max(0, left - waiting)}


def _waits_for(pod: Body, pool: NodePool, count: int, largest: int) -> bool:
    # What no node can ever give is not waited for: else one such pod would show the whole pool as taken.
    going = "deletionTimestamp" in pod["metadata"]
    return not going and count <= largest and pod["spec"].get("nodeSelector", {}) == pool.node_selector


def _extended(resources: Mapping[str, str]) -> dict[str, int]:
    return {name: int(parse_quantity(amount)) for name, amount in resources.items() if "/" in name}
