"""Dask: a DaskCluster whose default group is empty, and one DaskWorkerGroup per pool.

The objects are those of dask-kubernetes (2026.3), whose operator makes Deployments of them. It looks at
a DaskCluster once, when it is created, and at a group's ``replicas``; every other edit is lost on it. Its
``status.phase`` says Running before any pod runs, so readiness comes from the pods. How many workers there are, and
who may go, is in ``_dask_pools``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from af_operator import names
from af_operator.api.session import Dask, DaskPool
from af_operator.components import Item, _choices, _dask_pools, _placement, _pods
from af_operator.components._dask_health import health
from af_operator.components._dask_lost import CLUSTER, SERVICE, has_lost_its_scheduler
from af_operator.components._dask_pools import DEPLOYMENT, GROUP, question
from af_operator.components._defaults import deadline, finish, log_wanted, registration, report
from af_operator.errors import InvalidSession
from af_operator.model import (
    POD,
    Body,
    Discard,
    Keep,
    Kind,
    Manifest,
    ObjectRef,
    Observed,
    PodPatch,
    Profile,
    Session,
    ref_of,
)
from af_operator.render import render

__all__ = ["deadline", "finish", "health", "log_wanted", "question", "registration", "report"]

NAME = "dask"
TITLE = "Dask"
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
# Deployments of workers are made by the Dask operator, and deleted by us.
KINDS = (CLUSTER, GROUP, CONFIG_MAP, DEPLOYMENT)
WATCHED = (POD, SERVICE)
SHARED = ()
LIFETIME = "compute"

AGENT = "/af/agent"
AGENT_FILE = "scheduler_agent.py"
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


def desired(session: Session, profile: Profile, observed: Observed, patch: PodPatch) -> Sequence[Item]:
    """Return the cluster, its groups, and the workers that may go.

    A cluster and a group that live stay as they are (but for the number of workers) even when the profile
    has changed since: an edit of the catalogue stops no running session, and workers of one cluster stay alike.
    """
    ref = ObjectRef(CLUSTER.api_version, CLUSTER.kind, names.dask_cluster(session))
    live = observed.get(ref)
    # A cluster that has lost its scheduler is deleted with all that it has, and then made anew.
    if (live is None and _remains(observed)) or (live and has_lost_its_scheduler(live, observed)):
        return []
    agent = render(NAME, "agent", name=names.dask_agent(session), files={AGENT_FILE: _agent()})
    found: list[Item] = [agent, Keep(ref) if live else _cluster(session, profile)]
    for group in _dask_pools.groups(session, profile, observed):
        found += _group(session, profile, group, patch)
    return found


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
    if not pool.gpus_per_worker:
        _placement.check_without_gpus(where, nodes, profile)


def _over(profile: Profile, asked: str, allowed: str) -> InvalidSession:
    return InvalidSession("LimitExceeded", f"{asked} is over the limit of profile {profile.name!r}: {allowed}")


def _remains(observed: Observed) -> bool:
    # The Dask operator takes what has the right name for what it was about to make. Were a cluster created
    # while the garbage collector is still at work on the last one, it would end without a scheduler.
    left = (c for kind in (DEPLOYMENT, SERVICE, GROUP) for c in observed.of(kind))
    return any(c["metadata"].get("labels", {}).get(names.COMPONENT) == NAME for c in left)


def _cluster(session: Session, profile: Profile) -> Manifest:
    image = _choices.image(session, profile)
    return render(
        NAME,
        "cluster",
        name=names.dask_cluster(session),
        scheduler=_pods.pod([_scheduler(session, profile, image)], [_agent_volume(session)]),
        worker=_pods.pod([_pods.container("worker", image, [], args=["dask", "worker"])]),
    )


@cache
def _agent() -> str:
    return (files("af_operator") / "templates" / NAME / AGENT_FILE).read_text()


def _agent_volume(session: Session) -> Body:
    return {"name": "agent", "configMap": {"name": names.dask_agent(session)}}


def _scheduler(session: Session, profile: Profile, image: str) -> Body:
    settings = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": json.dumps(ROUTES)}
    return _pods.container(
        "scheduler",
        image,
        BY_ENTRYPOINT,
        args=[
            *("dask", "scheduler", "--host", "0.0.0.0", "--dashboard-address", ":8787"),  # noqa: S104 -- a pod of its own
            *("--preload", f"{AGENT}/{AGENT_FILE}"),
        ],
        volumeMounts=[{"name": "agent", "mountPath": AGENT, "readOnly": True}],
        env=_pods.env(settings) + _pods.user_env(session),
        ports=[_port("tcp-comm", 8786), _port("http-dashboard", 8787)],
        resources=_pods.resources(_choices.size(profile, None)),
        # No liveness probe: a scheduler that is busy for long would be killed, and all results with it.
        readinessProbe=_health_probe(),
    )


def _group(session: Session, profile: Profile, group: _dask_pools.Group, patch: PodPatch) -> Iterator[Item]:
    yield from map(Discard, group.going)
    if group.live is None:
        # As in _remains: workers of an earlier group of that name would be counted as this one's.
        if group.pool and not group.workers:
            yield _new_group(session, profile, group, patch)
        return
    if group.pool is None and not group.workers:
        return  # its last worker is gone: not planned any more, it goes too
    pod = _dask_pools.pod_of(group.live)
    if pod is None:  # somebody has removed it: it is made anew where the pool that it was for is still there
        yield Keep(ref_of(group.live)) if group.pool is None else _new_group(session, profile, group, patch)
        return
    number = group.replicas(_dask_pools.replicas_of(group.live))
    pool = group.pool.name if group.pool else group.live["metadata"]["labels"][names.POOL]
    yield _render_group(session, group, pool, number, pod)


def _new_group(session: Session, profile: Profile, group: _dask_pools.Group, patch: PodPatch) -> Manifest:
    pool = group.pool
    if pool is None:
        raise TypeError("a group that goes is not made")
    nodes = _choices.node_pool(profile, pool.node_pool)
    worker = _pods.patched(_worker(session, profile, pool), patch)
    # That CRD is of Kubernetes 1.21 and prunes what makes a sidecar native; in a Deployment it needs not be.
    affinity = {} if pool.gpus_per_worker else _placement.affinity_without_gpus(nodes, profile)
    pod = _pods.pod([worker, *patch.sidecars], patch.volumes, nodes, affinity)
    return _render_group(session, group, pool.name, group.target, pod)


def _render_group(
    session: Session, group: _dask_pools.Group, pool: str, replicas: int, pod: Mapping[str, Any]
) -> Manifest:
    return render(
        NAME,
        "group",
        name=group.name,
        labels={names.POOL: pool},
        # Without what it remembers, the Dask operator looks as at a new group: it makes what is missing, and no more.
        forget=group.missing,
        cluster=names.dask_cluster(session),
        replicas=replicas,
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
