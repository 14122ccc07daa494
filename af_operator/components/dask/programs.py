"""The programs of a Dask cluster, as containers: the same whichever engine makes their pods. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.api.profile import Size
from af_operator.components._shared import choices, placement, pod_spec, pools
from af_operator.components.dask import groups, secret
from af_operator.model import Body, Keep, Manifest, PodPatch, Profile, Session
from af_operator.observed import Observed
from af_operator.render import render

AGENT = "/af/agent"
MOUNT: Body = {"name": "agent", "mountPath": AGENT, "readOnly": True}
AGENT_FILE = "scheduler_agent.py"
GUARD_FILE = "af_guard.py"
"""In workers it stands beside modules of users: the name is none that they would give one."""
PORTS = {"scheduler_port": names.DASK_SCHEDULER_PORT, "dashboard_port": names.DASK_DASHBOARD_PORT}
"""For templates of the scheduler's Service."""
ROUTES = (
    "distributed.http.scheduler.prometheus",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.health",
    "distributed.http.proxy",
    "distributed.http.statics",
    # Not among Dask's defaults. The Dask operator would retire workers by it, where nobody asks for a token.
    "distributed.http.scheduler.api",
)
EARLIER_AGENTS = frozenset(
    {
        "c8beb802ce81a21fb69cb63e9df6ec0ad76b019bd39633d3560da3b88e8a5f12",
        "26d5699cc57076dd62e73a3ba7335f04419bf6f0526c6fb68616d9787ad1829f",
    }
)
"""SHA-256 of what earlier versions put into schedulers, all files by their names: not to be taken for an edit."""
WORKER_DASHBOARD_PORT = 8788
# The rest is for the nanny, and for memory that Python has given back and the kernel still counts.
MEMORY_PERCENT = 90
WORKER_SCRATCH = {"tmp": pod_spec.TMP}
"""Where workers spill to."""


def agent(session: Session, observed: Observed, *, begun: bool) -> Manifest | Keep:
    """Return the ConfigMap with the code of the agent and the guard, preloads of Dask's programs.

    A scheduler that was begun has read it already: the code of another version would only cost a write, and come into
    force where nobody expects it, when its container is started again. What somebody has edited is set right.
    """
    desired = render(__package__, "agent", name=names.dask_agent(session), files=_preloads())
    live = observed.get(desired.ref)
    return Keep(desired.ref) if begun and live and _is_earlier(live.get("data") or {}) else desired


def config(session: Session) -> dict[str, str]:
    """Return the session's configuration of Dask as variables, which Dask reads in every process.

    Between levels '__', and '_' for '-'.
    """
    asked = groups.spec(session).config
    return {f"DASK_{key.replace('.', '__').replace('-', '_').upper()}": value for key, value in asked.items()}


def scheduler_pod(session: Session, profile: Profile, observed: Observed) -> Body:
    """Return the pod of the scheduler."""
    asked, patch = groups.spec(session).scheduler, secret.patch(session, observed)
    place = placement.of(profile, asked.node_pool if asked else None)
    files = (GUARD_FILE, AGENT_FILE) if secret.is_encrypted(observed) else (AGENT_FILE,)
    container = _scheduler(session, profile, asked.size if asked else None, files)
    return pod_spec.pod([pod_spec.patched(container, patch)], [_volume(session), *patch.volumes], place)


def default_worker_pod(session: Session, profile: Profile) -> Body:
    """Return a pod for the default group of a DaskCluster, which has none."""
    args, resources = ["dask", "worker"], pod_spec.resources(choices.size(profile, None))
    container = pod_spec.container("worker", choices.image(session, profile), args=args, resources=resources)
    return pod_spec.pod([container], [], placement.of(profile, None))


def worker_patch(session: Session, observed: Observed) -> PodPatch:
    """Return what a worker has to come to its scheduler, and to let nobody else in."""
    address = PodPatch(env=tuple(pod_spec.env({secret.ADDRESS: secret.address(session, observed)})))
    if not secret.is_encrypted(observed):
        return address
    preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([f"{AGENT}/{GUARD_FILE}"])}
    guard = PodPatch(env=tuple(pod_spec.env(preload)), volumes=(_volume(session),), mounts=(MOUNT,))
    return address + secret.patch(session, observed) + guard


