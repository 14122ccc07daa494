"""What a session asks of its Spark: its groups of workers, and how large executors are. Pure.

A worker starts executors for whoever drives: the Connect server, or a classic driver in a notebook or run. An executor
takes as many cores as the smallest worker has, so that each worker has room for whole ones, and heap as all can give.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.api.profile import Size
from af_operator.api.spark import Spark
from af_operator.components._shared import choices, placement, pod_spec
from af_operator.components._shared import pools as worker_pools
from af_operator.errors import InvalidSession
from af_operator.model import Profile, Session
from af_operator.observed import Observed
from af_operator.views import AgentView, PoolsAnswer

NAME = "spark"
TITLE = "Spark"
MIB = 2**20
DAEMON_MIB = 384
"""Of a worker's memory, for the worker itself: a Java process that starts executors and serves a page."""
HEAP_PERCENT = 50
"""Of the rest, for the heaps of executors. What is left is for what Java has beside a heap, and for Python."""
MIN_WORKER_MIB = 1536
MIN_HEAP_MIB = 480
"""Spark wants 450 of what Java says that it has (INVALID_EXECUTOR_MEMORY): without a survivor space, a thirtieth. An
executor with less ends as it starts, again and again, and its query waits for ever."""
MIN_CONNECT_MIB = 1024
CONNECT_OVERHEAD_MIB = 512


class SparkAnswer(PoolsAnswer):
    """What the agent beside the master says: of the groups of workers, when a task last ran, and who vanished."""

    active: float | None = Field(default=None, ge=0, le=4e9, description="Unix time, to five minutes.")
    lost: int = Field(default=0, ge=0, le=1_000_000, description="Workers that ended without having been retired.")


@dataclass(frozen=True)
class Executors:
    """The one shape of executors: cores, and mebibytes of heap."""

    cores: int
    heap_mib: int


def spec(session: Session) -> Spark:
    """Return the session's Spark."""
    if session.spec.spark is None:
        raise TypeError("this session has no Spark")
    return session.spec.spark


def group_name(session: Session, pool: Pool) -> str:
    """Return the name of a pool's group; what cannot be changed in a worker that runs is part of it."""
    return names.spark_group(session, pool.name, pod_spec.digest([NAME, worker_pools.shape(pool)]))


def desired_groups(session: Session) -> dict[str, Pool]:
    """Return each pool by the name of the group that it should have."""
    return {group_name(session, pool): pool for pool in spec(session).pools}


def agent_view(observed: Observed) -> AgentView | None:
    """Return what is known of the agent beside the master."""
    return observed.agents.get(NAME)


def answer(observed: Observed) -> SparkAnswer | None:
    """Return what the agent said last."""
    view = agent_view(observed)
    return view.answer if view and isinstance(view.answer, SparkAnswer) else None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when a size of the profile is too small for what is to run in it."""
    choices.image(session, profile)
    for pool in spec(session).pools:
        worker_pools.check(f"spark pool {pool.name!r}", pool, profile)
        _check_size(f"a worker of spark pool {pool.name!r}", pool.size, MIN_WORKER_MIB, profile)
    _check_size("the Spark Connect server (spark.size)", spec(session).size, MIN_CONNECT_MIB, profile)
    placement.check("spark.nodePool", spec(session).node_pool, profile)
    shape = executors(session, profile)
    if shape.heap_mib < MIN_HEAP_MIB:
        raise InvalidSession(
            "SizesTooUneven",
            f"executors are as large as the smallest worker allows, with {shape.cores} cores, and of that shape one of "
            f"the pools could give each only {shape.heap_mib} MiB of heap: choose sizes with more memory per core, or "
            "a larger memoryPercent",
        )


def executors(session: Session, profile: Profile) -> Executors:
    """Return the shape of executors that fits the workers of every pool."""
    pools = [(pool, choices.size(profile, pool.size)) for pool in spec(session).pools]
    number = min(worker_pools.threads(pool, size) for pool, size in pools)
    heaps = (heap_mib(pool, size) * number // worker_pools.threads(pool, size) for pool, size in pools)
    return Executors(number, min(heaps))


def heap_mib(pool: Pool, size: Size) -> int:
    """Return what a worker of this size has for the heaps of all its executors together."""
    return (_mib(size) - DAEMON_MIB) * (pool.memory_percent or HEAP_PERCENT) // 100


def connect_heap_mib(size: Size) -> int:
    """Return the heap of a Connect server of this size."""
    return _mib(size) - CONNECT_OVERHEAD_MIB


def _check_size(what: str, name: str | None, mib: int, profile: Profile) -> None:
    size = choices.size(profile, name)
    if _mib(size) < mib:
        enough = ", ".join(each.name for each in profile.spec.sizes if _mib(each) >= mib) or "none"
        has = f"{what} needs at least {mib} MiB of memory, and size {size.name!r} has {size.memory}"
        raise InvalidSession("SizeTooSmall", f"{has}: choose one that has more; in profile {profile.name!r}: {enough}")


def _mib(size: Size) -> int:
    return int(pod_spec.parse_quantity(size.memory)) // MIB
