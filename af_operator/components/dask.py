"""Dask: a DaskCluster whose default group is empty, and one DaskWorkerGroup per pool.

The objects are those of dask-kubernetes (2026.3), whose operator makes Deployments of them. It looks at
a DaskCluster once, when it is created, and at a group's ``replicas``; every other edit is lost on it. Its
``status.phase`` says Running before any pod runs, so readiness comes from the pods.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from af_operator import names
from af_operator.api.session import Dask, DaskPool
from af_operator.components import _choices, _pods
from af_operator.components._dask_health import health, is_scheduler
from af_operator.components._defaults import deadline, finish, log_wanted, registration, report
from af_operator.errors import InvalidSession
from af_operator.model import (
    POD,
    Body,
    Keep,
    Kind,
    Manifest,
    ObjectRef,
    Observed,
    PodPatch,
    Profile,
    Session,
)
from af_operator.render import render

__all__ = ["deadline", "finish", "health", "log_wanted", "registration", "report"]

NAME = "dask"
TITLE = "Dask"
CLUSTER = Kind("kubernetes.dask.org/v1", "DaskCluster", "daskclusters")
GROUP = Kind("kubernetes.dask.org/v1", "DaskWorkerGroup", "daskworkergroups")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
KINDS = (CLUSTER, GROUP)
WATCHED = (POD, DEPLOYMENT, SERVICE)
SHARED = ()
LIFETIME = "compute"

WORKER_GROUP = "dask.org/workergroup-name"
ROUTES = (
    "distributed.http.scheduler.prometheus",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.health",
    "distributed.http.proxy",
    "distributed.http.statics",
    # Not among Dask's defaults, and the Dask operator retires workers through it.
    "distributed.http.scheduler.api",
)
# The rest is for the nanny, and for memory that Python has given back and the kernel still counts.
MEMORY_SHARE = 0.9
# Dask's programs are arguments of the image's own entrypoint, by custom tini: as process 1 Python does not hear SIGTERM
# until Dask has set its handlers, and a worker that is deleted while it starts would take its 30 s of grace.
BY_ENTRYPOINT: tuple[str, ...] = ()


def enabled(session: Session) -> bool:
    """Return whether the session asks for Dask."""
    return session.spec.dask is not None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when a pool does not fit the profile."""
    pools, limits = _spec(session).pools, profile.spec.limits
    for pool in pools:
        _check_pool(pool, profile)
    workers = sum(pool.workers.max for pool in pools)
    if workers > limits.workers:
        raise _over(profile, f"{workers} workers over all pools", f"workers.max may add up to {limits.workers}")
    gpus = sum(pool.workers.max * pool.gpus_per_worker for pool in pools)
    if gpus > limits.gpus:
        raise _over(profile, f"{gpus} GPUs over all pools", f"workers.max x gpusPerWorker may add up to {limits.gpus}")


def pod_patch(session: Session, profile: Profile) -> PodPatch:
    """Return the address that `Client()` without arguments connects to."""
    address = names.dask_scheduler_address(session)
    return PodPatch(env=tuple(_pods.env({"DASK_SCHEDULER_ADDRESS": address})))


def desired(session: Session, profile: Profile, observed: Observed, patch: PodPatch) -> Sequence[Manifest | Keep]:
    """Return the cluster and its groups.

    A cluster and a group that live stay as they are (but for the number of workers) even when the profile
    has changed since: an edit of the catalogue stops no running session, and workers of one cluster stay alike.
    """
    ref = ObjectRef(CLUSTER.api_version, CLUSTER.kind, names.dask_cluster(session))
    live = observed.get(ref)
    if (live is None and _remains(observed)) or (live and _has_lost_its_scheduler(live, observed)):
        return []
    cluster = Keep(ref) if live else _cluster(session, profile)
    groups = (_group(session, profile, observed, pool, patch) for pool in _spec(session).pools)
    return [cluster, *(group for group in groups if group)]


def _spec(session: Session) -> Dask:
    if session.spec.dask is None:
        raise TypeError("this session has no Dask")
    return session.spec.dask


def _check_pool(pool: DaskPool, profile: Profile) -> None:
    where = f"dask pool {pool.name!r}"
    nodes = _choices.node_pool(profile, pool.node_pool)
    _choices.size(profile, pool.size)
    if nodes.max_workers is not None and pool.workers.max > nodes.max_workers:
        raise _over(profile, f"{where}: {pool.workers.max} workers", f"{nodes.name} gives at most {nodes.max_workers}")
    if pool.gpus_per_worker and not nodes.gpu_resource:
        raise InvalidSession(
            "NoGPUs", f"{where}: node pool {nodes.name!r} has no GPUs: set gpusPerWorker: 0 or choose another nodePool"
        )


def _over(profile: Profile, asked: str, allowed: str) -> InvalidSession:
    return InvalidSession("LimitExceeded", f"{asked} is over the limit of profile {profile.name!r}: {allowed}")


def _remains(observed: Observed) -> bool:
    # The Dask operator takes what has the right name for what it was about to make. Were a cluster created
    # while the garbage collector is still at work on the last one, it would end without a scheduler.
    left = (c for kind in (DEPLOYMENT, SERVICE, GROUP) for c in observed.of(kind))
    return any(c["metadata"].get("labels", {}).get(names.COMPONENT) == NAME for c in left)


