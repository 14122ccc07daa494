"""What a starting session says on JupyterHub's page: sentences for people, and how far it is. Pure."""

from __future__ import annotations

from af_client.model import Condition, Session
from af_client.progress import ROOM, WAITING_FOR_OTHERS, parts
from af_names import plain

OPERATOR_AWAY = (
    "The operator has not answered yet, so nothing starts for now. Your request is kept, and goes on by itself when "
    "the operator is back; if this stays so, tell your facility's admin that af-operator does not run"
)
CLUSTER_UNSEEN = "JupyterHub cannot see the cluster at the moment; it goes on when the API server answers again"
FIRST, LAST = 10, 95


def sentences(session: Session, *, adopted: bool = False) -> list[str]:
    """Return what is so, and what each part of the session has to say, one sentence each.

    What pods and clusters have said is in it: one line each, that shows no other text than it is.
    """
    return [plain.line(each) for each in _sentences(session, adopted)]


def _sentences(session: Session, adopted: bool) -> list[str]:
    where = f"session {session.name} in namespace {session.namespace}"
    first = f"Found {where}, which is there already" if adopted else f"Asked for {where}"
    if not session.phase:
        return [first]
    return [first] + [
        _sentence(c) for c in _told(session) if c.reason != WAITING_FOR_OTHERS and (c.message or c.status)
    ]


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
    return ready.message if ready and not ready.status and ready.message else "it is not ready yet"


def _told(session: Session) -> list[Condition]:
    # Whether the Hub knows the session is no news on the Hub's own page.
    return [c for c in parts(session) if c.type != "HubRegistered"]


def _sentence(condition: Condition) -> str:
    name = condition.type.removesuffix("Ready")
    if condition.type == "Accepted":
        return "Your choices are accepted" if condition.status else f"Refused: {condition.message}"
    if condition.type == ROOM:
        return "There is room for it" if condition.status else condition.message
    return f"{name} is ready" if condition.status else f"{name}: {condition.message}"


def _share(session: Session, condition: Condition) -> float:
    pools = [p for p in session.pools if p.component == condition.type.removesuffix("Ready").lower()]
    desired = sum(pool.desired for pool in pools)
    return sum(pool.ready for pool in pools) / desired if desired else 0.0
