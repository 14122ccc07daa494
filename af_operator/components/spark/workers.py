"""A session's Spark workers: pods of its own, of which the agent beside the master says who has nothing left. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from af_operator.components._shared import pools as worker_pools
from af_operator.components._shared import worker_pods
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.components.spark import spec as specs
from af_operator.components.spark.spec import NAME
from af_operator.model import Body, Session
from af_operator.observed import Settled, Terms


def groups(session: Session, observed: Settled) -> Mapping[str, WorkerGroup]:
    """Return the groups of workers that there are, by name, without those that are retired.

    A worker of Spark that was decommissioned never works again: it has no place in its pool any more, is deleted as
    what nobody plans, and replaced where the pool has grown meanwhile.
    """
    view = specs.agent_view(observed)
    retired = {name for answer in (view.pools.values() if view else ()) for name in answer.retired}
    live = worker_pods.groups(session, NAME, observed)
    return {name: _without(group, retired) for name, group in live.items()} if retired else live


def resized(session: Session, observed: Settled, terms: Terms) -> list[Resized]:
    """Return every group that there is or should be."""
    live, view = groups(session, observed), specs.agent_view(observed)
    return worker_pools.resized(specs.desired_groups(session), live, terms.workers, view)


def _without(group: WorkerGroup, retired: Collection[str]) -> WorkerGroup:
    def staying(pods: Collection[Body]) -> tuple[Body, ...]:
        return tuple(pod for pod in pods if pod["metadata"]["name"] not in retired)

    workers = staying(group.workers)
    return replace(group, workers=workers, pods=staying(group.pods), expected=len(workers))
