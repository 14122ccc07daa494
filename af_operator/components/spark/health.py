"""Whether a session's Spark is ready, and if not, the real reason: from the pods."""

from __future__ import annotations

from collections.abc import Mapping

from af_operator import names
from af_operator.components._shared import lost as losses
from af_operator.components._shared import pod_reasons, pool_health
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components.spark import programs
from af_operator.components.spark import spec as specs
from af_operator.components.spark.spec import NAME, TITLE
from af_operator.components.spark.workers import groups
from af_operator.model import DEPLOYMENT, Condition, Health, Session
from af_operator.observed import Observed, Settled

ADVICE = (
    "temporary views and cached tables are lost, and a new one runs: in a program that was connected call "
    "`spark.stop()`, and `SparkSession.builder.getOrCreate()` again"
)
CONNECT_SERVER = losses.Holder("SparkLost", "Spark Connect server", programs.CONNECT, ADVICE, programs.is_master)


def health(session: Session, observed: Settled) -> Health:
    """Return ready when master and Connect server are, and every pool has its minimum of workers."""
    live, view = groups(session, observed), specs.agent_view(observed)
    found = list(pool_health.states(specs.desired_groups(session), live, observed, view))
    states = pool_health.with_losses(session, NAME, found, observed)
    details, lost = pool_health.details(states), _lost(session, observed)
    trouble = pool_health.first_trouble([_master_trouble(session, observed), *(s.below_minimum for s in states)])
    if trouble:
        return Health(False, trouble.reason, trouble.message, details=details, condition=lost)
    messages = [*(state.summary for state in states), *pool_health.retirements(view)]
    answer = specs.answer(observed)
    if answer and answer.lost:
        messages.append(f"workers that were lost: {answer.lost} (what they held is computed anew where it is needed)")
    return Health(True, "Ready", "; ".join(messages), _endpoints(session), details, lost)


def _endpoints(session: Session) -> Mapping[str, str]:
    return {
        "spark": names.spark_url(session, "sc", names.SPARK_CONNECT_PORT),
        "master": names.spark_url(session, "spark", names.SPARK_MASTER_PORT),
        "ui": names.spark_url(session, "http", names.SPARK_UI_PORT),
        "masterUI": names.spark_url(session, "http", names.SPARK_MASTER_UI_PORT),
    }


def _master_trouble(session: Session, observed: Observed) -> Reason | None:
    pods = [pod for pod in observed.pods(NAME) if programs.is_master(pod)]
    if any(map(pod_reasons.is_ready, pods)):
        return None
    live = observed.get(DEPLOYMENT.ref(names.spark(session)))
    if not pods and live is not None:
        return pod_reasons.no_pod(live, "Spark's master")
    return pod_reasons.worst(pods) or Reason(STARTING, "Spark's master and Connect server are starting")


def _lost(session: Session, observed: Settled) -> Condition | None:
    live = observed.get(DEPLOYMENT.ref(names.spark(session)))
    return losses.lost(session, observed, CONNECT_SERVER, deleted=losses.is_another(session, live, (NAME, TITLE)))
