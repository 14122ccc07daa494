"""From (Session, Plan, refusals, now) to the whole ``.status``. Pure; written once per pass, if it changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from af_names import plain
from af_operator.api.status import Endpoints
from af_operator.model import Body, Health, Notice, Plan, Refusal, Session

AWAITED = {("Accepted", "False"), ("Ready", "True"), ("RunComplete", "True"), ("HasRoom", "False")}
"""Flips that somebody waits for, or must know of; beside these, that something was lost (``SchedulerLost``)."""
GOOD = ("Ready", "Succeeded")
BROKEN = "InternalError"
"""Condition: the operator itself fails at the session. It is there only as long as that is so."""

MAX_MESSAGE = 1000
MAX_REASON = 100


def compute(session: Session, plan: Plan, refusals: Sequence[Refusal], now: datetime) -> dict[str, Any]:
    """Return the status that the session should have."""
    statements = list(_conditions(session, plan, refusals))
    conditions = [_timed(session.status.get("conditions", ()), session.generation, each, now) for each in statements]
    state: dict[str, Body] = {c["type"]: c for c in conditions}
    parts = {name: _of_component(health) for name, health in plan.health.items() if name in plan.active}
    components = {name: part for name, part in parts.items() if part}
    all_endpoints = {key: url for part in components.values() for key, url in part.get("endpoints", {}).items()}
    endpoints = {key: url for key, url in all_endpoints.items() if key in Endpoints.model_fields}
    found: dict[str, Any] = _plain(
        {
            "observedGeneration": session.generation,
            "phase": phase(session, plan, state),
            "conditions": conditions,
            **({"components": components} if components else {}),
            **({"endpoints": endpoints} if endpoints else {}),
            **({"lastActivity": stamp(plan.last_activity)} if plan.last_activity else {}),
            **plan.report,
        }
    )
    return found


def _plain(value: Any) -> Any:
    """Return the status with every text in it plain, and of one line: programs, kubelets and registries wrote some."""
    if isinstance(value, str):
        return plain.line(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _of_component(health: Health) -> dict[str, Any]:
    return {**health.details, **({"endpoints": dict(health.endpoints)} if health.endpoints else {})}


def unreadable(body: Body, message: str, now: datetime) -> dict[str, Any]:
    """Return the status of a session that our models cannot parse though the API server stored it."""
    condition = _sole_condition(body, ("Accepted", False, "InvalidSpec", message), now)
    kept_fields = {key: value for key, value in (body.get("status") or {}).items() if key == "lastActivity"}
    return {"observedGeneration": _generation(body), "phase": "Refused", "conditions": [condition], **kept_fields}


def broken(body: Body, error: Exception, now: datetime) -> dict[str, Any]:
    """Return the status of a session at which the operator fails: what was known, and that it is not kept up."""
    name = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
    message = (
        f"the operator fails again and again at this session ({type(error).__name__}): what runs goes on, edits are "
        "not followed. It is a fault of the operator, or of an object that it reads: let the facility's admin look for "
        f"'a pass failed' and {name} in its log"
    )
    condition = _sole_condition(body, (BROKEN, True, "PassFailed", message), now)
    previous = body.get("status") or {}
    others = [c for c in previous.get("conditions", ()) if c["type"] != BROKEN]
    empty = {"observedGeneration": _generation(body), "phase": "Pending"}
    return {**empty, **previous, "conditions": [*others, condition]}


def _sole_condition(body: Body, statement: tuple[str, bool, str, str], now: datetime) -> dict[str, Any]:
    return _timed((body.get("status") or {}).get("conditions", ()), _generation(body), statement, now)


def _generation(body: Body) -> int:
    return int(body["metadata"].get("generation", 1))


def phase(session: Session, plan: Plan, state: dict[str, Body]) -> str:
    """Return one word for people, made from the conditions.

    Beside them only ``world`` reads it: for the metrics, and for which session JupyterHub shows.
    """
    if plan.rejected and not plan.health:
        return "Refused"
    if plan.finished:
        return "Succeeded" if plan.finished.reason == "Succeeded" else "Failed"
    if session.spec.suspend:
        return "Suspended"
    if state["Ready"]["status"] == "True":
        return "Running" if session.spec.run else "Ready"
    return "Starting" if session.status.get("conditions") else "Pending"


def urgent(before: Body, after: Body) -> bool:
    """Return whether somebody waits for this: an answer to an edit, ready, a pool of its asked size, or the end."""
    answer = before.get("observedGeneration") != after["observedGeneration"]
    # While a session comes up, people wait for Ready and not for each of its pools.
    resized = _states(before).get("Ready") == "True" and not _complete(after) <= _complete(before)
    lost = _losses(after) - _losses(before) or _disruption(before, after)
    return answer or resized or bool(_awaited(before, after) or lost)


def events(before: Body, after: Body) -> list[Notice]:
    """Return the Events that a status change deserves: only what went wrong; the conditions tell the rest."""
    wrong = [Notice("Warning", c["reason"], c["message"]) for c in _awaited(before, after) if c["reason"] not in GOOD]
    words = _disruption(before, after)
    return [*wrong, Notice("Warning", "Disrupted", f"the run was disrupted: {words}")] if words else wrong


def _losses(status: Body) -> set[tuple[str, str, str]]:
    """Return how workers were lost last, by component and pool: nothing else will know it once their pods are gone."""
    return {
        (component, name, pool["lastLoss"])
        for component, component_status in status.get("components", {}).items()
        for name, pool in component_status.get("pools", {}).items()
        if "lastLoss" in pool
    }


def _disruption(before: Body, after: Body) -> str | None:
    """Return what disrupted the run since: nothing else will know it once the pod is gone."""
    number_before, number = (each.get("run", {}).get("disruptions", 0) for each in (before, after))
    return after["run"].get("lastDisruption") if number > number_before else None


def _awaited(before: Body, after: Body) -> list[Body]:
    states_before = _states(before)
    flipped = (c for c in after["conditions"] if states_before.get(c["type"]) != c["status"])
    return [c for c in flipped if (c["type"], c["status"]) in AWAITED or _tells_of_a_loss(c)]


def _tells_of_a_loss(condition: Body) -> bool:
    return bool(condition["type"].endswith("Lost") and condition["status"] == "True")


def _complete(status: Body) -> set[tuple[str, str, int]]:
    """Return the pools that have the size that they are asked to have."""
    return {
        (component, name, pool["desired"])
        for component, component_status in status.get("components", {}).items()
        for name, pool in component_status.get("pools", {}).items()
        if pool["ready"] == pool["desired"]
    }


def _states(status: Body) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status.get("conditions", ())}


def stamp(time: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def since(kind: str, state: str, before: Iterable[Body], now: datetime) -> str:
    """Return since when a condition has its status, from those that there were before."""
    previous: Body = next((c for c in before if c["type"] == kind), {})
    return str(previous["lastTransitionTime"]) if previous.get("status") == state else stamp(now)


def _conditions(session: Session, plan: Plan, refusals: Sequence[Refusal]) -> Iterator[tuple[str, bool, str, str]]:
    if plan.rejected:
        yield "Accepted", False, *plan.rejected
        if not plan.health:
            yield "Ready", False, *plan.rejected
            return
    else:
        yield "Accepted", True, "Accepted", f"the spec fits profile {session.spec.profile}"
    # One that has nothing to tell is heard of only when something of it is refused.
    refused = {r.component: None for r in refusals if r.component not in plan.health}
    parts = [(plan.titles[name], _component(name, session, plan, refusals)) for name in (*refused, *plan.health)]
    yield "Ready", *_summary(session, plan, parts)
    for title, health in parts:
        yield f"{title}Ready", health.ready, health.reason, health.message
    yield from (health.condition for health in plan.health.values() if health.condition)
    if plan.room:
        yield plan.room
    if plan.registration:
        # No part of Ready: a session works without JupyterHub.
        yield "HubRegistered", plan.registration.shown, plan.registration.reason, plan.registration.message
    if session.spec.suspend or any(c["type"] == "Suspended" for c in session.status.get("conditions", ())):
        message = "the compute is gone; `suspend: false` brings it back" if session.spec.suspend else "not suspended"
        yield "Suspended", session.spec.suspend, "Suspended" if session.spec.suspend else "Resumed", message
    if session.spec.run:
        end = plan.finished
        yield "RunComplete", end is not None, *((end.reason, end.message) if end else ("NotFinished", "not finished"))


def _component(name: str, session: Session, plan: Plan, refusals: Sequence[Refusal]) -> Health:
    refused = next((r for r in refusals if r.component == name), None)
    if refused:
        return Health(False, refused.reason, f"{refused.ref.kind} {refused.ref.name}: {refused.message}")
    if plan.room and not plan.room.true and not session.deleting:
        return Health(False, plan.room.reason, plan.room.message)
    if name not in plan.active:
        if session.deleting:
            return Health(False, "Deleting", "gone: the session is being deleted")
        if plan.finished:
            return Health(False, "Finished", "gone: the session has finished")
        return Health(False, "Suspended", "gone while the session is suspended")
    return plan.health[name]


def deletion(session: Session) -> str:
    """Return that a session is being deleted, and what holds it."""
    held = f"; it is held by finalizer {', '.join(session.finalizers)}, which only who has put it there should remove"
    return f"the session is being deleted{held if session.finalizers else ''}"


def _summary(session: Session, plan: Plan, parts: Iterable[tuple[str, Health]]) -> tuple[bool, str, str]:
    if session.deleting:
        return False, "Deleting", deletion(session)
    if plan.finished:
        return False, "Finished", plan.finished.message
    if session.spec.suspend:
        return False, "Suspended", "the session is suspended: `suspend: false` brings it back"
    not_ready = [(title, health) for title, health in parts if not health.ready]
    if not not_ready:
        return True, "Ready", "everything that the session asked for is ready"
    return False, *_why_not(plan, not_ready)


def _why_not(plan: Plan, not_ready: Sequence[tuple[str, Health]]) -> tuple[str, str]:
    if plan.rejected:
        return plan.rejected
    if plan.room and not plan.room.true:
        return plan.room.reason, plan.room.message
    # The first one that has something to say beside "I wait for the others".
    title, health = next(((t, h) for t, h in not_ready if h.reason != "WaitingForOthers"), not_ready[0])
    return health.reason, f"{title}: {health.message}"


def _timed(
    before: Iterable[Body], generation: int, statement: tuple[str, bool, str, str], now: datetime
) -> dict[str, Any]:
    kind, true, reason, message = statement
    state = "True" if true else "False"
    previous = next((c for c in before if c["type"] == kind), {})
    flipped = previous.get("status") != state
    return {
        "type": kind,
        "status": state,
        "reason": reason[:MAX_REASON],
        "message": plain.line(message)[:MAX_MESSAGE],
        "lastTransitionTime": stamp(now) if flipped else previous["lastTransitionTime"],
        "observedGeneration": generation,
    }
