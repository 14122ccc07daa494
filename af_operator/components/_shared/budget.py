"""One budget over all pools of a session, whatever has them: workers, GPUs, and what one node pool gives. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from af_operator.api.pools import Pool
from af_operator.components._shared import choices
from af_operator.errors import InvalidSession
from af_operator.model import Profile


@dataclass(frozen=True)
class Demand:
    """What one group of workers asks of the budget.

    Attributes
    ----------
    pool
        Its pool, by the name that this has in its component.
    node_pool
        Where its workers run; empty where that is no node pool, or nobody knows any more.
    desired
        How many there should be.
    current
        How many there are: those that are to go count until they are gone.
    gpus
        GPUs of each worker.
    outgoing
        Another group replaces this one: it gets no workers any more.
    """

    pool: str
    node_pool: str
    desired: int
    current: int
    gpus: int = 0
    outgoing: bool = False


def check(profile: Profile, pools: Mapping[str, Sequence[Pool]]) -> None:
    """Raise ``InvalidSession`` when all pools together, by component, may get larger than the profile allows."""
    pools_of_all, limits = [pool for each in pools.values() for pool in each], profile.spec.limits
    for name, workers in _by_node_pool(pools_of_all, profile.spec.defaults.node_pool).items():
        limit = choices.node_pool(profile, name).max_workers
        if limit is not None and workers > limit:
            raise _over(profile, f"{workers} workers on node pool {name!r}", f"{name} gives at most {limit}")
    workers = sum(pool.workers.max for pool in pools_of_all)
    if workers > limits.workers:
        raise _over(profile, f"{workers} workers over all pools", f"workers.max may add up to {limits.workers}")
    gpus = sum(pool.workers.max * pool.gpus_per_worker for pool in pools_of_all)
    if gpus > limits.gpus:
        raise _over(profile, f"{gpus} GPUs over all pools", f"workers.max x gpusPerWorker may add up to {limits.gpus}")


def shares(profile: Profile, demands: Mapping[str, Sequence[Demand]]) -> dict[str, dict[str, int]]:
    """Return, by component and pool, how many workers the pool may have by now.

    The spec fits the limits; but while others replace them, workers of an earlier shape run as well, and what is there
    is never taken away for the budget alone. Who comes first, in the order of components and pools, has what is free.
    """
    remaining = _Remaining(profile, [each for of_component in demands.values() for each in of_component])
    return {
        component: {d.pool: min(d.desired, d.current + remaining.take(d)) for d in of_component if not d.outgoing}
        for component, of_component in demands.items()
    }


class _Remaining:
    """What is left of the budget, beside the workers that there are."""

    def __init__(self, profile: Profile, demands: Sequence[Demand]) -> None:
        limits = profile.spec.limits
        self._workers = limits.workers - sum(d.current for d in demands)
        self._gpus = limits.gpus - sum(d.current * d.gpus for d in demands)
        self._nodes = Counter({n.name: n.max_workers for n in profile.spec.node_pools if n.max_workers is not None})
        for each in demands:
            if each.node_pool in self._nodes:
                self._nodes[each.node_pool] -= each.current

    def take(self, demand: Demand) -> int:
        """Return how many more workers a group may have, and count them."""
        granted = max(0, min(demand.desired - demand.current, self._workers))
        if demand.gpus:
            granted = max(0, min(granted, self._gpus // demand.gpus))
        if demand.node_pool in self._nodes:
            granted = max(0, min(granted, self._nodes[demand.node_pool]))
            self._nodes[demand.node_pool] -= granted
        self._workers, self._gpus = self._workers - granted, self._gpus - granted * demand.gpus
        return granted


def _by_node_pool(pools: Iterable[Pool], default: str | None) -> Counter[str]:
    workers: Counter[str] = Counter()
    for pool in pools:
        if name := pool.node_pool or default:
            workers[name] += pool.workers.max
    return workers


def _over(profile: Profile, requested: str, allowed: str) -> InvalidSession:
    return InvalidSession("LimitExceeded", f"{requested} is over the limit of profile {profile.name!r}: {allowed}")
