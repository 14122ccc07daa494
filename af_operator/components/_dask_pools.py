"""How many workers each DaskWorkerGroup has, should have, and which of them may go. Pure.

The Dask operator makes a Deployment for each worker, and looks at nothing but a rise of ``replicas``: told a lower
number, it asks the scheduler for any n workers, whatever group they are of. So it is never told a lower number before
the workers are gone, nor before it has made all that it was told of last. They are retired by the agent in the
scheduler, who knows what each of them holds; then their Deployments are deleted here; and ``replicas`` follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from af_operator import names
from af_operator.api.session import DaskPool
from af_operator.components import _choices, _pod_reasons, _pods, _untrusted
from af_operator.model import POD, Body, Children, Kind, ObjectRef, Observed, Profile, Session, grouped, label_of
from af_operator.views import PoolView, Question

GROUP = Kind("kubernetes.dask.org/v1", "DaskWorkerGroup", "daskworkergroups")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
WORKER_GROUP = "dask.org/workergroup-name"
HANDLED = "kopf.zalando.org/last-handled-configuration"
"""Annotation in which kopf, and so the Dask operator, keeps what of an object it has acted upon."""
MAX_HANDLED = 262_144
"""All annotations of an object together have no more characters."""


@dataclass(frozen=True)
class Group:
    """One DaskWorkerGroup, as it is and as it should be.

    Attributes
    ----------
    pool
        The pool that it stands for; None for one that is on its way out.
    live
        The object, if it is there.
    workers
        Deployments of its workers, oldest first.
    target
        How many there should be.
    going
        Those of `workers` that may be deleted now.
    making
        The Dask operator has not acted upon its number yet. Told a lower one meanwhile, it would remove a worker of
        its own choice as soon as it has made the new ones.
    missing
        It has acted upon its number, and yet there are fewer: somebody deleted them. By itself it does not look again.
    """

    name: str
    pool: DaskPool | None
    live: Body | None
    workers: tuple[Body, ...]
    target: int
    going: tuple[Body, ...]
    making: bool = False
    missing: bool = False

    @property
    def surplus(self) -> int:
        """How many workers are too many."""
        return len(self.workers) - self.target

    def replicas(self, asked: int) -> int:
        """Return the number to tell the Dask operator, once those of `going` are deleted; it was told `asked` before.

        At a change of the number it makes as many workers as are missing, and at no other time: each that is deleted
        is told at once, or raising the number again to what it was would make none.
        """
        if self.pool is None or self.making:
            return asked
        if self.going:
            return min(asked, len(self.workers) - len(self.going))
        return asked if self.surplus > 0 else self.target


def size(pool: DaskPool, group: str, observed: Observed) -> int:
    """Return how many workers a pool should have: `max`, or where it is elastic what its tasks ask for."""
    least, most = pool.workers.min, pool.workers.max
    if least == most:
        return most
    said = _said(group, observed)
    live = _live(group, observed)
    # An operator that has just started knows no demand yet: then things stay as they are.
    wanted = said.wanted if said else replicas_of(live) if live else least
    return max(least, min(most, wanted))


def group_name(session: Session, pool: DaskPool) -> str:
    """Return the name of a pool's group; what cannot be edited in place is part of it."""
    return names.dask_group(session, pool.name, _pods.digest([pool.node_pool, pool.size, pool.gpus_per_worker]))


def groups(session: Session, profile: Profile, observed: Observed) -> list[Group]:
    """Return every group that there is or should be; those that go come last."""
    pools = {group_name(session, pool): pool for pool in (session.spec.dask.pools if session.spec.dask else ())}
    allowed = _allowed(pools, profile, observed)
    found = [_group(name, pool, allowed[name], observed) for name, pool in pools.items()]
    heirs = {g.pool.name: g for g in found if g.pool}
    for live in _pool_groups(observed):
        if live["metadata"]["name"] not in pools:
            heir = heirs.get(live["metadata"]["labels"][names.POOL])
            found.append(_group(live["metadata"]["name"], None, _left(live, heir, observed), observed))
    return found


