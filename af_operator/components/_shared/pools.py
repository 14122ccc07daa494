"""Pools of workers, whatever computes in them: how many there should be, and which of them may go. Pure.

Workers of one shape of a pool are a group: a pool of another shape (node pool, size, GPUs, threads, share of memory) is
another group, which replaces the first, new before old. A component says what groups it has (`WorkerGroup`); here it is
decided how many workers each should have (`resized`); and the component makes and removes them. Who leaves is chosen by
the agent beside the workers, which knows what each of them holds; it retires them, and only then they may go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from af_operator.api.pools import Pool
from af_operator.api.profile import Size
from af_operator.components._shared import choices, placement, pod_reasons, pod_spec
from af_operator.components._shared.budget import Demand
from af_operator.errors import InvalidSession
from af_operator.model import Body, Profile
from af_operator.views import AgentView, PoolAnswer, PoolsAnswer, Question

CALM = 60.0
"""Seconds between two questions while no pool is to grow or shrink: they only tell whether the session is used."""


@dataclass(frozen=True)
class WorkerGroup:
    """Workers of one shape of one pool, as a component has them.

    Attributes
    ----------
    name
        Of the group; names of its workers begin with it.
    pool
        The name of its pool.
    workers
        Bodies by whose names the agent knows the workers, oldest first; without those that are being deleted.
    pods
        The pods of these.
    expected
        How many there are with those that are asked for already and not made yet.
    gpus
        GPUs of each.
    node_pool
        Where they run; empty where nobody knows any more.
    never_ran
        Names of those of which the agent will never hear, and which it so cannot retire.
    """

    name: str
    pool: str
    workers: tuple[Body, ...] = ()
    pods: tuple[Body, ...] = ()
    expected: int = 0
    gpus: int = 0
    node_pool: str = ""
    never_ran: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Resized:
    """A group, and how many workers it should have.

    Attributes
    ----------
    pool
        The pool that it stands for; None for a group on its way out.
    target
        How many there should be.
    to_delete
        Those of its workers that may be deleted now.
    """

    group: WorkerGroup
    pool: Pool | None
    target: int
    to_delete: tuple[Body, ...]

    @property
    def surplus(self) -> int:
        """How many workers are too many."""
        return len(self.group.workers) - self.target


def check(where: str, pool: Pool, profile: Profile, gpus: str = "gpusPerWorker") -> None:
    """Raise ``InvalidSession`` when the workers of a pool do not fit the profile.

    Parameters
    ----------
    where, gpus
        What asks for them, and its field for GPUs: for the message.
    """
    nodes = choices.node_pool(profile, pool.node_pool)
    choices.size(profile, pool.size)
    if pool.gpus_per_worker and not nodes.gpu_resource:
        raise InvalidSession(
            "NoGPUs", f"{where}: node pool {nodes.name!r} has no GPUs: set {gpus}: 0 or choose another nodePool"
        )
    if not pool.gpus_per_worker:
        placement.check_without_gpus(where, nodes, profile, gpus)


def resources(pool: Pool, profile: Profile) -> dict[str, Any]:
    """Return the resources of a worker's container: those of its size, and its GPUs."""
    nodes = choices.node_pool(profile, pool.node_pool)
    gpus = {nodes.gpu_resource: pool.gpus_per_worker} if nodes.gpu_resource and pool.gpus_per_worker else {}
    return pod_spec.resources(choices.size(profile, pool.size), gpus)


def threads(pool: Pool, size: Size) -> int:
    """Return how many tasks a worker of the pool computes at once."""
    return pool.threads_per_worker or math.ceil(pod_spec.parse_quantity(size.cpu))


def shape(pool: Pool) -> str:
    """Return a hash of what cannot be changed in a worker that runs."""
    # What is not said is not hashed: fields that were added later change no name of a group that there is.
    added = {"threads": pool.threads_per_worker, "memory": pool.memory_percent}
    said = {name: value for name, value in added.items() if value is not None}
    return pod_spec.digest([pool.node_pool, pool.size, pool.gpus_per_worker, *([said] if said else [])])


def elastic(pool: Pool) -> bool:
    """Return whether the pool's size is a matter of what its tasks ask for."""
    return pool.workers.min < pool.workers.max


def size(pool: Pool, group: WorkerGroup | None, answer: PoolAnswer | None) -> int:
    """Return how many workers a pool should have: `max`, or where it is elastic what its tasks ask for."""
    minimum, maximum = pool.workers.min, pool.workers.max
    # An operator that has just started knows no demand yet: then things stay as they are.
    demanded = answer.wanted if answer else group.expected if group else minimum
    return max(minimum, min(maximum, demanded)) if elastic(pool) else maximum


