"""Whether a relay is ready: its broker, and the minimum of each pool."""

from __future__ import annotations

from af_operator import names
from af_operator.components._shared import pod_reasons, pool_health, worker_pods
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.model import Health, Session, label_of
from af_operator.observed import Observed, Settled
from tests.support.components.relay import broker, spec
from tests.support.components.relay.spec import NAME


def health(session: Session, observed: Settled) -> Health:
    """Return ready when the broker is, and every pool has its minimum of workers."""
    live, view = worker_pods.groups(session, NAME, observed), observed.agents.get(NAME)
    states = list(pool_health.states(spec.desired_groups(session), live, observed, view))
    details, answer = pool_health.details(states), spec.answer(observed)
    trouble = pool_health.first_trouble([_broker(observed), *(state.below_minimum for state in states)])
    if trouble:
        return Health(False, trouble.reason, trouble.message, details=details)
    messages = [state.summary for state in states] + list(pool_health.retirements(view))
    if answer and answer.queued:
        messages.append(f"messages that wait: {answer.queued}")
    return Health(True, "Ready", "; ".join(messages), {NAME: broker.url(session)}, details)


def _broker(observed: Observed) -> Reason | None:
    pods = [pod for pod in observed.pods(NAME) if label_of(pod, names.ROLE) == "broker"]
    if any(map(pod_reasons.is_ready, pods)):
        return None
    return pod_reasons.worst(pods) or Reason(STARTING, "the broker is not ready yet")
