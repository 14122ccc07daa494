"""Whether a program was lost that alone held something, and with it what it held: from what is seen of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from af_operator.components._shared import pod_reasons, untrusted
from af_operator.components._shared.pod_reasons import Reason
from af_operator.model import DEPLOYMENT, POD, Body, Condition, Session
from af_operator.observed import Observed, Settled

CAUSES = {
    "Deleted": "its Deployment was deleted",
    "Restarted": "its container ended and was started again",
    "Replaced": "its pod was evicted or deleted, or its node was lost",
}


@dataclass(frozen=True)
class Holder:
    """A program of which there is one, by a Deployment or a StatefulSet, and what its loss means.

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
    component
        NAME and TITLE of the component whose readiness tells since when there is something to lose, where no Deployment
        tells that.
    """

    condition: str
    called: str
    container: str
    advice: str
    is_it: Callable[[Body], bool]
    component: tuple[str, str] | None = None


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
    cause = Reason("Deleted", CAUSES["Deleted"]) if deleted else _cause(session, observed, holder)
    was_lost = previous is not None and previous["status"] == "True"
    # What was lost stays lost, also when the pod that showed it, or that knew more of it, is gone.
    if previous and was_lost and (cause is None or cause == Reason(previous["reason"], CAUSES["Replaced"])):
        return Condition(holder.condition, True, previous["reason"], previous["message"])
    if cause:
        message = f"the {holder.called} was lost ({cause.message}): {holder.advice}"
        return Condition(holder.condition, True, cause.reason, message)
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
    if live is None or not _stays(live):
        return _was_up(session, component)
    created, ready_since = (
        untrusted.time_of(live["metadata"].get("creationTimestamp")),
        _ready_since(session, component),
    )
    return created is not None and ready_since is not None and created > ready_since


def _cause(session: Session, observed: Observed, holder: Holder) -> Reason | None:
    since = _ready_since(session, holder.component) if holder.component else _first_up(observed, holder)
    if holder.component and since is None:
        return None  # it was never up, or has told of its loss already
    pods = _pods(observed, holder)
    taken = next((words for pod in pods if (words := pod_reasons.taken(pod))), None)
    if taken:
        return Reason("Replaced", taken)
    for pod in pods:
        statuses = pod.get("status", {}).get("containerStatuses", ())
        again = next((s for s in statuses if s["name"] == holder.container and s.get("restartCount")), None)
        if again:
            return Reason("Restarted", f"{CAUSES['Restarted']}{_how(pod, again)}")
        created = untrusted.time_of(pod["metadata"].get("creationTimestamp"))
        if since and created and created > since:
            return Reason("Replaced", CAUSES["Replaced"])
    return Reason("Replaced", CAUSES["Replaced"]) if holder.component and not pods else None


def _pods(observed: Observed, holder: Holder) -> list[Body]:
    """Return its pods, without those of a Deployment that is gone: after a suspension they may take a while to end."""
    pods = [pod for pod in observed.of(POD) if holder.is_it(pod)]
    if holder.component:
        return pods
    made = [each for each in observed.of(DEPLOYMENT) if holder.is_it(each) and _stays(each)]
    return [pod for pod in pods if any(not _is_older(pod, each) for each in made)]


def _stays(body: Body) -> bool:
    return "deletionTimestamp" not in body["metadata"]


def _is_older(one: Body, other: Body) -> bool:
    created = [untrusted.time_of(each["metadata"].get("creationTimestamp")) for each in (one, other)]
    return bool(created[0] and created[1] and created[0] < created[1])


def _how(pod: Body, status: Body) -> str:
    """Say how a container ended that was started again, where that is known."""
    last = status.get("lastState", {}).get("terminated")
    return f": {pod_reasons.ended(pod, status['name'], last).message}" if last else ""


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
