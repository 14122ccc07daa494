"""Workers that are pods of the session's own, whatever computes in them. Pure.

They are planned by name, made by a create, and removed by uid once the agent has retired them. Nobody but the kubelet
looks after them: it starts a container that ends again; a pod that has failed, was evicted, or whose node was lost is
replaced here. A component says what is in a pod, and gives its groups names that no other component gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, islice

from af_operator import names, ownership
from af_operator.api.pools import Pool
from af_operator.components._shared import pod_reasons, pod_spec, untrusted
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.model import POD, Body, Keep, Manifest, Session, age_of, label_of, ref_of
from af_operator.observed import Observed, Settled
from af_operator.render import render

MAKER = "the operator"
"""Who starts workers, in words for people."""
FAILED_PAUSE = timedelta(seconds=30)
"""How long from its creation a pod that a node would not even start keeps its place: made anew at once, it would fail
ever again. One that failed later than that is replaced at once."""


def groups(session: Session, component: str, observed: Settled) -> dict[str, WorkerGroup]:
    """Return the groups of workers of a component that there are, by name."""
    by_name: dict[str, list[Body]] = {}
    for pod in sorted(observed.pods(component), key=age_of):
        if is_worker(pod) and has_a_place(pod, observed) and ownership.of_session(session, pod, observed):
            by_name.setdefault(label_of(pod, names.WORKER_GROUP) or "", []).append(pod)
    return {name: _group(name, pods) for name, pods in by_name.items()}


def planned(
    session: Session, component: str, observed: Settled, resized: Resized, pod: Callable[[Pool], Body]
) -> Iterator[Manifest | Keep]:
    """Yield the workers of a group: those that stay, and those that are missing; `pod` is the spec of these."""
    to_delete = {body["metadata"]["uid"] for body in resized.to_delete}
    yield from (Keep(ref_of(w)) for w in resized.group.workers if w["metadata"]["uid"] not in to_delete)
    if resized.pool and resized.surplus < 0 and resized.group.name not in observed.refused:
        labels = _labels(session, component, resized.pool, resized.group.name)
        spec = pod(resized.pool)
        for name in islice(_free_names(resized.group.name, observed), -resized.surplus):
            worker = render(__package__, "worker", name=name, labels=labels, pod=spec)
            yield replace(worker, batch=resized.group.name)


def deadline(component: str, observed: Settled) -> datetime | None:
    """Return when a pod that failed at once is to be replaced."""
    failed = [pod for pod in observed.pods(component) if is_worker(pod) and _failed_at_once(pod)]
    return min((time + FAILED_PAUSE for pod in failed if (time := _created(pod))), default=None)


def is_worker(pod: Body) -> bool:
    """Return whether a pod is a worker of ours."""
    return label_of(pod, names.ROLE) == "worker"


def _group(name: str, pods: Sequence[Body]) -> WorkerGroup:
    labels, spec = pods[-1]["metadata"]["labels"], pods[-1].get("spec", {})
    return WorkerGroup(
        name,
        labels.get(names.POOL, ""),
        tuple(pods),
        tuple(pods),
        expected=len(pods),
        gpus=sum(pod_spec.gpus(spec).values()),
        node_pool=labels.get(names.NODE_POOL, ""),
        never_ran=frozenset(pod["metadata"]["name"] for pod in pods if pod_reasons.never_started(pod)),
    )


def has_a_place(pod: Body, observed: Settled) -> bool:
    """Return whether a pod has a worker's place: those that go, and those that are over, are replaced."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    if not _failed_at_once(pod):
        return not pod_reasons.is_over(pod)
    created = _created(pod)
    return created is not None and observed.now < created + FAILED_PAUSE


def _failed_at_once(pod: Body) -> bool:
    return pod_reasons.is_over(pod) and not pod["status"].get("containerStatuses")


def _labels(session: Session, component: str, pool: Pool, group: str) -> dict[str, str]:
    return names.labels(session, component, pool.name) | {
        names.ROLE: "worker",
        names.WORKER_GROUP: group,
        names.NODE_POOL: pool.node_pool,
    }


def _free_names(group: str, observed: Observed) -> Iterator[str]:
    taken = {pod["metadata"]["name"] for pod in observed.of(POD)}
    # By name, and by the same ones where a pass has to be made anew: an answer that was lost makes no second pod.
    tokens = (observed.token(f"worker {group} {number}")[:10] for number in count())
    return (name for token in tokens if (name := names.worker(group, token)) not in taken)


def _created(body: Body) -> datetime | None:
    return untrusted.time_of(body["metadata"].get("creationTimestamp"))
