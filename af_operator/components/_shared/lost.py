"""Whether a program was lost that alone held something, and with it what it held: from what is seen of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from af_operator.components._shared import untrusted
from af_operator.model import DEPLOYMENT, POD, Body, Condition, Session
from af_operator.observed import Observed, Settled

CAUSES = {
    "Deleted": "its Deployment was deleted",
    "Restarted": "its container ended and was started again",
    "Replaced": "its pod was evicted or deleted, or its node was lost",
}


@dataclass(frozen=True)
class Holder:
    """A program of which there is one, by a Deployment, and what its loss means.

    Attributes
    ----------
    condition
        The type of the condition that tells of it.
    called
        What people call it.
    container
        The container that it runs in.
    advice
        What is lost, and what to do.
    is_it
        Whether a Deployment or a pod is its own.
    """

    condition: str
    called: str
    container: str
    advice: str
    is_it: Callable[[Body], bool]


def lost(session: Session, observed: Settled, holder: Holder, *, deleted: bool) -> Condition | None:
    """Return the condition that tells of a loss; None where there was never one. A suspension ends it.

    Parameters
    ----------
    deleted
        The Deployment is gone, or another one than that which ran before.
    """
    previous = session.told(holder.condition)
    if session.spec.suspend or observed.finished:
        return Condition(holder.condition, False, "Gone", f"there is no {holder.called} now") if previous else None
    cause = "Deleted" if deleted else _cause(observed, holder)
    if cause:
        message = f"the {holder.called} was lost ({CAUSES[cause]}): {holder.advice}"
        return Condition(holder.condition, True, cause, message)
    if previous and previous["status"] == "True":
        # What was lost stays lost, also when the pod that showed it is gone.
        return Condition(holder.condition, True, previous["reason"], previous["message"])
    if not previous:
        return None
    return Condition(holder.condition, False, "Gone", f"the {holder.called} has not been lost since the resumption")


def is_another(session: Session, live: Body | None, component: tuple[str, str]) -> bool:
    """Return whether a Deployment is gone, or is another one than what the status says was ready.

    Parameters
    ----------
    component
        Its NAME and its TITLE.
    """
    if live is None or "deletionTimestamp" in live["metadata"]:
        return _was_up(session, component)
    created, ready_since = (
        untrusted.time_of(live["metadata"].get("creationTimestamp")),
        _ready_since(session, component),
    )
    return created is not None and ready_since is not None and created > ready_since


def _cause(observed: Observed, holder: Holder) -> str | None:
    since = _first_up(observed, holder)
    for pod in filter(holder.is_it, observed.of(POD)):
        statuses = pod.get("status", {}).get("containerStatuses", ())
        if any(s.get("restartCount") for s in statuses if s["name"] == holder.container):
            return "Restarted"
        created = untrusted.time_of(pod["metadata"].get("creationTimestamp"))
        if since and created and created > since:
            return "Replaced"
    return None


def _first_up(observed: Observed, holder: Holder) -> datetime | None:
    """Return when the Deployment was first complete: a pod that is younger replaces another."""
    for deployment in filter(holder.is_it, observed.of(DEPLOYMENT)):
        for condition in deployment.get("status", {}).get("conditions", ()):
            if condition.get("type") == "Progressing" and condition.get("reason") == "NewReplicaSetAvailable":
                return untrusted.time_of(condition.get("lastUpdateTime"))
    return None


def _was_up(session: Session, component: tuple[str, str]) -> bool:
    pools = session.status.get("components", {}).get(component[0], {}).get("pools", {})
    return _ready_since(session, component) is not None or any(pool.get("ready") for pool in pools.values())


def _ready_since(session: Session, component: tuple[str, str]) -> datetime | None:
    ready = session.told(f"{component[1]}Ready")
    return untrusted.time_of(ready["lastTransitionTime"]) if ready and ready["status"] == "True" else None
