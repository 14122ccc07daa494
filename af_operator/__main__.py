"""Composition root: settings -> ports -> handlers -> kopf. The only place that wires."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter as Count
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import kopf
import structlog
from kubernetes.aio import client as k8s
from kubernetes.aio import config as k8s_config
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric

from af_operator import handlers, serving, settings
from af_operator.catalogue import Catalogue
from af_operator.cluster import KubernetesCluster
from af_operator.errors import Unavailable
from af_operator.hub import Hub, JupyterHub, NoHub
from af_operator.lease import Lease
from af_operator.model import Key
from af_operator.queue import WorkQueue
from af_operator.reconcile import Reconciler
from af_operator.schedulers import AskedByHttp
from af_operator.worker import work
from af_operator.world import World

log = structlog.get_logger()
HUB_FIRST = 5.0
"""Seconds that the first pass waits for JupyterHub's first answer, at most."""
DEPTH = Gauge("af_operator_queue_depth", "Sessions and profiles that wait for a pass")


class SessionsByPhase:
    """``af_operator_sessions{phase}``, counted from the index at each scrape."""

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Metric]:
        """Yield the one family."""
        family = GaugeMetricFamily("af_operator_sessions", "Sessions by phase", labels=["phase"])
        bodies = (self._world.session_body(key) or {} for key in self._world.session_keys())
        for phase, number in Count(b.get("status", {}).get("phase", "Pending") for b in bodies).items():
            family.add_metric([phase], number)
        yield family


class Operator:
    """The process: kopf watches in any replica, passes run in the one that holds the Lease."""

    def __init__(self, config: settings.Settings, client: k8s.ApiClient) -> None:
        self._config = config
        self._queue = WorkQueue()
        self._fresh = handlers.Freshness()
        self._lease = Lease(client, config)
        self._cluster = KubernetesCluster(client, self._lease.fence)
        self._world: World | None = None
        self._synced = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        DEPTH.set_function(lambda: len(self._queue))

    async def run(self) -> int:
        """Run until a signal (0) or until the Lease or a task is lost (1)."""
        missing = await self._cluster.missing(handlers.watched_kinds())
        if missing:
            log.error("kinds are not installed: `kubectl apply --server-side -f` the chart's crds/", missing=missing)
            return 1
        runner = await serving.serve(self._config.port, alive=self._wrong, ready=self._not_ready)
        watch = asyncio.create_task(self._watch(), name="watch")
        lead = asyncio.create_task(self._lead(), name="lead")
        done, _ = await asyncio.wait({watch, lead}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*self._workers, lead):
            task.cancel()
        await asyncio.gather(*self._workers, lead, return_exceptions=True)
        await self._lease.release()
        await runner.cleanup()
        for task in done:
            task.result()
        return 0 if watch in done else 1

    async def _watch(self) -> None:
        options = kopf.OperatorSettings()
        handlers.configure(options, self._config)
        namespaces = self._config.watch_namespaces
        await kopf.operator(
            registry=handlers.Transport(self._queue, self._started, self._fresh).registry(),
            settings=options,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=list(namespaces),
        )

    async def _lead(self) -> None:
        await self._synced.wait()
        await self._lease.lead(self._start_workers)

    async def _start_workers(self) -> None:
        assert self._world is not None  # noqa: S101 - _synced is set after it
        self._schedulers = AskedByHttp(lambda ref: self._queue.add(Key(ref.namespace, ref.name)), _now)
        hub = await self._hub(self._world)
        sessions = Reconciler(self._world, self._cluster, hub, self._schedulers, _now)
        profiles = Catalogue(self._world, self._cluster, _now)

        async def reconcile(key: Key) -> datetime | None:
            return await (sessions(key) if key.namespace else profiles(key))

        self._workers += [asyncio.create_task(work(self._queue, reconcile, _now)) for _ in range(self._config.workers)]

    async def _hub(self, world: World) -> Hub:
        if not self._config.hub_api_url:
            return NoHub()

        def changed(users: frozenset[str] | None) -> None:
            for key in world.notebooks(users):
                self._queue.add(key)

        hub = JupyterHub(self._config, changed, world.runs)
        self._workers.append(asyncio.create_task(hub.run()))
        # Without a first view every session would be told that JupyterHub is away, and then that it is not.
        with suppress(TimeoutError):
            await asyncio.wait_for(hub.polled.wait(), HUB_FIRST)
        return hub

    def _started(self, world: World) -> None:
        self._world = world
        REGISTRY.register(SessionsByPhase(world))
        self._synced.set()

    def _wrong(self) -> str | None:
        ended = [t for t in self._workers if t.done()]
        return f"{len(ended)} tasks have ended" if ended else self._fresh.deaf()

    def _not_ready(self) -> str | None:
        # Events arrive only when all indexes are filled; the Lease has one every two seconds.
        filled = self._synced.is_set() and (self._fresh.seen or bool(self._config.watch_namespaces))
        return None if filled else "the indexes are not filled yet"


def _now() -> datetime:
    return datetime.now(UTC)


def _log_to_stderr(config: settings.Settings) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    last = structlog.processors.JSONRenderer() if config.log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        [*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(config.log_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=shared)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


async def main() -> int:
    """Run the operator; return the exit code."""
    config = settings.load()
    _log_to_stderr(config)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        k8s_config.load_incluster_config()
    else:
        await k8s_config.load_config()
    async with k8s.ApiClient() as client:
        try:
            return await Operator(config, client).run()
        except Unavailable as error:
            log.error("the API server cannot be reached", error=str(error))  # noqa: TRY400 - no trace says more
            return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
