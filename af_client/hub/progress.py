"""What a starting session says on JupyterHub's page: sentences for people, and how far it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from af_client.model import Condition, Session
from af_client.progress import ROOM, WAITING_FOR_OTHERS, parts
from af_names import plain

OPERATOR_AWAY = (
    "The operator has not answered yet, so nothing starts for now. Your request is kept, and goes on by itself when "
    "the operator is back; if this stays so, tell your facility's admin that af-operator does not run"
)
CLUSTER_UNSEEN = "JupyterHub cannot see the cluster at the moment; it goes on when the API server answers again"
FIRST, LAST = 10, 95
NEVER = "QuotaTooSmall"
"""Reason of `ROOM` where waiting is in vain."""
_NODES = re.compile(r"(^|(?<=: ))(?=\d+/\d+ nodes are available)")


def sentences(session: Session, *, adopted: bool = False) -> list[str]:
    """Return what is so, and what each part of the session has to say, one sentence each.

    What pods and clusters have said is in it: one line each, that shows no other text than it is.
    """
    return [plain.line(each) for each in _sentences(session, adopted)]


def _sentences(session: Session, adopted: bool) -> list[str]:
    where = f"session {session.name} in namespace {session.namespace}"
    first = f"Found {where}, which is there already" if adopted else f"Asked for {where}"
    return [first, *(_of_parts(session) if session.phase else ())]


def _of_parts(session: Session) -> Iterator[str]:
    said = set[str]()
    for condition in _told(session):
        # What is wrong with all of them is said once.
        repeated = not condition.status and condition.message in {*said, ""}
        if condition.reason != WAITING_FOR_OTHERS and not repeated:
            yield _sentence(condition)
            said.add(condition.message)


def percent(session: Session) -> int:
    """Return how far the session is: the share of its parts that are ready, a part of a pool by its workers."""
    told = _told(session)
    if not told:
        return FIRST
    done = sum(1.0 if c.status else _share(session, c) for c in told)
    return round(FIRST + (LAST - FIRST) * done / len(told))


def waiting_for(session: Session) -> str:
    """Return what a session that is not ready waits for."""
    if not session.phase:
        return OPERATOR_AWAY
    ready = session.condition("Ready")
    return _plainly(ready.message) if ready and not ready.status and ready.message else "it is not ready yet"


def never_fits(session: Session) -> str:
    """Return what a session lacks that it will never get; empty where it may wait."""
    room = session.condition(ROOM)
    return room.message if room and room.status is False and room.reason == NEVER else ""


def _plainly(message: str) -> str:
    """Return a message with what the scheduler's own words mean before them."""
    return _NODES.sub("no node has room for it now: ", message)


def _told(session: Session) -> list[Condition]:
    # Whether the Hub knows the session is no news on the Hub's own page.
    return [c for c in parts(session) if c.type != "HubRegistered"]


def _sentence(condition: Condition) -> str:
    name = condition.type.removesuffix("Ready")
    if condition.type == "Accepted":
        return "Your choices are accepted" if condition.status else f"Refused: {condition.message}"
    if condition.type == ROOM:
        return "There is room for it" if condition.status else condition.message
    return f"{name} is ready" if condition.status else f"{name}: {_plainly(condition.message)}"


def _share(session: Session, condition: Condition) -> float:
    pools = [p for p in session.pools if p.component == condition.type.removesuffix("Ready").lower()]
    desired = sum(pool.desired for pool in pools)
    return sum(pool.ready for pool in pools) / desired if desired else 0.0
