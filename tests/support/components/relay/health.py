"""Whether a relay is ready: its broker, and the minimum of each pool."""

from __future__ import annotations

from collections.abc import Iterator

from af_operator import names
from af_operator.components._shared import pod_reasons, pool_health, worker_pods
from af_operator.components._shared import pools as worker_pools
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components._shared.pool_health import PoolState
from af_operator.model import Health, Session, label_of
from af_operator.observed import Observed, Settled
from tests.support.components.relay import broker, spec
from tests.support.components.relay.spec import NAME


def health(session: Session, observed: Settled) -> Health:
    """Return ready when the broker is, and every pool has its minimum of workers."""
    states = list(_states(session, observed))
    details, answer = pool_health.details(states), spec.answer(observed)
    trouble = pool_health.first_trouble([_broker(observed), *(state.below_minimum for state in states)])
    if trouble:
        return Health(False, trouble.reason, trouble.message, details=details)
    messages = [state.summary for state in states] + list(pool_health.retirements(observed.agents.get(NAME)))
    if answer and answer.queued:
        messages.append(f"messages that wait: {answer.queued}")
    return Health(True, "Ready", "; ".join(messages), {NAME: broker.url(session)}, details)


def _states(session: Session, observed: Settled) -> Iterator[PoolState]:
    live, answer = worker_pods.groups(session, NAME, observed), spec.answer(observed)
    for name, pool in spec.desired_groups(session).items():
        groups_of_pool = [group for group in live.values() if group.pool == pool.name]
        yield PoolState(
            pool,
            worker_pools.size(pool, live.get(name), answer.pools.get(name) if answer else None),
            [pod for group in groups_of_pool for pod in group.pods],
            sum(len(group.workers) for group in groups_of_pool),
            refused=pool_health.refusal(observed.refused.get(name)),
            gpus_free=observed.gpus_free.get(pool.node_pool),
        )


def _broker(observed: Observed) -> Reason | None:
    pods = [pod for pod in observed.pods(NAME) if label_of(pod, names.ROLE) == "broker"]
    if any(map(pod_reasons.is_ready, pods)):
        return None
    return pod_reasons.worst(pods) or Reason(STARTING, "the broker is not ready yet")
