"""Composition root: settings -> ports -> handlers -> kopf. The only place that wires."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric

from af_kube.connection import Connection
from af_kube.errors import NoCredentials
from af_operator import handlers, serving, settings
from af_operator.agents import AskedByHttp
from af_operator.cluster import KubernetesCluster
from af_operator.components import Components, shipped
from af_operator.enforcement import Enforcement
from af_operator.errors import Unavailable
from af_operator.hub import Hub, JupyterHub, NoHub
from af_operator.lease import Lease
from af_operator.model import Key
from af_operator.orphans import Sweep
from af_operator.passes import Passes, work
from af_operator.profiles import ProfilePass
from af_operator.queue import WorkQueue
from af_operator.reconcile import Ports, Reconciler
from af_operator.watches import Watches
from af_operator.world import World

log = structlog.get_logger()
HUB_FIRST = 5.0
"""Seconds that the first pass waits for JupyterHub's first answer, at most."""
AWAY_SECONDS = 2.0
"""Between two looks whether the API server is there, before anything else can begin."""
DEPTH = Gauge("af_operator_queue_depth", "Sessions and profiles that wait for a pass")


class SessionsByPhase:
    """``af_operator_sessions{phase}``; the world counts as things change."""

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Metric]:
        """Yield the one family."""
        family = GaugeMetricFamily("af_operator_sessions", "Sessions by phase", labels=["phase"])
        for phase, number in self._world.phases().items():
            family.add_metric([phase], number)
        yield family


class EitherPass:
    """Passes over sessions, and over profiles, whose keys have no namespace."""

    def __init__(self, sessions: Passes, profiles: Passes) -> None:
        self._sessions, self._profiles = sessions, profiles

    async def __call__(self, key: Key) -> datetime | None:
        """See ``Passes``."""
        return await self._of(key)(key)

    async def tell_broken(self, key: Key, error: Exception) -> None:
        """See ``Passes``."""
        await self._of(key).tell_broken(key, error)

    def _of(self, key: Key) -> Passes:
        return self._sessions if key.namespace else self._profiles


class Operator:
    """The process: any replica watches, passes run in the one that holds the Lease."""

    def __init__(self, config: settings.Settings, api: Connection, components: Components) -> None:
        self._config = config
        self._components = components
        self._queue = WorkQueue()
        self._world = World(components, config.network)
        self._watches = Watches(api, self._world, config.watch_namespaces)
        self._lease = Lease(api, config)
        self._cluster = KubernetesCluster(api, self._world.kinds, self._lease.fence)
        self._enforcement = Enforcement(api, config.namespace, self._look_at_profiles)
        self._transport = handlers.Transport(self._queue, self._world)
        self._tasks: list[asyncio.Task[None]] = []
        self._reachable = False
        DEPTH.set_function(lambda: len(self._queue))
        REGISTRY.register(SessionsByPhase(self._world))

    async def run(self) -> int:
        """Run until a signal (0) or until the Lease or a task is lost (1)."""
        runner = await serving.serve(self._config.port, alive=self._not_alive, ready=self._not_ready)
        try:
            return await self._run()
        finally:
            await runner.cleanup()

    async def _run(self) -> int:
        missing = await self._missing_kinds()
        if missing:
            log.error("kinds are not installed: `kubectl apply --server-side -f` the chart's crds/", missing=missing)
            return 1
        self._watches.start()
        watch = asyncio.create_task(self._transport.run(self._config.watch_namespaces), name="watch")
        lead = asyncio.create_task(self._lead(), name="lead")
        done, _ = await asyncio.wait({watch, lead}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*self._tasks, lead, watch):
            task.cancel()
        await asyncio.gather(*self._tasks, lead, watch, return_exceptions=True)
        await self._watches.close()
        await self._lease.release()
        for task in done:
            task.result()
        return 0 if watch in done else 1

    async def _missing_kinds(self) -> list[str]:
        # An operator that ended here would be started again ever later by the kubelet, and miss the server's return.
        last_error = ""
        while True:
            try:
                missing = await self._cluster.missing(self._world.kinds)
            except Unavailable as error:
                if str(error) != last_error:
                    log.warning("the API server is not there yet", error=str(error))
                last_error = str(error)
                await asyncio.sleep(AWAY_SECONDS)
            else:
                self._reachable = True
                return missing

    async def _lead(self) -> None:
        await self._watches.filled()
        log.info("every list is there", sessions=len(self._world.sessions))
        self._transport.listen()
        await self._lease.lead(self._start_passes)

    async def _start_passes(self) -> None:
        agents = AskedByHttp(lambda ref: self._queue.add(Key(ref.namespace, ref.name)), _now)
        ports = Ports(self._cluster, await self._hub(), agents)
        sessions = Reconciler(self._components, self._world, ports, _now)
        sweep = Sweep(self._world, self._cluster, _now, timedelta(seconds=self._config.orphan_seconds))
        self._tasks.append(asyncio.create_task(sweep.run(), name="sweep"))
        await (
            self._enforcement.look()
        )  # before the first passes: else each would tell of profiles that nothing is known
        self._tasks.append(asyncio.create_task(self._enforcement.run(), name="enforcement"))
        profiles = ProfilePass(self._world, self._cluster, lambda: self._enforcement.finding, _now)
        passes = EitherPass(sessions, profiles)
        self._tasks += [asyncio.create_task(work(self._queue, passes, _now)) for _ in range(self._config.workers)]

    def _look_at_profiles(self) -> None:
        for name in self._world.profile_names():
            self._queue.add(Key("", name))

    async def _hub(self) -> Hub:
        if not self._config.hub_api_url:
            return NoHub()

        def changed(users: frozenset[str] | None) -> None:
            for key in self._world.notebooks(users):
                self._queue.add(key)

        hub = JupyterHub(self._config, changed, self._world.runs)
        self._tasks.append(asyncio.create_task(hub.run()))
        # Without a first view every session would be told that JupyterHub is away, and then that it is not.
        with suppress(TimeoutError):
            await asyncio.wait_for(hub.polled.wait(), HUB_FIRST)
        return hub

    def _not_alive(self) -> str | None:
        ended = [t for t in self._tasks if t.done()]
        return f"{len(ended)} tasks have ended" if ended else self._watches.deaf()

    def _not_ready(self) -> str | None:
        if not self._reachable:
            return "the API server was not reached yet"
        return self._watches.missing() or self._watches.lost()


def _now() -> datetime:
    return datetime.now(UTC)


def _log_to_stderr(config: settings.Settings) -> None:
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer() if config.log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        [*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(config.log_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=processors)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


async def main() -> int:
    """Run the operator; return the exit code."""
    config = settings.load()
    _log_to_stderr(config)
    api = Connection()
    try:
        return await Operator(config, api, shipped()).run()
    except NoCredentials as error:
        log.error("there is no API server to serve", error=str(error))  # noqa: TRY400 - no trace says more
        return 1
    finally:
        await api.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
