"""Whether the session's Dask scheduler was lost, and with it every result that was not saved."""

from __future__ import annotations

from af_operator import names
from af_operator.components._shared import lost as losses
from af_operator.components.dask import engine
from af_operator.components.dask.groups import NAME
from af_operator.model import Body, Condition, Session, label_of
from af_operator.observed import Settled

ADVICE = "what it held is lost, and a new one runs: compute it again, with `client.restart()` where a client hangs"


def is_scheduler(body: Body) -> bool:
    """Return whether a Deployment or a pod is a scheduler's, whichever engine made it."""
    roles = (label_of(body, names.ROLE), label_of(body, "dask.org/component"))
    return "scheduler" in roles and label_of(body, names.COMPONENT) == NAME


SCHEDULER = losses.Holder("SchedulerLost", "Dask scheduler", "scheduler", ADVICE, is_scheduler)


def lost(session: Session, observed: Settled) -> Condition | None:
    """Return the condition `SchedulerLost`; None where there was never a loss."""
    deleted = (engine.begun(observed) or engine.NATIVE).has_lost_its_scheduler(session, observed)
    return losses.lost(session, observed, SCHEDULER, deleted=deleted)
