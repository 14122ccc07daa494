"""What a session is doing, in words: for the console and for the Hub's page alike. Pure: statuses in, text out."""

from __future__ import annotations

from datetime import datetime

from af_client.model import REPLICAS, Condition, Pool, Session

HUB = "HubRegistered"
"""Says nothing of whether the session works."""
ROOM = "HasRoom"
PARTS = frozenset({"Accepted", ROOM, HUB})
"""Beside <Component>Ready, the conditions that are good when they are true: a part of the session."""
WAITING_FOR_OTHERS = "WaitingForOthers"
NOT_PICKED_UP = "no operator has looked at the session yet: if this stays so, ask the admin whether af-operator runs"


def size(count: float) -> str:
    """Return a number of bytes for people: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def age(created: datetime | None, now: datetime) -> str:
    """Return how old something is, as kubectl writes it: ``5m``."""
    if created is None:
        return ""
    seconds = max(0, int((now - created).total_seconds()))
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // divisor}{unit}"
    return f"{seconds // 86_400}d"


def parts(session: Session) -> list[Condition]:
    """Return the conditions that stand for a part of the session: true, if it is as it should be."""
    ready = (c for c in session.conditions if c.type.endswith("Ready") and c.type != "Ready")
    return [c for c in session.conditions if c.type in PARTS] + list(ready)


def troubles(session: Session) -> list[Condition]:
    """Return the conditions that are bad news, and true: something was lost, or the operator fails at the session."""
    return [c for c in session.conditions if c.status and (c.type.endswith("Lost") or c.type == "InternalError")]


def changes(before: Session | None, after: Session) -> list[str]:
    """Return one line for each thing that is new, for a terminal that cannot be redrawn."""
    known = set(_facts(before)) if before else set()
    return [line for line in _facts(after) if line not in known]


def _facts(session: Session) -> list[str]:
    lines = [f"session {session.phase}"] if session.phase else []
    if session.ended:
        return lines  # that everything is gone now is no news
    told = (c for c in parts(session) if c.reason != WAITING_FOR_OTHERS and (c.message or c.status))
    lines += [c.message for c in troubles(session)]
    lines += [_line(c) for c in told]
    lines += [_pool(p) for p in session.pools]
    return lines


WORDS = {
    "Accepted": ("spec", "accepted", "refused ({})"),
    HUB: ("JupyterHub", "shows it", "does not show it ({})"),
    ROOM: ("room", "there is enough", "{}"),
    "RunReady": ("Run", "running", "{}"),
}


def _line(condition: Condition) -> str:
    name, good, bad = WORDS.get(condition.type, (condition.type.removesuffix("Ready"), "ready", "{}"))
    if condition.status:
        return f"{name}: {good}"
    return f"{name}: {bad.format(condition.reason)}" + (f": {condition.message}" if condition.message else "")


def _pool(pool: Pool) -> str:
    if pool.name == REPLICAS:
        return f"{pool.component}: {pool.ready} of {pool.desired} replicas"
    return f"{pool.component} pool {pool.name}: {pool.ready} of {pool.desired} workers"


def explain(session: Session) -> list[str]:
    """Return what a session is waiting for, or how it ended, and what to do next."""
    if session.deleting:
        return [_deletion(session)]
    if not session.phase:
        return [NOT_PICKED_UP]
    if session.phase == "Refused":
        return _refused(session)
    if session.ended:
        return _ended(session)
    return _going(session)


def _going(session: Session) -> list[str]:
    if session.phase == "Suspended":
        return ["it is suspended: no compute runs", f"next: af resume {session.name}"]
    bad = [c.message for c in troubles(session)] + _disruptions(session)
    waiting = [c for c in parts(session) if not c.status and c.type != HUB]
    # What waits only for the others is not worth a line beside them.
    waiting = [c for c in waiting if c.reason != WAITING_FOR_OTHERS] or waiting
    if waiting:
        # What all wait for is said once, by the first.
        by_message = {c.message or c.type: c for c in reversed(waiting)}
        first = [c for c in waiting if by_message[c.message or c.type] is c]
        return [*bad, *(f"waiting for {_waiting(c)}" for c in first), *_pools(session), *_notebook(session)]
    lines = [*bad, f"{session.phase.lower()}: everything it needs is there", *_pools(session)]
    how = [f"next: af logs -f {session.name}"] if session.headless else [_endpoints(session), *_notebook(session)]
    return [*lines, *how]


def _deletion(session: Session) -> str:
    held = ", ".join(session.finalizers)
    who = f"; it is held by finalizer {held}, which only who has put it there should remove"
    return "it is being deleted" + (who if held else "")


def _disruptions(session: Session) -> list[str]:
    count, last = session.run.disruptions or 0, session.run.last_disruption
    often = "once" if count == 1 else f"{count} times"
    return (
        [f"the cluster took the run's pod {often}, and it was begun again" + (f": {last}" if last else "")]
        if count
        else []
    )


def _notebook(session: Session) -> list[str]:
    if not session.serves("notebook"):
        return []
    hub = session.condition(HUB)
    lines = [f"JupyterHub does not show it ({hub.reason}): {hub.message}"] if hub and not hub.status else []
    return [*lines, f"next: af open {session.name}"]


def _refused(session: Session) -> list[str]:
    accepted = session.condition("Accepted")
    why = f"{accepted.reason}: {accepted.message}" if accepted else "the operator says no more"
    return [f"refused: {why}", f"next: correct the session file, then af delete {session.name} and af run again"]


def _ended(session: Session) -> list[str]:
    run, done = session.run, session.condition("RunComplete" if session.headless else "Ready")
    reason = run.reason or (done.reason if done else session.phase)
    word = session.phase.lower() + (f" ({reason})" if reason != session.phase else "")
    first, *more = (done.message if done else "").rstrip().splitlines() or [f"exit code {run.exit_code}"]
    lines = [f"{word}: {first}", *more]
    lines += [numbers(session)] if run.wall_seconds is not None else []
    lines += _disruptions(session)
    some = run.results is not None and run.results.count > 0
    if run.results and some:
        lines.append(f"results: {run.results.count} files, {size(run.results.bytes)} at {run.results.url}")
    # Who has a failure in hand wants to know why, whatever it left.
    wanted = some and session.phase == "Succeeded"
    next_step = f"af results {session.name} -o DIR" if wanted else f"af logs {session.name}"
    return [*lines, f"next: {next_step if session.headless else f'af delete {session.name}'}"]


def numbers(session: Session) -> str:
    """Return what the run took."""
    run = session.run
    memory = f", at most {size(run.peak_memory_bytes)} of memory" if run.peak_memory_bytes else ""
    attempts = f", {run.attempts} attempts" if run.attempts and run.attempts > 1 else ""
    return f"the run took {run.wall_seconds or 0:.1f} s{memory}{attempts}"


def _waiting(condition: Condition) -> str:
    name = "room" if condition.type == ROOM else condition.type.removesuffix("Ready")
    return f"{name} ({condition.reason}): {condition.message}".rstrip(": ")


def _pools(session: Session) -> list[str]:
    return [_pool(pool) for pool in session.pools]


def _endpoints(session: Session) -> str:
    return "endpoints: " + (", ".join(f"{k} {v}" for k, v in sorted(session.endpoints.items())) or "none")
