"""The engine `DaskKubernetes`: a DaskCluster whose default group is empty, and one DaskWorkerGroup per pool.

The objects are those of dask-kubernetes (2026.3), for facilities that run its operator, which makes Deployments of
them. It looks at a DaskCluster once, when it is created, and at a group's ``replicas``; every other edit is lost on it.
Its ``status.phase`` says Running before any pod runs, so readiness comes from the pods. How many workers a group is
told of, and who may go, is in ``replicas``; the shape of both objects in ``templates/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from af_operator import names, ownership
from af_operator.api.pools import Pool
from af_operator.components._shared import placement, pod_reasons, pod_spec, untrusted
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components._shared.pools import Resized
from af_operator.components.dask import groups as dask_groups
from af_operator.components.dask import programs
from af_operator.components.dask.dask_kubernetes.replicas import (
    GROUP,
    GroupScale,
    groups,
    pod_of,
    replicas_of,
    scale_of,
)
from af_operator.model import (
    DEPLOYMENT,
    POD,
    SERVICE,
    Body,
    Discard,
    Keep,
    Kind,
    Loan,
    Manifest,
    ObjectRef,
    PodPatch,
    Profile,
    Session,
    grouped,
    label_of,
    ref_of,
)
from af_operator.observed import Children, Observed, Settled
from af_operator.render import render

__all__ = [
    "MAKER",
    "deadline",
    "desired",
    "groups",
    "has_lost_its_scheduler",
    "has_objects",
    "loans",
    "no_scheduler_pod",
    "refused",
]

MAKER = "the Dask operator"
CLUSTER = Kind("kubernetes.dask.org/v1", "DaskCluster", "daskclusters")
# Deployments of workers are made by the Dask operator, and deleted by us.
KINDS = (CLUSTER, GROUP, DEPLOYMENT)
REMEDY = "suspend and resume the session to have its Dask made anew"
DASK_COMPONENT = "dask.org/component"
"""Label of what the Dask operator makes."""
PENDING = timedelta(minutes=1)
"""After that a cluster that is called pending is not one that is being made."""


def has_objects(observed: Observed) -> bool:
    """Return whether the session has a DaskCluster, or what is left of one."""
    return bool(observed.of(CLUSTER) or _has_remains(observed))


def desired(
    session: Session, profile: Profile, observed: Settled, patch: PodPatch, resized: Sequence[Resized]
) -> Sequence[Manifest | Keep | Discard]:
    """Return the cluster, its groups, and the workers that may go.

    A cluster and a group that live stay as they are (but for the number of workers) even when the profile
    has changed since: an edit of the catalogue stops no running session, and workers of one cluster stay alike.
    """
    ref = CLUSTER.ref(names.dask_cluster(session))
    live = observed.get(ref)
    # A cluster that has lost its scheduler is deleted with all that it has, and then made anew. While it goes, which
    # its finalizer makes a matter of time, nothing is made that would go with it.
    if live and ("deletionTimestamp" in live["metadata"] or _has_lost_its_scheduler(live, observed)):
        return []
    if live is None and _names_are_taken(observed):
        return []
    items: list[Manifest | Keep | Discard] = [
        programs.agent(session, observed, begun=live is not None),
        Keep(ref) if live else _cluster(session, profile, observed),
    ]
    for group in resized:
        items += _group(session, profile, scale_of(group, observed), patch)
    return items


def refused(session: Session, pool: Pool, observed: Observed) -> Reason | None:
    """Return why workers of a pool have no pods, if the API server refuses them."""
    deployments = observed.once(_deployments_by_pool).get(pool.name, ())
    return next((reason for d in deployments if (reason := pod_reasons.deployment_refused(d))), None)


def no_scheduler_pod(session: Session, observed: Observed) -> Reason:
    """Return why the scheduler has no pod."""
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
    deployment = next(filter(_is_schedulers, observed.of(DEPLOYMENT)), None)
    if deployment is None:
        return Reason("SchedulerMissing", f"the scheduler's Deployment is missing; if this stays so, {REMEDY}")
    return pod_reasons.no_pod(deployment, "scheduler")


def has_lost_its_scheduler(session: Session, observed: Settled) -> bool:
    """Return whether a scheduler is gone for good: the Dask operator never looks for it again."""
    return any(_has_lost_its_scheduler(cluster, observed) for cluster in observed.of(CLUSTER))


def loans(session: Session, observed: Observed) -> Sequence[Loan]:
    """Return the Service of the scheduler: the Dask operator makes it, or takes any that has its name already."""
    ref = _service_ref(session)
    if observed.get(ref):
        return ()
    there = observed.read.get(ref)
    fits = there is None or ownership.of_family(session, there, observed)
    return [Loan(ref, fits, unread=ref not in observed.read)]


def deadline(observed: Settled) -> datetime | None:
    """Return when a scheduler that is not in sight counts as lost, where the DaskCluster's phase does not say so."""
    times = (_pending_until(cluster) for cluster in observed.of(CLUSTER) if not _has_scheduler(observed))
    return min((time for time in times if time and time > observed.now), default=None)


