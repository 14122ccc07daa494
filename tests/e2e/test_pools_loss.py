"""Pools are resized while the session computes, by hand and by what its tasks ask for: nothing is lost or done twice.

`make test` does one seed and some resizes; `make proof` does ten seeds with many, of workers that are pods of our own.
"""

from __future__ import annotations

import os
import random
import re
import time
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from tests.support.audit import Audit, Call
from tests.support.catalogue import profile
from tests.support.pools import in_the_run, pools, settled, start_holding, stop
from tests.support.programs.held_results import CALM, SECONDS
from tests.support.tenant import Tenant

SEEDS = [int(seed) for seed in os.environ.get("AF_SEEDS", "1").split(",")]
BY_HAND = int(os.environ.get("AF_RESIZES", "8"))
BY_DEMAND = int(os.environ.get("AF_ELASTIC", "4"))
SOME = (3, 2)
"""Resizes by hand and by demand of the engine that is no measure of ours."""
MOST = 4
PATIENCE = {"quietSeconds": 3, "drainSeconds": 120, "silenceSeconds": 600}
TINY = {"name": "small", "cpu": "10m", "memory": "512Mi"}
"""So that a node which others use as well has room for all of them."""
REMOVED = {"Native": "pods", "DaskKubernetes": "deployments"}
"""What is deleted when a worker goes, by the engine that made it."""
TARGET = 5.0
"""Seconds of work that make a worker wanted: Dask's ``distributed.adaptive.target-duration``."""


@dataclass
class Resizer:
    """Resizes the pools of a session at random."""

    tenant: Tenant
    name: str
    dice: random.Random
    bounds: dict[str, tuple[int, int]]
    """(least, most) workers of each pool, as the spec says."""
    busy: str = ""
    """The elastic pool that has grown for its tasks; the others have their least."""
    changed: list[str] = field(default_factory=list)

    def by_hand(self) -> None:
        """Edit a pool; mostly, but not always, wait until it is so."""
        pool = self.dice.choice([p for p in self.bounds if p != self.busy])
        others = sum(least for p, (least, _) in self.bounds.items() if p != pool)
        now = self.bounds[pool][0]
        number = self.dice.choice([n for n in range(MOST + 1) if n != now and n + others > 0])
        self.edit(pool, number, number)
        if self.dice.random() < 0.6:  # the others come before the last is done
            self.settle()

    def by_demand(self) -> None:
        """Let a pool grow for its tasks; or the one that has grown shrink as it has none."""
        if self.busy:
            pool, self.busy = self.busy, ""
            self.compute(CALM)
        else:
            pool = self.elastic()
            self.busy = pool
            self.compute(self.enough_for(self.bounds[pool][1]))
        self.settle(pool)
        self.changed.append(f"{pool} {'+' if self.busy else '-'}")

    def elastic(self) -> str:
        """Make one pool elastic, and it alone; return it, as small as it may be."""
        pool = self.dice.choice(list(self.bounds))
        least = self.dice.randint(1, MOST - 1)
        self.bounds = {p: (least, least) for p, (least, _) in self.bounds.items()}
        self.edit(pool, least, self.dice.randint(least + 1, MOST))
        self.settle(pool)
        return pool

    def enough_for(self, workers: int) -> int:
        """Return how many tasks at a time make so many workers wanted, whatever the other pools run of them."""
        return int(workers * TARGET / SECONDS) + 2 * MOST

    def compute(self, tasks: int) -> None:
        in_the_run(self.tenant, self.name, f"echo {tasks} > new && mv new width")

    def edit(self, pool: str, least: int, most: int) -> None:
        self.bounds[pool] = (least, most)
        self.tenant.patch(self.name, dask=pools(**self.bounds))

    def settle(self, *only: str) -> None:
        """Wait until these pools, or all, have the size that they should have."""
        asked = {p: most if p == self.busy else least for p, (least, most) in self.bounds.items()}
        settled(self.tenant, self.name, **{p: n for p, n in asked.items() if not only or p in only})


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", REMOVED)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_over_many_resizes(tenant: Tenant, seed: int, engine: str) -> None:
    name, dice, begin = f"resize-{seed}", random.Random(seed), time.monotonic()
    bounds = {"cpu": (2, 2), "other": (1, 1)}
    by_hand, by_demand = (BY_HAND, BY_DEMAND) if engine == "Native" else SOME
    with profile(scaling=PATIENCE, sizes=[TINY], dask={"engine": engine}) as own, Audit() as audit:
        start_holding(tenant, name, pools(**bounds), profile=own)
        resizer = Resizer(tenant, name, dice, bounds)
        moves = [resizer.by_hand] * by_hand + [resizer.by_demand] * by_demand
        dice.shuffle(moves)
        for move in moves:
            move()
        resizer.settle()
        retired, removed = retired_at(tenant, name), workers_removed(audit, tenant.namespace, REMOVED[engine])
        said = stop(tenant, name)
    counted = re.findall(r"^streamed .*", said, re.MULTILINE)[-1]
    resizes = f"{by_hand} resizes by hand, {len(resizer.changed)} by demand"
    seconds = time.monotonic() - begin
    print(f"{engine}, seed {seed}: {resizes}, {len(removed)} workers removed, {counted}; {seconds:.0f} s")
    assert len(removed) >= by_demand // 2, "each shrink removes a worker"
    unasked = [str(call) for call in removed if call.name not in retired or retired[call.name] > call.received]
    assert not unasked, "each was retired by the scheduler first"


def retired_at(tenant: Tenant, name: str) -> dict[str, datetime]:
    """Return when the scheduler had retired each worker, by its log."""
    log = tenant.kubectl("logs", f"deployment/{name}-scheduler", "--container=scheduler", "--timestamps")
    found = re.findall(r"^(\S+) .* Worker (\S+) has nothing left$", log, re.MULTILINE)
    return {worker: datetime.fromisoformat(at) for at, worker in found}


def workers_removed(audit: Audit, namespace: str, resource: str) -> list[Call]:
    """Return who deleted workers, whoever it was."""
    return [w for w in audit.writes(namespace=namespace) if w.verb.startswith("delete") and w.resource == resource]
