"""Whether a session gets together what it needs at its minimum, or lets others have the room. Pure.

A session that holds what it got, and waits for the rest, may wait for another one that does the same: neither ever
begins. So nothing is made where a quota has no room for all of it; and since that is known only at that moment, and
nodes have no such books, a session that could not get all of it within a while lets go of what it has, and tries again
after a pause that grows and is another one for each session. All of that only until a session was complete once: what
computes is not taken away for what is lost later.

The times stand in condition ``HasRoom``, which is there only where room was wanting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from af_operator import names
from af_operator.components._shared import pod_reasons, untrusted
from af_operator.components._shared.pod_reasons import Reason
from af_operator.model import Condition, Health, Refusal, Session
from af_operator.observed import Settled
from af_operator.quota import Amounts
from af_operator.views import ACTIVITY_STEP

HAS_ROOM = names.HAS_ROOM
COMPLETE, TRYING, LET_GO = "Complete", "Trying", "LetGo"
QUOTA, TOO_SMALL, NODES = "QuotaExceeded", "QuotaTooSmall", "Unschedulable"
PATIENCE: Mapping[str, timedelta] = {NODES: timedelta(minutes=10)}
"""How long a session holds what it has without the rest. An autoscaler needs minutes for a node."""
REFUSED_PATIENCE = timedelta(minutes=1)
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=10)


@dataclass(frozen=True)
class Room:
    """What was decided.

    Attributes
    ----------
    outside
        Nothing of the session that computes is to be there: it waits for room.
    condition
        What to tell of it; None where room was never wanting.
    look_again
        When to decide anew though nothing may have happened.
    promised
        What the session is about to make: no other one comes in for that.
    """

    outside: bool = False
    condition: Condition | None = None
    look_again: datetime | None = None
    promised: Amounts = field(default_factory=dict)


@dataclass(frozen=True)
class Lack:
    """What quotas have no room for.

    Attributes
    ----------
    now
        By what is used now, in the API server's words; None where there is room.
    ever
        Were nothing used.
    missing
        What of the minimum is not there yet.
    """

    now: str | None = None
    ever: str | None = None
    missing: Amounts = field(default_factory=dict)


def was_complete(session: Session, observed: Settled) -> bool:
    """Return whether the session had all that it needs since it was begun, or resumed."""
    told, ready = session.told(HAS_ROOM), session.told("Ready")
    if told is not None:
        return bool(told["status"] == "True" and told["reason"] == COMPLETE)
    return bool(ready and ready["status"] == "True") or _is_used(session, observed)


def decide(session: Session, observed: Settled, health: Mapping[str, Health], lack: Lack) -> Room:
    """Return whether the session waits for room.

    Parameters
    ----------
    health
        Of the components that compute, or whose pods do.
    lack
        Of what is missing of the session's minimum, and of all of it.
    """
    if session.spec.suspend or observed.finished or session.deleting:
        return Room()
    told, complete = session.told(HAS_ROOM), was_complete(session, observed)
    if complete or all(each.ready for each in health.values()):
        return _complete(session, told is not None or not all(each.ready for each in health.values()))
    if told is not None and told["status"] == "False":
        return _outside(session, observed, Reason(told["reason"], told["message"]), lack)
    if lack.now and not _holds(observed):
        return _waits(observed, lack)
    return replace(_trying(session, observed, shortage(observed, health)), promised=lack.missing)


def shortage(observed: Settled, health: Mapping[str, Health]) -> Reason | None:
    """Return what the session does not get, from what its components say; None where nothing is refused."""
    for component, each in health.items():
        if each.ready:
            continue
        if refused := _refused(component, observed.refused.values()):
            return refused
        if each.reason in (QUOTA, NODES, "FailedCreate"):
            return Reason(each.reason, each.message)
    return None


def _refused(component: str, refusals: Iterable[Refusal]) -> Reason | None:
    found = next((r for r in refusals if r.component == component and r.reason == "Refused"), None)
    return pod_reasons.refused_pod(found.reason, found.message) if found else None


def _complete(session: Session, tell: bool) -> Room:
    message = "what the session needs at its minimum was there together"
    return Room(condition=Condition(HAS_ROOM, True, COMPLETE, message) if tell else None)


def _trying(session: Session, observed: Settled, short: Reason | None) -> Room:
    told = session.told(HAS_ROOM)
    if short is None:
        return Room(condition=Condition(HAS_ROOM, True, TRYING, told["message"]) if told else None)
    begun = untrusted.time_of(told["lastTransitionTime"]) if told else None
    until = (begun or observed.now) + PATIENCE.get(short.reason, REFUSED_PATIENCE)
    if not _holds(observed, on_nodes=short.reason == NODES):
        return Room()  # nobody waits for what this session has
    if observed.now >= until:
        again = observed.now + _pause(session, observed.now)
        message = (
            f"a part of what the session needs at its minimum was not to be had, so the rest was let go for others: "
            f"{short.message}; it tries again at {again:%H:%M:%S} UTC"
        )
        return Room(True, Condition(HAS_ROOM, False, LET_GO, message), again)
    message = f"a part of what the session needs at its minimum is not to be had: {short.message}"
    return Room(condition=Condition(HAS_ROOM, True, TRYING, message), look_again=until)


def _outside(session: Session, observed: Settled, told: Reason, lack: Lack) -> Room:
    since = untrusted.time_of((session.told(HAS_ROOM) or {}).get("lastTransitionTime"))
    # Who has tried in vain waits out its pause: two that one event wakes would take it from each other again.
    again = since + _pause(session, since) if since and told.reason == LET_GO else observed.now
    if observed.now < again:
        return Room(True, Condition(HAS_ROOM, False, *told), again)
    if lack.now:
        return _waits(observed, lack)
    there_is = Condition(HAS_ROOM, True, TRYING, "there is room for what the session needs at its minimum")
    return Room(condition=there_is, promised=lack.missing)


def _waits(observed: Settled, lack: Lack) -> Room:
    if lack.ever:
        remedy = "ask for less, or the facility's admin for more"
        message = f"what the session needs at its minimum never fits: {lack.ever}; {remedy}"
        return Room(True, Condition(HAS_ROOM, False, TOO_SMALL, message))
    message = f"the session waits outside until there is room for all that it needs at its minimum: {lack.now}"
    # An event of the quota brings it back; but what others only were about to make goes without one.
    again = observed.now + SHORTEST_PAUSE if observed.promised else None
    return Room(True, Condition(HAS_ROOM, False, QUOTA, message), again)


def _holds(observed: Settled, *, on_nodes: bool = False) -> bool:
    """Return whether the session has pods, or has any on nodes, that others may wait for."""
    return any(not on_nodes or pod.get("spec", {}).get("nodeName") for pod in observed.pods())


def _is_used(session: Session, observed: Settled) -> bool:
    """Return whether somebody has used what there is of the session: then it is not taken away.

    A run is what its session is for. Elsewhere the start of a scheduler counts as its first use, and is none. What was
    used before a suspension tells nothing of what comes after it, nor does what stays meanwhile, such as a cache.
    """
    resumed = _resumed(session)
    if session.spec.run is not None:
        started = untrusted.time_of(session.status.get("run", {}).get("startTime"))
        return started is not None and (resumed is None or started >= resumed)
    used = untrusted.time_of(session.status.get("lastActivity"))
    begun = [resumed, *(untrusted.time_of(pod["metadata"].get("creationTimestamp")) for pod in observed.pods())]
    newest = max((time for time in begun if time), default=None)
    return used is not None and newest is not None and used >= newest + ACTIVITY_STEP


def _resumed(session: Session) -> datetime | None:
    """Return when the session was suspended or resumed last."""
    told = session.told("Suspended")
    return untrusted.time_of(told["lastTransitionTime"]) if told else None


def _pause(session: Session, since: datetime) -> timedelta:
    """Return how long a session waits after it has let go: half as long as it has waited until then, more or less.

    By how much follows from its uid and the time: two that have let go at the same time do not come back at the same.
    """
    waited = since.replace(microsecond=0) - (_resumed(session) or session.created)
    digest = hashlib.sha256(f"{session.uid} {since:%Y-%m-%dT%H:%M:%S}".encode()).digest()
    return min(max(waited / 2, SHORTEST_PAUSE), LONGEST_PAUSE) * (0.5 + digest[0] / 255)