def _has_lost_its_scheduler(cluster: Body, observed: Settled) -> bool:
    # What is created after the scheduler must be in sight, so that a late event does not look like a loss.
    if not _was_made(cluster, observed.now) or "deletionTimestamp" in cluster["metadata"]:
        return False
    service = any(map(_is_schedulers, observed.of(SERVICE)))
    default = f"{cluster['metadata']['name']}-default"
    complete = service and any(g["metadata"]["name"] == default for g in observed.of(GROUP))
    return complete and not _has_scheduler(observed)


def _was_made(cluster: Body, now: datetime) -> bool:
    """Return whether the Dask operator has made all that it makes of a cluster.

    Two of its handlers write the phase, beside each other: Running may become Pending again, and stay so.
    """
    until = _pending_until(cluster)
    return cluster.get("status", {}).get("phase") == "Running" or (until is not None and now >= until)


def _pending_until(cluster: Body) -> datetime | None:
    if cluster.get("status", {}).get("phase") != "Pending":
        return None
    created = untrusted.time_of(cluster["metadata"].get("creationTimestamp"))
    return created and created + PENDING


def _has_scheduler(observed: Observed) -> bool:
    return any(_is_schedulers(body) for kind in (DEPLOYMENT, POD) for body in observed.of(kind))


def _is_schedulers(body: Body) -> bool:
    return label_of(body, DASK_COMPONENT) == "scheduler"


def _has_remains(observed: Observed) -> bool:
    # The Dask operator takes what has the right name for what it was about to make. Were a cluster created
    # while the garbage collector is still at work on the last one, it would end without a scheduler.
    by_dask_operator = (c for kind in (DEPLOYMENT, SERVICE) for c in observed.of(kind) if label_of(c, DASK_COMPONENT))
    return any(label_of(c, names.COMPONENT) == dask_groups.NAME for c in (*by_dask_operator, *observed.of(GROUP)))


def _names_are_taken(observed: Observed) -> bool:
    # Whoever made it: the other engine's scheduler has the same names.
    bodies = (body for kind in (DEPLOYMENT, SERVICE, GROUP) for body in observed.of(kind))
    return any(label_of(body, names.COMPONENT) == dask_groups.NAME for body in bodies)


def _service_ref(session: Session) -> ObjectRef:
    return SERVICE.ref(names.dask_scheduler(session))


def _deployments_by_pool(children: Children) -> dict[str | None, list[Body]]:
    deployments = (d for d in children.of(DEPLOYMENT) if label_of(d, names.COMPONENT) == dask_groups.NAME)
    return grouped(deployments, lambda deployment: label_of(deployment, names.POOL))


def _cluster(session: Session, profile: Profile, observed: Settled) -> Manifest:
    return render(
        __name__,
        "cluster",
        name=names.dask_cluster(session),
        scheduler=programs.scheduler_pod(session, profile, observed),
        # With labels that nobody else can set: anybody can put the Dask operator's on a pod.
        selector=names.selector(session, dask_groups.NAME) | {DASK_COMPONENT: "scheduler"},
        worker=programs.default_worker_pod(session, profile),
        **programs.PORTS,
    )


def _group(
    session: Session, profile: Profile, group: GroupScale, patch: PodPatch
) -> Iterator[Manifest | Keep | Discard]:
    yield from map(Discard, group.to_delete)
    if group.live is None:
        # As in _remains: workers of an earlier group of that name would be counted as this one's.
        if group.pool and not group.workers:
            yield _new_group(session, profile, group, patch)
        return
    if group.pool is None and not group.workers:
        return  # its last worker is gone: not planned any more, it goes too
    pod = pod_of(group.live)
    if pod is None:  # somebody has removed it: it is made anew where the pool that it was for is still there
        yield Keep(ref_of(group.live)) if group.pool is None else _new_group(session, profile, group, patch)
        return
    pool = group.pool.name if group.pool else group.live["metadata"]["labels"][names.POOL]
    yield _render_group(session, group, pool, group.replicas(replicas_of(group.live)), pod)


def _new_group(session: Session, profile: Profile, group: GroupScale, patch: PodPatch) -> Manifest:
    pool = group.pool
    if pool is None:
        raise TypeError("a group that goes is not made")
    place = placement.of(profile, pool.node_pool, pool.gpus_per_worker)
    worker = programs.worker(session, profile, pool, patch)
    # That CRD is of Kubernetes 1.21 and prunes what makes a sidecar native; in a Deployment it needs not be.
    pod = pod_spec.pod([worker, *patch.sidecars], programs.worker_volumes(profile, pool, patch), place)
    return _render_group(session, group, pool.name, group.resized.target, pod)


def _render_group(session: Session, group: GroupScale, pool: str, replicas: int, pod: Mapping[str, Any]) -> Manifest:
    return render(
        __name__,
        "group",
        name=group.resized.group.name,
        labels={names.POOL: pool},
        # Without what it remembers, the Dask operator looks as at a new group: it makes what is missing, and no more.
        forget=group.missing,
        cluster=names.dask_cluster(session),
        replicas=replicas,
        pod=pod,
    )