def worker_volumes(profile: Profile, pool: Pool, patch: PodPatch) -> list[Body]:
    """Return the volumes of a worker, with those that other components add."""
    return [*pod_spec.scratch(choices.size(profile, pool.size), WORKER_SCRATCH)[0], *patch.volumes]


def _scheduler(session: Session, profile: Profile, size: str | None, preloads: Iterable[str]) -> Body:
    settings = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": json.dumps(ROUTES)}
    return _run_by_entrypoint(
        "scheduler",
        choices.image(session, profile),
        [
            *("dask", "scheduler", "--host", "0.0.0.0", "--dashboard-address", f":{names.DASK_DASHBOARD_PORT}"),  # noqa: S104 -- a pod of its own
            *(arg for file in preloads for arg in ("--preload", f"{AGENT}/{file}")),
        ],
        volumeMounts=[MOUNT],
        env=pod_spec.env(config(session) | settings | pod_spec.variables(session)),
        ports=[_port("tcp-comm", names.DASK_SCHEDULER_PORT), _port("http-dashboard", names.DASK_DASHBOARD_PORT)],
        resources=pod_spec.resources(choices.size(profile, size)),
        # No liveness probe: a scheduler that is busy for long would be killed, and all results with it.
        readinessProbe=_health_probe(),
    )


DASK_WORKER = ("dask", "worker")
WORKER_MODULE = ("python", "-m", "distributed.cli.dask_worker")
"""The same program, a third of a second sooner: `dask` loads all commands first that packages of the image bring."""


def worker(
    session: Session, profile: Profile, pool: Pool, patch: PodPatch, program: tuple[str, ...] = DASK_WORKER
) -> dict[str, Any]:
    """Return the container of a worker, with what other components add to it.

    Its name in Dask is in its variable DASK_WORKER_NAME.
    """
    size = choices.size(profile, pool.size)
    container = _run_by_entrypoint(
        "worker",
        choices.image(session, profile),
        [*program, *_worker_args(size, pool)],
        env=pod_spec.env(config(session) | pod_spec.variables(session)),
        ports=[_port("http-dashboard", WORKER_DASHBOARD_PORT)],
        resources=pools.resources(pool, profile),
        readinessProbe=_health_probe(),
        volumeMounts=pod_spec.scratch(size, WORKER_SCRATCH)[1],
    )
    return pod_spec.patched(container, patch)


def _is_earlier(data: Mapping[str, str]) -> bool:
    text = "".join(str(data[name]) for name in sorted(data))
    return data.keys() <= _preloads().keys() and hashlib.sha256(text.encode()).hexdigest() in EARLIER_AGENTS


def _run_by_entrypoint(name: str, image: str, args: Iterable[str], **more: Any) -> Body:
    # No command: Dask's programs are arguments of the image's own entrypoint, by custom tini. As process 1 Python does
    # not hear SIGTERM until Dask has set its handlers: a worker that is deleted while it starts would take its 30 s of
    # grace.
    return pod_spec.container(name, image, args=list(args), **more)


def _volume(session: Session) -> Body:
    return {"name": "agent", "configMap": {"name": names.dask_agent(session)}}


@cache
def _preloads() -> dict[str, str]:
    return {name: (files(__package__) / name).read_text() for name in (AGENT_FILE, GUARD_FILE)}


def _worker_args(size: Size, pool: Pool) -> Iterator[str]:
    # By this name the worker that the agent has retired is found, and deleted.
    yield from ("--name", "$(DASK_WORKER_NAME)")
    yield from ("--nthreads", str(pools.threads(pool, size)))
    memory = pod_spec.parse_quantity(size.memory) * (pool.memory_percent or MEMORY_PERCENT) / 100
    yield from ("--memory-limit", str(int(memory)))
    yield from ("--dashboard-address", f":{WORKER_DASHBOARD_PORT}", "--local-directory", pod_spec.TMP)
    if pool.gpus_per_worker:
        yield from ("--resources", f"GPU={pool.gpus_per_worker}")


def _port(name: str, number: int) -> Body:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _health_probe() -> Body:
    return {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 1, "timeoutSeconds": 5}
