"""What a session asks of its relay, the names of its groups of workers, and what its broker may say."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, TypeAdapter, ValidationError

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import pod_spec
from af_operator.components._shared import pools as worker_pools
from af_operator.model import Session
from af_operator.observed import Observed
from af_operator.views import PoolsAnswer

NAME = "relay"
VARIABLE = "RELAY"
POOLS = TypeAdapter(tuple[Pool, ...])


class RelayAnswer(PoolsAnswer):
    """What the broker says: of its groups of workers, how many messages wait, and when one last passed."""

    queued: int = Field(default=0, ge=0, le=1_000_000)
    used: float | None = Field(default=None, ge=0, le=4e9, description="Unix time.")


def text(session: Session) -> str | None:
    """Return what the session says of its relay; None where it wants none."""
    return next((each.value for each in session.spec.env or () if each.name == VARIABLE), None)


def pools(session: Session) -> Sequence[Pool]:
    """Return the pools; none where they cannot be read."""
    try:
        return POOLS.validate_json(text(session) or "")
    except ValidationError:
        return ()


def group_name(session: Session, pool: Pool) -> str:
    """Return the name of a pool's group, which no other component's has."""
    shape = pod_spec.digest([NAME, worker_pools.shape(pool)])[:6]
    return names.child(session, f"{NAME}-{pool.name}-{shape}", names.MAX_GROUP)


def desired_groups(session: Session) -> dict[str, Pool]:
    """Return each pool by the name of the group that it should have."""
    return {group_name(session, pool): pool for pool in pools(session)}


def answer(observed: Observed) -> RelayAnswer | None:
    """Return what the broker said last."""
    view = observed.agents.get(NAME)
    return view.answer if view and isinstance(view.answer, RelayAnswer) else None
