"""Whether a session's model service is ready, and if not, the real reason: from its pods."""

from __future__ import annotations

from af_operator import names
from af_operator.components._shared import pool_health
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components._shared.pool_health import PoolState
from af_operator.components.inference import replicas, spec
from af_operator.components.inference.spec import LOST, NAME, RETURNED, was_lost, was_up
from af_operator.model import Condition, Health, Session
from af_operator.observed import Settled

AWAY = "Away"


def health(session: Session, observed: Settled) -> Health:
    """Return ready when every replica has had an answer of each model; with fewer, what they serve is still served."""
    [state] = pool_health.with_losses(session, NAME, [_state(session, observed)], observed)
    models = spec.served(session) or replicas.served(session, observed)
    details = {**pool_health.details([state]), **({"models": models} if models else {})}
    lost, endpoints = _lost(session, observed, state), _endpoints(session)
    number = f"{state.ready} of {state.desired} replicas ready"
    if state.ready >= state.desired:
        return Health(True, "Ready", "; ".join(filter(None, [number, state.loss])), endpoints, details, lost)
    reason, message = _trouble(state) or Reason(STARTING, "each loads its models, and asks each of them once")
    serving = f"{number}, which serve" if state.ready else number
    return Health(False, reason, f"{serving}: {message}", endpoints if state.ready else {}, details, lost)


def _state(session: Session, observed: Settled) -> PoolState:
    pods, asked = replicas.wanted(session, observed), spec.spec(session)
    refused = pool_health.refusal(observed.refused.get(names.inference(session)))
    free = observed.gpus_free.get(asked.node_pool or "")
    return PoolState(spec.pool(session), asked.replicas, pods, len(pods), refused=refused, gpus_free=free)


def _trouble(state: PoolState) -> Reason | None:
    trouble = state.worst
    if trouble and "persistentvolumeclaim" in trouble.message:
        hint = "the profile's catalogue names claims that each namespace with such sessions needs"
        return Reason("VolumeClaimMissing", f"{trouble.message}; {hint}: tell the facility's admin")
    return trouble


def _endpoints(session: Session) -> dict[str, str]:
    return {"inference": names.inference_url(session), "grpc": names.inference_grpc(session)}


def _lost(session: Session, observed: Settled, state: PoolState) -> Condition | None:
    """Return whether a service that was there does not answer; None where that was never so. A suspension ends it."""
    before = was_lost(session)
    stopped = session.spec.suspend or observed.finished is not None
    if not stopped and not state.ready and was_up(session):
        message = "the model service is away: what asks it fails until it is back, and nothing that is stored is lost"
        return Condition(LOST, True, AWAY, message)
    if before is None:
        return None
    if before in (AWAY, RETURNED) and not stopped:
        return Condition(LOST, False, RETURNED, "the model service answers again")
    return Condition(LOST, False, "Gone", "the model service was not lost since it began")
