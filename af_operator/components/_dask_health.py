"""Whether a session's Dask is ready, and if not, the real reason: from pods and Deployments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from af_operator import names
from af_operator.api.session import DaskPool
from af_operator.components import _placement, _pod_reasons
from af_operator.components._dask_lost import CLUSTER, is_scheduler, lost
from af_operator.components._dask_pools import DEPLOYMENT, gpus_of, group_name, size
from af_operator.components._pod_reasons import STARTING, Reason
from af_operator.model import Body, Children, Health, Observed, Session, grouped, label_of, pods_by_name
from af_operator.views import SchedulerView

AGAIN = "suspend and resume the session to have its Dask made anew"
SILENT = "SchedulerSilent"
BUSY = f"it may be busy with a long step of its own; if it hangs, {AGAIN}, which loses its results"


def health(session: Session, observed: Observed) -> Health:
    """Return ready when the scheduler is, and every pool has its minimum of workers."""
    pods = observed.pods(component="dask")
    pools = session.spec.dask.pools if session.spec.dask else []
    counts = {pool.name: _ready(observed, pool) for pool in pools}
    sizes = {pool.name: size(pool, group_name(session, pool), observed) for pool in pools}
    details = {"pools": {p.name: {"ready": counts[p.name], "desired": sizes[p.name]} for p in pools}}
    more = lost(session, observed)
    found = (_scheduler_trouble(session, observed, pods), *(_pool_trouble(observed, p) for p in pools))
    behind = [each for each in found if each]
    if behind:
        # Real trouble before mere waiting.
        trouble = next((each for each in behind if each.reason != STARTING), behind[0])
        return Health(False, trouble.reason, trouble.message, details=details, more=more)
    endpoints = {"dask": names.dask_scheduler_address(session), "dashboard": names.dask_dashboard_url(session)}
    said = "; ".join([*_summary(observed, pools, sizes), *_going(observed)])
    return Health(True, "Ready", said, endpoints, details, more)


def _ready(observed: Observed, pool: DaskPool) -> int:
    return observed.once(_ready_by_pool).get(pool.name, 0)


def _ready_by_pool(children: Children) -> dict[str | None, int]:
    return {pool: sum(map(_pod_reasons.is_ready, pods)) for pool, pods in children.once(_pods_by_pool).items()}


def _pods_by_pool(children: Children) -> dict[str | None, list[Body]]:
    return grouped(_of_dask(children.once(pods_by_name)), _pool_of)


def _deployments_by_pool(children: Children) -> dict[str | None, list[Body]]:
    return grouped(_of_dask(children.of(DEPLOYMENT)), _pool_of)


def _of_dask(bodies: Iterable[Body]) -> Iterator[Body]:
    return (body for body in bodies if label_of(body, names.COMPONENT) == "dask")


def _pool_of(body: Body) -> str | None:
    return label_of(body, names.POOL)


def _scheduler_trouble(session: Session, observed: Observed, pods: Sequence[Body]) -> Reason | None:
    mine = [pod for pod in pods if is_scheduler(pod)]
    if any(_pod_reasons.is_ready(pod) for pod in mine):
        return None
    return _not_ready(observed, mine) if mine else _no_scheduler_pod(session, observed)


def _not_ready(observed: Observed, pods: Sequence[Body]) -> Reason:
    trouble, since = _pod_reasons.worst(pods), _pod_reasons.silent_since(pods[-1])
    if since and not trouble:
        return Reason(SILENT, _silence(observed.scheduler, since))
    reason, message = trouble or _pod_reasons.why(pods[-1])
    return Reason(reason, f"scheduler: {message}")


def _no_scheduler_pod(session: Session, observed: Observed) -> Reason:
    name = names.dask_cluster(session)
    cluster = next(iter(observed.of(CLUSTER)), None)
    if cluster is None:
        return Reason(STARTING, "the DaskCluster is not there yet")
    phase = cluster.get("status", {}).get("phase")
    if phase is None:
        hint = "if this stays so, the Dask operator is not running: ask the facility's admin"
        return Reason("SchedulerMissing", f"the Dask operator has not taken up DaskCluster {name}; {hint}")
    if phase == "Error":
        return Reason("DaskClusterError", f"the Dask operator refuses DaskCluster {name}: its log says why")
    deployment = next((d for d in _of_dask(observed.of(DEPLOYMENT)) if is_scheduler(d)), None)
    if deployment is None:
        return Reason("SchedulerMissing", f"the scheduler's Deployment is missing; if this stays so, {AGAIN}")
    refused = _pod_reasons.deployment_refused(deployment)
    return (
        Reason(refused.reason, f"scheduler: {refused.message}")
        if refused
        else Reason(STARTING, "scheduler: no pod yet")
    )


def _pool_trouble(observed: Observed, pool: DaskPool) -> Reason | None:
    """Return what keeps a pool below its minimum."""
    ready = _ready(observed, pool)
    if ready >= pool.workers.min:
        return None
    count = f"pool {pool.name}: {ready} of at least {pool.workers.min} workers ready"
    deployments = observed.once(_deployments_by_pool).get(pool.name, ())
    trouble = _worst(observed, pool)
    if trouble:
        return Reason(trouble.reason, f"{count}: {trouble.message}")
    if len(deployments) < pool.workers.min:
        return Reason(STARTING, f"{count}; {len(deployments)} started, the others are to come from the Dask operator")
    return Reason(STARTING, count)


def _worst(observed: Observed, pool: DaskPool) -> Reason | None:
    """Return the first real trouble of a pool's workers; where no node takes them, with what they ask of one."""
    mine = observed.once(_pods_by_pool).get(pool.name, ())
    trouble = _pod_reasons.worst(mine)
    if not trouble:
        deployments = observed.once(_deployments_by_pool).get(pool.name, ())
        refusals = (_pod_reasons.deployment_refused(d) for d in deployments)
        return next((r for r in refusals if r), None)
    if trouble.reason != "Unschedulable":
        return trouble
    stuck = [pod for pod in mine if _pod_reasons.why(pod).reason == "Unschedulable"]
    return _no_gpu(observed, stuck, pool, trouble) if pool.gpus_per_worker else _no_node(stuck, trouble)


