"""Whether the session's Dask scheduler was lost, and with it every result that was not saved."""

from __future__ import annotations

from datetime import datetime

from af_operator import names
from af_operator.components._shared import untrusted
from af_operator.components.dask import engine
from af_operator.components.dask.groups import NAME
from af_operator.model import DEPLOYMENT, POD, Body, Condition, Session, label_of
from af_operator.observed import Observed, Settled

LOST = "SchedulerLost"
ADVICE = "what it held is lost, and a new one runs: compute it again, with `client.restart()` where a client hangs"


def lost(session: Session, observed: Settled) -> Condition | None:
    """Return the condition `SchedulerLost`; None where there was never a loss. A suspension ends it."""
    previous = next((c for c in session.status.get("conditions", ()) if c["type"] == LOST), None)
    if session.spec.suspend or observed.finished:
        return Condition(LOST, False, "Gone", "there is no scheduler now") if previous else None
    cause = _cause(session, observed)
    if cause:
        return Condition(LOST, True, cause, f"the Dask scheduler was lost ({CAUSES[cause]}): {ADVICE}")
    if previous and previous["status"] == "True":
        # What was lost stays lost, also when the pod that showed it is gone.
        return Condition(LOST, True, previous["reason"], previous["message"])
    return Condition(LOST, False, "Gone", "the scheduler has not been lost since the resumption") if previous else None


CAUSES = {
    "Deleted": "its Deployment was deleted",
    "Restarted": "its container ended and was started again",
    "Replaced": "its pod was evicted or deleted, or its node was lost",
}


def is_scheduler(body: Body) -> bool:
    """Return whether a Deployment or a pod is a scheduler's, whichever engine made it."""
    roles = (label_of(body, names.ROLE), label_of(body, "dask.org/component"))
    return "scheduler" in roles and label_of(body, names.COMPONENT) == NAME


def _cause(session: Session, observed: Observed) -> str | None:
    if (engine.begun(observed) or engine.NATIVE).has_lost_its_scheduler(session, observed):
        return "Deleted"
    since = _first_up(observed)
    for pod in (p for p in observed.of(POD) if is_scheduler(p)):
        if any(s.get("restartCount") for s in pod.get("status", {}).get("containerStatuses", ())):
            return "Restarted"
        created = untrusted.time_of(pod["metadata"].get("creationTimestamp"))
        if since and created and created > since:
            return "Replaced"
    return None


def _first_up(observed: Observed) -> datetime | None:
    """Return when the scheduler's Deployment was first complete: a pod that is younger replaces another."""
    for deployment in (d for d in observed.of(DEPLOYMENT) if is_scheduler(d)):
        for condition in deployment.get("status", {}).get("conditions", ()):
            if condition.get("type") == "Progressing" and condition.get("reason") == "NewReplicaSetAvailable":
                return untrusted.time_of(condition.get("lastUpdateTime"))
    return None