def answer_of(view: AgentView | None, group: str) -> PoolAnswer | None:
    """Return what the agent said last of a group, by its name; None where it has said nothing of it."""
    return view.pools.get(group) if view else None


def demands(desired: Mapping[str, Pool], live: Mapping[str, WorkerGroup], view: AgentView | None) -> Iterator[Demand]:
    """Yield what each group asks of the budget. `desired` is each pool by the name of the group that it should have."""
    for name, pool in desired.items():
        group = live.get(name)
        workers = size(pool, group, answer_of(view, name))
        yield Demand(pool.name, pool.node_pool, workers, group.expected if group else 0, pool.gpus_per_worker)
    for group in (g for name, g in live.items() if name not in desired):
        yield Demand(group.pool, group.node_pool, 0, group.expected, group.gpus, outgoing=True)


def resized(
    desired: Mapping[str, Pool], live: Mapping[str, WorkerGroup], shares: Mapping[str, int], view: AgentView | None
) -> list[Resized]:
    """Return every group that there is or should be; those on their way out come last.

    Parameters
    ----------
    desired
        Each pool by the name of the group that it should have.
    live
        What there is, by name.
    shares
        By pool, how many workers it may have by now.
    view
        What the agent said last.
    """
    of_pools = [
        _resized(live.get(name) or WorkerGroup(name, pool.name), pool, shares[pool.name], view)
        for name, pool in desired.items()
    ]
    replacements = {each.group.pool: each for each in of_pools}
    outgoing = (group for name, group in live.items() if name not in desired)
    return of_pools + [
        _resized(group, None, _may_stay(group, replacements.get(group.pool), view), view) for group in outgoing
    ]


def asked(groups: Sequence[Resized], profile: Profile, resource: str = "GPU") -> dict[str, dict[str, Any]]:
    """Return what to ask of the agent about each group: who may go, and how many are wanted."""
    return {each.group.name: dict(_asked(each, profile, resource)) for each in groups}


def question(
    url: str, resized: Sequence[Resized], profile: Profile, view: AgentView | None, answer: type[PoolsAnswer]
) -> Question:
    """Return what to ask of an agent: who may go, and how many are wanted; seldom while nobody waits to hear of it."""
    interval = CALM if is_calm(resized, view) else None
    return Question(url, {"pools": asked(resized, profile)}, answer, profile.spec.scaling.silence_seconds, interval)


def is_calm(groups: Sequence[Resized], view: AgentView | None) -> bool:
    """Return whether the agent has nothing to do for its pools, and nobody waits to hear from it again."""
    is_silent = view is not None and view.silent_since is not None
    return not is_silent and not any(each.surplus > 0 or (each.pool and elastic(each.pool)) for each in groups)


def _asked(each: Resized, profile: Profile, resource: str) -> Iterator[tuple[str, Any]]:
    pool, scaling = each.pool, profile.spec.scaling
    if each.surplus > 0:
        yield "keep", each.target
    yield "drain", scaling.drain_seconds
    if pool is None:
        yield "leaving", True
        return
    if elastic(pool):
        yield from (("pool", pool.name), ("most", pool.workers.max))
    yield "quiet", scaling.quiet_seconds
    yield "threads", math.ceil(pod_spec.parse_quantity(choices.size(profile, pool.size).cpu))
    yield "resources", {resource: pool.gpus_per_worker} if pool.gpus_per_worker else {}


def _resized(group: WorkerGroup, pool: Pool | None, target: int, view: AgentView | None) -> Resized:
    surplus = len(group.workers) - target
    return Resized(group, pool, target, tuple(_to_delete(group, surplus, view)) if surplus > 0 else ())


def _to_delete(group: WorkerGroup, surplus: int, view: AgentView | None) -> list[Body]:
    """Return the workers that never ran, and those that have nothing left; after too long a silence, the newest."""
    if view is not None and view.given_up:
        return list(reversed(group.workers))[:surplus]
    answer = answer_of(view, group.name)
    retired = answer.retired if answer else frozenset()
    never_ran = [w for w in group.workers if w["metadata"]["name"] in group.never_ran]
    return [*never_ran, *(w for w in group.workers if w["metadata"]["name"] in retired - group.never_ran)][:surplus]


def _may_stay(group: WorkerGroup, replacement: Resized | None, view: AgentView | None) -> int:
    """Return how many workers of an outgoing group may stay: until those that replace them are ready, or need room."""
    if replacement is None or replacement.pool is None:
        return 0
    desired = size(replacement.pool, replacement.group, answer_of(view, replacement.group.name))
    ready = sum(1 for pod in replacement.group.pods if pod_reasons.is_ready(pod))
    unschedulable = sum(1 for pod in replacement.group.pods if pod_reasons.why(pod).reason == "Unschedulable")
    return max(0, min(desired - ready, len(group.workers) - (desired - replacement.target)) - unschedulable)
