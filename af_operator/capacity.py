"""From (profile, nodes, pods of sessions) to the profile's status: how many GPUs of each node pool are free. Pure.

Counted is what sessions ask for. Pods of anybody else are not seen (only those with a session's label are watched), and
where the operator serves a few namespaces, neither are those of other sessions: on nodes that are shared with them,
fewer may be free than is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from af_operator.api.profile import NodePool, ProfileSpec
from af_operator.components._shared import pod_reasons
from af_operator.components._shared.pod_spec import extended
from af_operator.model import Body

_Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Node:
    """What is of interest of a node; equal ones need no second look.

    Attributes
    ----------
    extended
        Allocatable extended resources, such as ``nvidia.com/gpu``.
    usable
        It is ready and takes new pods.
    addresses
        Its own, by which its kubelet is reached.
    """

    name: str
    labels: Mapping[str, str]
    extended: Mapping[str, int]
    usable: bool
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class PodRequest:
    """What is of interest of a pod that asks for extended resources; equal ones need no second look.

    Attributes
    ----------
    extended
        Extended resources that it asks for.
    node
        Where it runs; None while it waits for a node.
    node_selector
        Labels of nodes that it may run on.
    waits
        It has no node, and is to get one.
    """

    extended: Mapping[str, int]
    node: str | None
    node_selector: Mapping[str, str]
    waits: bool


def parse_node(body: Body) -> Node:
    """Return the value of a Node."""
    status, spec = body.get("status", {}), body.get("spec", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return Node(
        name=body["metadata"]["name"],
        labels=dict(body["metadata"].get("labels", {})),
        extended=extended(status.get("allocatable", {})),
        usable=ready and not spec.get("unschedulable", False),
        addresses=tuple(a["address"] for a in status.get("addresses", ()) if a["type"] in ("InternalIP", "ExternalIP")),
    )


def extended_of(pod: Body) -> dict[str, int]:
    """Return the extended resources that a pod asks for: of these, a limit is also the request."""
    counts: dict[str, int] = {}
    for container in pod.get("spec", {}).get("containers", ()):
        for name, count in extended(container.get("resources", {}).get("limits", {})).items():
            counts[name] = counts.get(name, 0) + count
    return counts


def parse_pod(body: Body) -> PodRequest | None:
    """Return what a pod asks for; None where that is no extended resource, or the pod is over."""
    requested, spec = extended_of(body), body.get("spec", {})
    if not requested or pod_reasons.is_over(body):
        return None
    node = spec.get("nodeName")
    waits = not node and "deletionTimestamp" not in body["metadata"]
    return PodRequest(requested, node, spec.get("nodeSelector", {}), waits)


def status(spec: ProfileSpec, nodes: Iterable[Node], requests: Iterable[PodRequest]) -> dict[str, Any]:
    """Return the status that a profile should have; an empty one where no node pool has GPUs."""
    pools = [(pool, pool.gpu_resource) for pool in spec.node_pools if pool.gpu_resource]
    usage = _usage(requests)
    nodes_by_pool = _nodes_of([pool for pool, _ in pools], [node for node in nodes if node.usable])
    capacities = [
        _pool(pool, resource, nodes_of_pool, usage)
        for (pool, resource), nodes_of_pool in zip(pools, nodes_by_pool, strict=True)
    ]
    summary = ", ".join(f"{p['name']} {p['gpusFree']} of {p['gpus']} free" for p in capacities)
    return {"nodePools": capacities, "gpus": summary} if capacities else {}


@dataclass
class _Usage:
    """What all pods ask for: on each node, and of those that wait how many ask for how much of which nodes."""

    used: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: dict[tuple[str, _Labels], Counter[int]] = field(default_factory=dict)


def _usage(requests: Iterable[PodRequest]) -> _Usage:
    usage = _Usage()
    for request in requests:
        for resource, count in request.extended.items():
            if request.node:
                usage.used[request.node, resource] += count
            elif request.waits:
                usage.waiting.setdefault((resource, _labels(request.node_selector)), Counter())[count] += 1
    return usage


def _nodes_of(pools: Sequence[NodePool], nodes: Iterable[Node]) -> list[list[Node]]:
    """Return the nodes of each pool. Nodes are told apart only by the labels that some pool looks at."""
    keys = sorted({key for pool in pools for key in pool.node_selector})
    by_labels: dict[_Labels, list[Node]] = {}
    for node in nodes:
        labels = frozenset((key, node.labels[key]) for key in keys if key in node.labels)
        by_labels.setdefault(labels, []).append(node)
    return [
        [
            node
            for labels, nodes_alike in by_labels.items()
            if labels.issuperset(pool.node_selector.items())
            for node in nodes_alike
        ]
        for pool in pools
    ]


def _pool(pool: NodePool, resource: str, nodes: Iterable[Node], usage: _Usage) -> dict[str, Any]:
    allocatable = {node.name: node.extended.get(resource, 0) for node in nodes}
    free = sum(max(0, count - usage.used[name, resource]) for name, count in allocatable.items())
    # What no node can ever give is not waited for: else one such pod would show the whole pool as taken.
    largest = max(allocatable.values(), default=0)
    waiting = usage.waiting.get((resource, _labels(pool.node_selector)), Counter())
    awaited = sum(count * pods for count, pods in waiting.items() if count <= largest)
    return {"name": pool.name, "gpus": sum(allocatable.values()), "gpusFree": max(0, free - awaited)}


def _labels(selector: Mapping[str, str]) -> _Labels:
    return frozenset(selector.items())
