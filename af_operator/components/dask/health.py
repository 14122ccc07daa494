"""Whether a session's Dask is ready, and if not, the real reason: from the pods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from af_operator import names, ownership
from af_operator.components._shared import pod_reasons, pool_health
from af_operator.components._shared.pod_reasons import Reason
from af_operator.components._shared.pool_health import PoolState
from af_operator.components.dask import engine, secret
from af_operator.components.dask.groups import NAME, agent_view, desired
from af_operator.components.dask.lost import is_scheduler, lost
from af_operator.model import SERVICE, Body, Health, Session
from af_operator.observed import Observed, Settled
from af_operator.views import AgentView

SILENT = "SchedulerSilent"
BUSY = (
    "it may be busy with a long step of its own; if it hangs, suspend and resume the session to have its Dask made "
    "anew, which loses its results"
)


def health(session: Session, observed: Settled) -> Health:
    """Return ready when the scheduler is, and every pool has its minimum of workers."""
    states = pool_health.with_losses(session, NAME, list(_states(session, observed)), observed)
    details, lost_condition = pool_health.details(states), lost(session, observed)
    trouble = pool_health.first_trouble([_scheduler_trouble(session, observed), *(s.below_minimum for s in states)])
    if trouble:
        return Health(False, trouble.reason, trouble.message, details=details, condition=lost_condition)
    endpoints = {"dask": secret.address(session, observed), "dashboard": names.dask_dashboard_url(session)}
    message = "; ".join([*(state.summary for state in states), *_retirements(agent_view(observed))])
    return Health(True, "Ready", message, endpoints, details, lost_condition)


def _states(session: Session, observed: Settled) -> Iterator[PoolState]:
    session_engine = engine.begun(observed) or engine.NATIVE
    live = session_engine.groups(session, observed)
    for state in pool_health.states(desired(session), live, observed, agent_view(observed)):
        refused = session_engine.refused(session, state.pool, observed)
        yield replace(state, maker=session_engine.MAKER, refused=refused)


def _scheduler_trouble(session: Session, observed: Observed) -> Reason | None:
    pods = [pod for pod in observed.pods(NAME) if is_scheduler(pod)]
    if taken := _taken(session, observed):
        return taken
    if any(pod_reasons.is_ready(pod) for pod in pods):
        return None
    if not pods:
        return (engine.begun(observed) or engine.NATIVE).no_scheduler_pod(session, observed)
    return _not_ready(agent_view(observed), pods)


def _taken(session: Session, observed: Observed) -> Reason | None:
    """Return that the scheduler's address is somebody else's, where the Dask operator was to make it."""
    service = SERVICE.ref(names.dask_scheduler(session))
    there = observed.read.get(service)
    if there is None or observed.get(service) or ownership.of_family(session, there, observed):
        return None
    conflict = "exists and is not this session's: rename the session or delete it"
    return Reason("NameConflict", f"Service {service.name!r} {conflict}")


def _not_ready(view: AgentView | None, pods: Sequence[Body]) -> Reason:
    trouble, since = pod_reasons.worst(pods), pod_reasons.silent_since(pods[-1])
    if since and not trouble:
        return Reason(SILENT, _silence(view, since))
    reason, message = trouble or pod_reasons.why(pods[-1])
    return Reason(reason, f"scheduler: {message}")


def _retirements(view: AgentView | None) -> Iterator[str]:
    """Say what keeps workers that are to go."""
    if view is not None and view.silent_since:
        yield _silence(view, view.silent_since)
    else:
        yield from pool_health.retirements(view)


def _silence(view: AgentView | None, since: datetime) -> str:
    """Say what comes of a scheduler's silence, and when."""
    if not view or not view.silent_since or not view.deadline:  # nothing is asked of it: no pool could shrink
        return f"the scheduler does not answer since {_clock(since)}: {BUSY}"
    silence = f"the scheduler does not answer since {_clock(view.silent_since)} ({view.trouble})"
    if view.given_up:
        consequence = f"since {_clock(view.deadline)} workers go without its word"
    else:
        consequence = f"no worker is removed until it does; from {_clock(view.deadline)} on workers go without its word"
    return f"{silence}: {consequence}, and with results that they alone have; {BUSY}"


def _clock(time: datetime) -> str:
    return f"{time:%H:%M:%S} UTC"
