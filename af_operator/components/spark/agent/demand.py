"""How many workers the tasks would keep busy, and cached blocks need. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from .model import Cluster, Needs, Pool, Worker

STORAGE_SHARE = 0.5
"""Of an executor's memory: what its tasks cannot take from cached blocks (``spark.memory.storageFraction``)."""


def demand(pools: Sequence[Pool], cluster: Cluster) -> Mapping[str, int]:
    """Return, by group, how many workers would have something to do, or hold the blocks that are cached."""
    slots: Counter[Needs] = Counter()
    for driver in cluster.drivers.values():
        for profile, number in driver.slots.items():
            slots[driver.needs.get(profile, ())] += number
    wanted: Counter[str] = Counter()
    for needs, number in slots.items():
        wanted.update(dict(_shares(needs, number, pools, cluster)))
    for pool in pools:
        workers = [worker for worker in cluster.alive if pool.has(worker)]
        unknown = sum(1 for worker in workers if cluster.unknown_cores(worker))
        wanted[pool.group] = max(wanted[pool.group], unknown, _needed_for_blocks(workers, cluster))
    return wanted


def _shares(needs: Needs, slots: int, pools: Sequence[Pool], cluster: Cluster) -> Iterator[tuple[str, int]]:
    """Yield how many workers of which groups would run the tasks: of pools that have what they ask for, and no more."""
    able = [pool for pool in pools if not pool.leaving and pool.at_once(needs)]
    least = min((len(pool.resources) for pool in able), default=0)
    # Those of a fixed size first: what they can do is wanted of nobody else.
    for pool in sorted((p for p in able if len(p.resources) == least), key=lambda p: bool(p.pool)):
        at_once = pool.at_once(needs)
        yield pool.group, math.ceil(slots / at_once)
        slots -= at_once * (pool.most if pool.pool else sum(map(pool.has, cluster.alive)))
        if slots <= 0:
            return


def _needed_for_blocks(workers: Collection[Worker], cluster: Cluster) -> int:
    """Return how many of these workers must stay; more of them would change nothing for blocks that are cached."""
    memory = max((executor.memory for executor in cluster.on(workers)), default=0)
    if not memory:
        return 0
    others = cluster.on([worker for worker in cluster.alive if worker not in workers])
    cached = sum(executor.cached for executor in cluster.on(cluster.workers))
    left = cached - STORAGE_SHARE * sum(executor.memory for executor in others)
    return min(len(workers), max(0, math.ceil(left / (STORAGE_SHARE * memory))))
