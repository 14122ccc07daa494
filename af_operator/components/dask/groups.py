"""A session's groups of Dask workers: which it should have, and what is asked of the agent about them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from af_operator import names
from af_operator.api.dask import Dask
from af_operator.api.pools import Pool
from af_operator.components._shared import pools
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.model import Profile, Session
from af_operator.observed import Observed, Terms
from af_operator.views import AgentView, PoolsAnswer, Question

NAME = "dask"


class DaskAnswer(PoolsAnswer):
    """What the agent in the scheduler says: of its groups of workers, and when there was last something to compute."""

    active: float | None = Field(default=None, ge=0, le=4e9, description="Unix time, to five minutes.")


def spec(session: Session) -> Dask:
    """Return the session's Dask."""
    if session.spec.dask is None:
        raise TypeError("this session has no Dask")
    return session.spec.dask


def group_name(session: Session, pool: Pool) -> str:
    """Return the name of a pool's group; what cannot be changed in a worker that runs is part of it."""
    return names.dask_group(session, pool.name, pools.shape(pool))


def desired(session: Session) -> dict[str, Pool]:
    """Return each pool by the name of the group that it should have."""
    return {group_name(session, pool): pool for pool in spec(session).pools}


def agent_view(observed: Observed) -> AgentView | None:
    """Return what the agent in the scheduler said last."""
    return observed.agents.get(NAME)


def resized(session: Session, live: Mapping[str, WorkerGroup], observed: Observed, terms: Terms) -> list[Resized]:
    """Return every group that there is or should be."""
    return pools.resized(desired(session), live, terms.workers, agent_view(observed))


def question(session: Session, profile: Profile, groups: Sequence[Resized], view: AgentView | None) -> Question:
    """Return what to ask of the agent: who may go, how many are wanted, and when something was computed last."""
    return pools.question(names.dask_agent_url(session), groups, profile, view, DaskAnswer)
