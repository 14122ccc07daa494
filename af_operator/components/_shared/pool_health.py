"""How a pool of workers is, and if it is below its minimum, the real reason: from the pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import disruptions, placement, pod_reasons, pod_spec, pools
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components._shared.pools import WorkerGroup
from af_operator.components._shared.worker_pods import MAKER
from af_operator.model import Body, Refusal, Session, grouped, label_of
from af_operator.observed import Observed
from af_operator.views import AgentView


@dataclass(frozen=True)
class PoolState:
    """One pool, as it is.

    Attributes
    ----------
    desired
        Workers that it should have.
    pods
        The pods of its workers, whatever their shape.
    started
        Workers that were started, with or without a pod.
    maker
        Who is to start the others.
    refused
        Why the API server takes no more of its workers, if that is so.
    gpus_free
        GPUs of its node pool that nobody has; None where that is not known.
    last_loss
        How a worker was lost last, in words; empty where none was.
    """

    pool: Pool
    desired: int
    pods: Sequence[Body] = ()
    started: int = 0
    maker: str = MAKER
    refused: Reason | None = None
    gpus_free: int | None = None
    last_loss: str = ""

    @cached_property
    def ready(self) -> int:
        """Workers that are ready."""
        return sum(map(pod_reasons.is_ready, self.pods))

    @cached_property
    def worst(self) -> Reason | None:
        """The first real trouble of its workers; where no node takes them, with what they ask of one."""
        trouble = pod_reasons.worst(self.pods)
        if not trouble:
            return self.refused
        if trouble.reason != "Unschedulable":
            return trouble
        stuck = [pod for pod in self.pods if pod_reasons.why(pod).reason == "Unschedulable"]
        return self._no_gpu(stuck, trouble) if self.pool.gpus_per_worker else _no_node(stuck, trouble)

    @property
    def below_minimum(self) -> Reason | None:
        """What keeps the pool below its minimum."""
        minimum = self.pool.workers.min
        if self.ready >= minimum:
            return None
        state = f"pool {self.pool.name}: {self.ready} of at least {minimum} workers ready"
        if self.worst:
            return Reason(self.worst.reason, f"{state}: {self.worst.message}")
        if self.started < minimum:
            return Reason(STARTING, f"{state}; {self.started} started, the others are to come from {self.maker}")
        return Reason(STARTING, state)

    @property
    def summary(self) -> str:
        """Say how many workers there are, and what keeps it from more."""
        trouble = self.worst if self.ready < self.desired else None
        causes = "; ".join(filter(None, [trouble.message if trouble else "", self.loss]))
        return f"pool {self.pool.name}: {self.ready} of {self.desired} workers" + (f" ({causes})" if causes else "")

    @property
    def loss(self) -> str:
        """Say which worker was lost last; empty where none was."""
        return f"lost last: {self.last_loss}" if self.last_loss else ""

    def _no_gpu(self, stuck: Sequence[Body], trouble: Reason) -> Reason:
        resource = next(iter(pod_spec.gpus(stuck[0].get("spec", {}))), "GPU")
        free = "" if self.gpus_free is None else f", {self.gpus_free} free"
        request = f"asks for {len(stuck) * self.pool.gpus_per_worker} more {resource}{free}"
        return Reason(trouble.reason, f"{request}: {trouble.message}")


def states(
    desired: Mapping[str, Pool], live: Mapping[str, WorkerGroup], observed: Observed, view: AgentView | None
) -> Iterator[PoolState]:
    """Yield how each pool is whose workers are pods of our own; `desired` has each by the name of its group."""
    for name, pool in desired.items():
        groups_of_pool = [group for group in live.values() if group.pool == pool.name]
        yield PoolState(
            pool,
            pools.size(pool, live.get(name), pools.answer_of(view, name)),
            [pod for group in groups_of_pool for pod in group.pods],
            sum(len(group.workers) for group in groups_of_pool),
            refused=refusal(observed.refused.get(name)),
            gpus_free=observed.gpus_free.get(pool.node_pool),
        )


def details(states: Sequence[PoolState]) -> Mapping[str, Any]:
    """Return the part of ``status.components`` that tells of pools."""
    pools = {}
    for each in states:
        lost = {"lastLoss": each.last_loss} if each.last_loss else {}
        pools[each.pool.name] = {"ready": each.ready, "desired": each.desired, **lost}
    return {"pools": pools}


def with_losses(session: Session, component: str, states: Iterable[PoolState], observed: Observed) -> list[PoolState]:
    """Return the states with how a worker was lost last: what is seen of that now, or was told."""
    told = session.status.get("components", {}).get(component, {}).get("pools", {})
    by_pool = grouped(observed.pods(component), lambda pod: label_of(pod, names.POOL))
    losses = {
        s.pool.name: _loss(by_pool.get(s.pool.name, ())) or told.get(s.pool.name, {}).get("lastLoss") for s in states
    }
    return [replace(state, last_loss=losses[state.pool.name] or "") for state in states]


def _loss(pods: Iterable[Body]) -> str | None:
    """Return how one of these was lost: it was taken away, or used too much memory and was started again."""
    for pod in pods:
        taken = pod_reasons.taken(pod)
        if taken and taken != disruptions.DELETED:  # which is also how we remove one that has retired
            return taken  # without the name of the pod: that many are lost at once is one thing to tell
        if "deletionTimestamp" in pod["metadata"]:
            continue  # what it told of was told while it was there; after a suspension it is nobody's loss any more
        for status in pod.get("status", {}).get("containerStatuses", ()):
            last = status.get("lastState", {}).get("terminated", {})
            if last.get("reason") == pod_reasons.OOM:
                return pod_reasons.ended(pod, status["name"], last).message
    return None


def first_trouble(candidates: Sequence[Reason | None]) -> Reason | None:
    """Return real trouble before mere waiting; None where there is neither."""
    reasons = [each for each in candidates if each]
    return next((each for each in reasons if each.reason != STARTING), next(iter(reasons), None))


def retirements(view: AgentView | None) -> Iterator[str]:
    """Say what keeps workers that are to go."""
    answers = view.pools.values() if view else ()
    retiring, stuck = sum(len(each.retiring) for each in answers), sum(len(each.stuck) for each in answers)
    if retiring:
        yield f"workers that finish their tasks and copy their results away before they go: {retiring}"
    if stuck:
        yield f"workers that stay because no other worker can take their results: {stuck}"


def refusal(refused: Refusal | None) -> Reason | None:
    """Return why the API server takes no more workers, without the name of one: that is another in each try."""
    return pod_reasons.refused_pod(refused.reason, refused.message) if refused else None


def _no_node(stuck: Sequence[Body], trouble: Reason) -> Reason:
    labels = placement.kept_off(stuck[0])
    if not labels or "affinity" not in trouble.message:
        return trouble
    cause = f"workers without GPUs keep off nodes with GPUs, known by their labels ({', '.join(labels)})"
    remedy = "choose another nodePool, or ask the facility's admin for nodes without"
    return Reason(trouble.reason, f"{trouble.message.rstrip('.')}; {cause}: {remedy}")