def question(session: Session, profile: Profile, observed: Observed) -> Question | None:
    """Return what to ask of the scheduler, and to go on asking: who may go, and how many are wanted."""
    known = {g.name: g for g in groups(session, profile, observed)}
    elastic = any(g.pool and g.pool.workers.min < g.pool.workers.max for g in known.values())
    silent = observed.scheduler is not None and observed.scheduler.silent_since is not None  # to know of its return
    if not elastic and not silent and not any(g.surplus > 0 for g in known.values()):
        return None
    asked = {name: _asked(group, profile) for name, group in known.items()}
    return Question(names.dask_agent_url(session), asked, profile.spec.scaling.silence_seconds)


def _asked(group: Group, profile: Profile) -> dict[str, object]:
    pool, scaling = group.pool, profile.spec.scaling
    keep: dict[str, object] = {"keep": group.target} if group.surplus > 0 else {}
    if pool is None:
        return {**keep, "drain": scaling.drain_seconds, "leaving": True}
    resources = {"GPU": pool.gpus_per_worker} if pool.gpus_per_worker else {}
    threads = math.ceil(_pods.parse_quantity(_choices.size(profile, pool.size).cpu))
    if pool.workers.min < pool.workers.max:
        keep = {**keep, "pool": pool.name, "most": pool.workers.max}
    patience = {"drain": scaling.drain_seconds, "quiet": scaling.quiet_seconds}
    return {**keep, **patience, "threads": threads, "resources": resources}


def _group(name: str, pool: DaskPool | None, target: int, observed: Observed) -> Group:
    live, workers = _live(name, observed), workers_of(name, observed)
    going = _going(name, workers, len(workers) - target, observed)
    making = missing = False
    if pool and live:
        asked, handled = replicas_of(live), _handled(live)
        making = len(workers) < asked if handled is None else handled != asked
        missing = handled == asked == target and len(_deployments(name, observed)) < target
    # Only what this very group has made, and nobody in whose place the Dask operator is about to make another.
    mine = tuple(w for w in going if live and not making and names.controller(w).get("uid") == live["metadata"]["uid"])
    return Group(name, pool, live, tuple(workers), target, mine, making, missing)


def _going(name: str, workers: Sequence[Body], surplus: int, observed: Observed) -> Iterator[Body]:
    """Yield the workers that never ran, and those that have nothing left; after too long a silence, the newest."""
    if surplus <= 0:
        return
    if observed.scheduler is not None and observed.scheduler.given_up:
        yield from list(reversed(workers))[:surplus]
        return
    said = _said(name, observed)
    never = [w for w in workers if _never_ran(w, observed)]
    retired = [w for w in workers if said and w["metadata"]["name"] in said.retired]
    yield from [*never, *retired][:surplus]


def _never_ran(worker: Body, observed: Observed) -> bool:
    """Return whether a worker finds no quota or no node: its scheduler will never hear of it, and cannot retire it."""
    mine = observed.once(_pods_by_deployment).get(worker["metadata"]["name"])
    if not mine:
        return _pod_reasons.deployment_refused(worker) is not None
    return all(_pod_reasons.why(pod).reason == "Unschedulable" for pod in mine)


