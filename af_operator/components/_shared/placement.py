"""Which nodes pods may run on: what has no GPUs keeps off the nodes of node pools with GPUs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from af_operator.api.profile import NodePool
from af_operator.components._shared import choices
from af_operator.components._shared.pod_spec import Place
from af_operator.errors import InvalidSession
from af_operator.model import Body, Profile

Label = tuple[str, str]

ANYWHERE = NodePool(name="anywhere")
"""Of which all nodes are."""
MAX_TERMS = 64
"""Far more than labels of real nodes come to. Terms multiply, and the operator serves everyone."""


def of(profile: Profile, name: str | None, gpus: int = 0) -> Place:
    """Return the place of a pod with so many GPUs on a node pool; without a name the default one, or anywhere."""
    chosen = name or profile.spec.defaults.node_pool
    nodes = choices.node_pool(profile, chosen) if chosen else ANYWHERE
    pool = nodes.model_dump(by_alias=True, exclude_none=True)
    off = affinity_without_gpus(nodes, profile) if chosen else _elsewhere_first(profile)
    return Place(
        node_selector=pool["nodeSelector"],
        tolerations=pool["tolerations"],
        affinity={} if gpus else off,
        pull_secrets=profile.spec.image_pull_secrets,
        priority=profile.spec.priority_class_name,
    )


def check(where: str, name: str | None, profile: Profile) -> None:
    """Raise ``InvalidSession`` when what has no GPUs may not run on this node pool, or on the profile's default.

    Parameters
    ----------
    where
        The session's field that names it, for the message.
    """
    chosen = name or profile.spec.defaults.node_pool
    if chosen:
        said = where if name else "defaults.nodePool of the profile"
        check_without_gpus(said, choices.node_pool(profile, chosen), profile, "")


def check_without_gpus(where: str, nodes: NodePool, profile: Profile, gpus: str = "gpusPerWorker") -> None:
    """Raise ``InvalidSession`` when pods without GPUs may not run on this node pool.

    Parameters
    ----------
    where, gpus
        What asks for them, and its field for GPUs, if it has one: for the message.
    """
    closed_pool = _closed_by(nodes, profile)
    if closed_pool is not None:
        within = "" if closed_pool.name == nodes.name else f", whose nodes are all of node pool {closed_pool.name!r},"
        others = ", ".join(sorted(n.name for n in profile.spec.node_pools if not _closed_by(n, profile)))
        remedies = [
            *([f"set {gpus}: 1"] if nodes.gpu_resource and gpus else []),
            *([f"choose another nodePool ({others})"] if others else []),
            f"ask the facility's admin for cpuWorkers: true on node pool {closed_pool.name!r}",
        ]
        raise InvalidSession(
            "NodePoolForGPUs",
            f"{where}: node pool {nodes.name!r}{within} is for pods with GPUs only: {', or '.join(remedies)}",
        )
    if len(_terms(nodes, profile)) > MAX_TERMS:
        raise InvalidSession(
            "NodePoolsTooManyLabels",
            f"{where}: nodes with GPUs cannot be told from others: nodeSelectors of the profile's node pools with "
            "GPUs have too many labels: ask the facility's admin to give these nodes one label of their own",
        )


def affinity_without_gpus(nodes: NodePool, profile: Profile) -> dict[str, Any]:
    """Return the affinity of a pod without GPUs on this node pool; empty if its labels alone keep it off."""
    terms = sorted(map(sorted, _terms(nodes, profile)))
    if not any(terms):
        return {}
    required = {"nodeSelectorTerms": [{"matchExpressions": _none_of(term)} for term in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def kept_off(pod: Body) -> list[str]:
    """Return the labels of nodes that `affinity_without_gpus` keeps this pod from, as ``key=value``."""
    required = pod.get("spec", {}).get("affinity", {}).get("nodeAffinity", {})
    terms = required.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", ())
    expressions = (e for term in terms for e in term.get("matchExpressions", ()) if e["operator"] == "NotIn")
    return sorted({f"{e['key']}={value}" for e in expressions for value in e.get("values", ())})


def _elsewhere_first(profile: Profile) -> dict[str, Any]:
    """Return the affinity of a pod that nobody has placed: off nodes with GPUs while there are others."""
    # No more than that: a facility may have no other nodes, and its schedulers must be somewhere.
    terms = sorted(map(sorted, _terms(ANYWHERE, profile)))
    if not any(terms) or len(terms) > MAX_TERMS:
        return {}
    preferred = [{"weight": 100, "preference": {"matchExpressions": _none_of(term)}} for term in terms]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _closed_pools(profile: Profile) -> list[NodePool]:
    return [nodes for nodes in profile.spec.node_pools if nodes.gpu_resource and not nodes.cpu_workers]


def _closed_by(nodes: NodePool, profile: Profile) -> NodePool | None:
    """Return the node pool that workers without GPUs must keep off, and that has all of these nodes."""
    if nodes in _closed_pools(profile):
        return nodes
    # Without labels nobody can tell its nodes: it is closed, and no other pool with it.
    labelled = (gpu for gpu in _closed_pools(profile) if gpu.node_selector)
    return next((gpu for gpu in labelled if gpu.node_selector.items() <= nodes.node_selector.items()), None)


def _terms(nodes: NodePool, profile: Profile) -> set[frozenset[Label]]:
    """Return sets of labels: where a node has none of some set's labels, it is of no pool that is closed.

    Not(a and b) is (not a) or (not b). Kubernetes wants terms that are ORed, of expressions that are ANDed, so each
    term has one label of each pool; a term that holds all of another adds nothing to it.
    """
    terms: set[frozenset[Label]] = {frozenset()}
    for labels in (
        gpu.node_selector for gpu in _closed_pools(profile) if _may_share(nodes.node_selector, gpu.node_selector)
    ):
        longer = {term | {label} for term in terms for label in labels.items() - nodes.node_selector.items()}
        terms = {term for term in longer if not any(other < term for other in longer)}
        if len(terms) > MAX_TERMS:
            break
    return terms


def _may_share(labels: Mapping[str, str], other_labels: Mapping[str, str]) -> bool:
    """Return whether a node can have all labels of both; none can have two values of one label."""
    return bool(other_labels) and all(labels.get(key, value) == value for key, value in other_labels.items())


def _none_of(term: Iterable[Label]) -> list[Body]:
    values: dict[str, list[str]] = {}
    for key, value in term:
        values.setdefault(key, []).append(value)
    return [{"key": key, "operator": "NotIn", "values": each} for key, each in values.items()]