def _has_lost_its_scheduler(cluster: Body, observed: Observed) -> bool:
    # The Dask operator never looks for it again: the cluster is deleted with all that it has, and then made
    # anew. What is created after the scheduler must be in sight, so that a late event does not look like a loss.
    if cluster.get("status", {}).get("phase") != "Running" or "deletionTimestamp" in cluster["metadata"]:
        return False
    service = any(c["metadata"].get("labels", {}).get(names.COMPONENT) == NAME for c in observed.of(SERVICE))
    default = f"{cluster['metadata']['name']}-default"
    seen = service and any(g["metadata"]["name"] == default for g in observed.of(GROUP))
    schedulers = (c for kind in (DEPLOYMENT, POD) for c in observed.of(kind) if is_scheduler(c))
    return seen and next(schedulers, None) is None


def _cluster(session: Session, profile: Profile) -> Manifest:
    image = _choices.image(session, profile)
    return render(
        NAME,
        "cluster",
        name=names.dask_cluster(session),
        scheduler=_pods.pod([_scheduler(session, profile, image)]),
        worker=_pods.pod([_pods.container("worker", image, [], args=["dask", "worker"])]),
    )


def _scheduler(session: Session, profile: Profile, image: str) -> Body:
    settings = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": json.dumps(ROUTES)}
    return _pods.container(
        "scheduler",
        image,
        BY_ENTRYPOINT,
        args=["dask", "scheduler", "--host", "0.0.0.0", "--dashboard-address", ":8787"],  # noqa: S104 -- a pod of its own
        env=_pods.env(settings) + _pods.user_env(session),
        ports=[_port("tcp-comm", 8786), _port("http-dashboard", 8787)],
        resources=_pods.resources(_choices.size(profile, None)),
        # No liveness probe: a scheduler that is busy for long would be killed, and all results with it.
        readinessProbe=_health_probe(),
    )


def _group(
    session: Session, profile: Profile, observed: Observed, pool: DaskPool, patch: PodPatch
) -> Manifest | Keep | None:
    """Return the pool's group; None while another one must go first."""
    shape = _pods.digest([pool.node_pool, pool.size, pool.gpus_per_worker])
    name = names.dask_group(session, pool.name, shape)
    live = observed.get(ObjectRef(GROUP.api_version, GROUP.kind, name))
    if live is None:
        # As in _remains: workers of an earlier group of that name would be counted as this one's.
        return None if _workers_of(name, observed) else _new_group(session, profile, name, pool, patch)
    if not _may_scale(live, pool, observed):
        return None
    return _render_group(session, name, pool, live["spec"]["worker"]["spec"])


def _workers_of(group: str, observed: Observed) -> list[Body]:
    return [d for d in observed.of(DEPLOYMENT) if d["metadata"].get("labels", {}).get(WORKER_GROUP) == group]


def _may_scale(live: Body, pool: DaskPool, observed: Observed) -> bool:
    # The Dask operator asks the scheduler for any n workers to retire, whatever group they are of. So with
    # several groups a lower number would take workers from the wrong one: the group is made anew instead.
    others = [g for g in observed.of(GROUP) if names.POOL in g["metadata"].get("labels", {}) and g is not live]
    return pool.workers.max >= live["spec"]["worker"]["replicas"] or not others


def _new_group(session: Session, profile: Profile, name: str, pool: DaskPool, patch: PodPatch) -> Manifest:
    nodes = _choices.node_pool(profile, pool.node_pool)
    worker = _pods.patched(_worker(session, profile, pool), patch)
    # That CRD is of Kubernetes 1.21 and prunes what makes a sidecar native; in a Deployment it needs not be.
    pod = _pods.pod([worker, *patch.sidecars], patch.volumes, nodes)
    return _render_group(session, name, pool, pod)


def _render_group(session: Session, name: str, pool: DaskPool, pod: Mapping[str, Any]) -> Manifest:
    return render(
        NAME,
        "group",
        name=name,
        labels={names.POOL: pool.name},
        cluster=names.dask_cluster(session),
        replicas=pool.workers.max,
        pod=pod,
    )


def _worker(session: Session, profile: Profile, pool: DaskPool) -> Body:
    size, nodes = _choices.size(profile, pool.size), _choices.node_pool(profile, pool.node_pool)
    gpus = {nodes.gpu_resource: pool.gpus_per_worker} if nodes.gpu_resource and pool.gpus_per_worker else {}
    return _pods.container(
        "worker",
        _choices.image(session, profile),
        BY_ENTRYPOINT,
        args=list(_worker_args(size.cpu, size.memory, pool.gpus_per_worker)),
        env=_pods.user_env(session),
        ports=[_port("http-dashboard", 8788)],
        resources=_pods.resources(size, gpus),
        readinessProbe=_health_probe(),
    )


def _worker_args(cpu: str, memory: str, gpus: int) -> Iterator[str]:
    # The name is how the Dask operator finds the Deployment of a worker that it retires.
    yield from ("dask", "worker", "--name", "$(DASK_WORKER_NAME)")
    yield from ("--nthreads", str(math.ceil(_pods.parse_quantity(cpu))))
    yield from ("--memory-limit", str(int(float(_pods.parse_quantity(memory)) * MEMORY_SHARE)))
    yield from ("--dashboard-address", ":8788", "--local-directory", "/tmp")  # noqa: S108 -- the pod's own
    if gpus:
        yield from ("--resources", f"GPU={gpus}")


def _port(name: str, number: int) -> Body:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _health_probe() -> Body:
    return {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 1, "timeoutSeconds": 5}