def _allowed(pools: Mapping[str, DaskPool], profile: Profile, observed: Observed) -> dict[str, int]:
    """Return how many workers each pool may have by now: those that are to go count until they are gone."""
    limits, there = profile.spec.limits, {name: _count(name, observed) for name in pools}
    live = {g["metadata"]["name"]: g for g in _pool_groups(observed)}
    free = limits.workers - sum(_count(name, observed) for name in live)
    each = {name: sum(gpus_of(pod_of(group) or {}).values()) for name, group in live.items()}
    gpus = limits.gpus - sum(_count(name, observed) * number for name, number in each.items())
    found = {}
    for name, pool in pools.items():
        wanted = size(pool, name, observed)
        more = max(0, min(wanted - there[name], free))
        if pool.gpus_per_worker:
            more = max(0, min(more, gpus // pool.gpus_per_worker))
        free, gpus = free - more, gpus - more * pool.gpus_per_worker
        found[name] = min(wanted, there[name] + more)
    return found


def _left(live: Body, heir: Group | None, observed: Observed) -> int:
    """Return how many workers of a group that goes may stay: until those that replace them are ready, or need room."""
    if heir is None or heir.pool is None:
        return 0
    wanted, old = size(heir.pool, heir.name, observed), len(workers_of(live["metadata"]["name"], observed))
    pods = observed.once(_pods_by_group).get(heir.name, ())
    ready = sum(1 for pod in pods if _pod_reasons.is_ready(pod))
    nowhere = sum(1 for pod in pods if _pod_reasons.why(pod).reason == "Unschedulable")
    return max(0, min(wanted - ready, old - (wanted - heir.target)) - nowhere)


def _count(name: str, observed: Observed) -> int:
    """Return the workers of a group, with those that the Dask operator has not made yet."""
    live = _live(name, observed)
    return max(len(workers_of(name, observed)), replicas_of(live) if live else 0)


def replicas_of(group: Body) -> int:
    """Return the number that a group asks the Dask operator for."""
    number: int = _worker_of(group).get("replicas", 1)  # the CRD's default
    return number


def pod_of(group: Body) -> Body | None:
    """Return the pod spec of a group's workers; None where somebody has removed it, which the CRD lets them."""
    return _worker_of(group).get("spec")


def _worker_of(group: Body) -> Body:
    found: Body = group.get("spec", {}).get("worker", {})
    return found


def gpus_of(pod: Body) -> dict[str, int]:
    """Return the GPUs of a worker's pod spec."""
    first: Body = next(iter(pod.get("containers", ())), {})
    return _pods.extended(first.get("resources", {}).get("limits", {}))


def _handled(live: Body) -> int | None:
    """Return the number that the Dask operator acted upon last; None when it says none."""
    found = _untrusted.json_of(live["metadata"].get("annotations", {}).get(HANDLED), MAX_HANDLED)
    for key in ("spec", "worker", "replicas"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) else None


def _pool_groups(observed: Observed) -> list[Body]:
    return [g for g in observed.of(GROUP) if names.POOL in g["metadata"].get("labels", {})]


def workers_of(group: str, observed: Observed) -> list[Body]:
    """Return the Deployments of a group's workers, oldest first."""
    return [d for d in _deployments(group, observed) if "deletionTimestamp" not in d["metadata"]]


def _deployments(group: str, observed: Observed) -> Sequence[Body]:
    return observed.once(_deployments_by_group).get(group, ())


def _deployments_by_group(children: Children) -> dict[str | None, list[Body]]:
    oldest_first = sorted(children.of(DEPLOYMENT), key=_age)
    return grouped(oldest_first, lambda deployment: label_of(deployment, WORKER_GROUP))


def _pods_by_group(children: Children) -> dict[str | None, list[Body]]:
    return grouped(children.of(POD), lambda pod: label_of(pod, WORKER_GROUP))


def _pods_by_deployment(children: Children) -> dict[str, list[Body]]:
    return grouped(children.of(POD), _deployment_of)


def _deployment_of(pod: Body) -> str:
    """Return the name of the Deployment that a pod is of; its ReplicaSet's is that and a hash."""
    # The pod's own name says it only where it is short: longer ones are cut.
    made_by = str(names.controller(pod).get("name") or pod["metadata"]["name"].rpartition("-")[0])
    return made_by.rpartition("-")[0]


def _age(deployment: Body) -> tuple[str, str]:
    return str(deployment["metadata"].get("creationTimestamp", "")), str(deployment["metadata"]["name"])


def _live(name: str, observed: Observed) -> Body | None:
    return observed.get(ObjectRef(GROUP.api_version, GROUP.kind, name))


def _said(group: str, observed: Observed) -> PoolView | None:
    return observed.scheduler.groups.get(group) if observed.scheduler else None