def _no_gpu(observed: Observed, stuck: Sequence[Body], pool: DaskPool, trouble: Reason) -> Reason:
    resource = next(iter(gpus_of(stuck[0].get("spec", {}))), "GPU")
    free = observed.gpus_free.get(pool.node_pool)
    there = "" if free is None else f", {free} free"
    asked = f"asks for {len(stuck) * pool.gpus_per_worker} more {resource}{there}"
    return Reason(trouble.reason, f"{asked}: {trouble.message}")


def _no_node(stuck: Sequence[Body], trouble: Reason) -> Reason:
    labels = _placement.kept_off(stuck[0])
    if not labels or "affinity" not in trouble.message:
        return trouble
    why = f"workers without GPUs keep off nodes with GPUs, known by their labels ({', '.join(labels)})"
    hint = "choose another nodePool, or ask the facility's admin for nodes without"
    return Reason(trouble.reason, f"{trouble.message.rstrip('.')}; {why}: {hint}")


def _summary(observed: Observed, pools: Sequence[DaskPool], sizes: Mapping[str, int]) -> Iterator[str]:
    for pool in pools:
        ready = _ready(observed, pool)
        trouble = _worst(observed, pool) if ready < sizes[pool.name] else None
        yield f"pool {pool.name}: {ready} of {sizes[pool.name]} workers" + (f" ({trouble.message})" if trouble else "")


def _going(observed: Observed) -> Iterator[str]:
    """Say what keeps workers that are to go."""
    view = observed.scheduler
    if view is None:
        return
    if view.silent_since:
        yield _silence(view, view.silent_since)
        return
    retiring, stuck = (sum(len(getattr(g, f)) for g in view.groups.values()) for f in ("retiring", "stuck"))
    if retiring:
        yield f"workers that finish their tasks and copy their results away before they go: {retiring}"
    if stuck:
        yield f"workers that stay because no other worker can take their results: {stuck}"


def _silence(view: SchedulerView | None, since: datetime) -> str:
    """Say what comes of a scheduler's silence, and when."""
    if not view or not view.silent_since or not view.deadline:  # nothing is asked of it: no pool could shrink
        return f"the scheduler does not answer since {_clock(since)}: {BUSY}"
    asked = f"the scheduler does not answer since {_clock(view.silent_since)} ({view.trouble})"
    if view.given_up:
        then = f"since {_clock(view.deadline)} workers go without its word"
    else:
        then = f"no worker is removed until it does; from {_clock(view.deadline)} on workers go without its word"
    return f"{asked}: {then}, and with results that they alone have; {BUSY}"


def _clock(time: datetime) -> str:
    return f"{time:%H:%M:%S} UTC"
