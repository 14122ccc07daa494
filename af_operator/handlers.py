"""Events in, keys into the queue, nothing else.

kopf carries those of sessions and profiles. Only its ``on.event`` is used: every other decorator would put a finalizer
on each object (deletion then hangs without the operator) and keep its state in annotations that a tenant can forge, and
``index`` wakes, for each object at the start, every object that waits. All else is told of by the world's stores.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from af_kube.store import Change, key_of, version_of
from af_operator import names
from af_operator.capacity import Node, extended_of
from af_operator.model import POD, Body, Key, Kind
from af_operator.queue import WorkQueue
from af_operator.world import PROFILE, SESSION, World


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Let these look as if they were not installed."""
    modules_before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(dict.fromkeys(modules))  # type: ignore[arg-type]  # None: an import fails
    try:
        yield
    finally:
        for name, module in modules_before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


# kopf looks for the classes of clients that are installed: 90 MiB of models for a process that uses none.
with _without("kubernetes", "kubernetes_asyncio", "pykube"):
    import kopf

COALESCE = 0.05
"""Seconds in which the events of many children become one pass."""
ANEW_SECONDS = 2.0
ENDS = (signal.SIGINT, signal.SIGTERM)
FREE_AFTER = 1.0
"""Seconds in which the comings and goings of GPU workers become one count of what is free."""
log = structlog.get_logger()


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what kopf's defaults get wrong for us."""
    settings.posting.enabled = False  # each log line of a handler would be a POST
    settings.scanning.disabled = True  # the kinds are known at start; no rights on CRDs are needed
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    # Where nothing happens there is not even a bookmark: a watch that has died is noticed by what it does not tell of.
    settings.watching.inactivity_timeout = 330
    settings.watching.chunk_size = 100  # a session may have 256 KiB of source
    settings.queueing.idle_timeout = 0.1  # for so long the body of an event that was handled stays in memory
    settings.persistence.finalizer = f"{SESSION.api_version.partition('/')[0]}/never-used"
    # It would kill the process as well after kopf has ended by an error. One that hangs is the kubelet's to end.
    settings.process.ultimate_exiting_timeout = None


class Transport:
    """Events of one operator process."""

    def __init__(self, queue: WorkQueue, world: World) -> None:
        self._queue = queue
        self._world = world
        self._generations: dict[str, int] = {}
        self._counted: dict[Key, Node | None] = {}

    async def run(self, namespaces: Collection[str]) -> None:
        """Let kopf watch sessions and profiles until a signal; in all namespaces where none is named.

        kopf ends when a page of its list is too old, or the API server has failed for a minute: it begins anew. One
        that does so again and again falls behind what is known by name, and the process is no longer alive.
        """
        stop = asyncio.Event()
        while not stop.is_set():
            try:
                await self._kopf(namespaces, stop)
            except Exception as error:
                log.exception("kopf has ended", error=type(error).__name__, anew=not stop.is_set())
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), ANEW_SECONDS)

    async def _kopf(self, namespaces: Collection[str], stop: asyncio.Event) -> None:
        settings = kopf.OperatorSettings()
        configure(settings)
        tasks = await kopf.spawn_tasks(
            registry=self.registry(),
            settings=settings,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=list(namespaces),
            stop_flag=stop,
        )
        for number in ENDS:  # kopf's own handlers tell only the kopf that runs then, and not that it was a signal
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await _first_of(tasks)

    def registry(self) -> kopf.OperatorRegistry:
        """Return a registry with our event handlers."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.event(*_selector(SESSION), registry=registry)(self._on_session)
        kopf.on.event(*_selector(PROFILE), registry=registry)(self._on_profile)
        return registry

    def listen(self) -> None:
        """Hear of all other kinds from now on: before every list is there, each session will be looked at anyway."""
        world = self._world
        world.sessions.listen(self._on_session_gone)
        world.profiles.listen(self._on_profile_gone)
        world.nodes.listen(self._on_node)
        world.quotas.listen(self._on_quota)
        for store in world.children.values():
            store.listen(self._on_child)
        for store in world.shared.values():
            store.listen(self._on_shared)

    async def _on_session(self, *, event: Any, **_: Any) -> None:
        body = event["object"]
        if event["type"] == "DELETED":
            self._world.sessions.drop(key_of(body), body["metadata"]["uid"], version_of(body))
        elif self._world.learn_session(body):  # else it is the echo of a write of ours
            self._queue.add(key_of(body), later=event["type"] is None and _answered(body))

    async def _on_profile(self, *, event: Any, **_: Any) -> None:
        body = event["object"]
        if event["type"] == "DELETED":
            self._world.profiles.drop(key_of(body), body["metadata"]["uid"], version_of(body))
        elif self._world.profiles.put(body):
            self._profile_changed(body, later=event["type"] is None)

    def _profile_changed(self, body: Body, *, later: bool) -> None:
        name = body["metadata"]["name"]
        self._queue.add(Key("", name), later=later)
        # Its status is written often, and says nothing to its sessions; the generation counts changes of its spec.
        generation = body["metadata"].get("generation", 1)
        if self._generations.get(name) != generation:
            self._generations[name] = generation
            for key in self._world.sessions_of_profile(name):
                self._queue.add(key, later=later)

    def _on_session_gone(self, change: Change) -> None:
        if change.gone:
            self._queue.add(change.key)

    def _on_profile_gone(self, change: Change) -> None:
        if change.gone:
            self._generations.pop(change.key.name, None)
            for key in (change.key, *self._world.sessions_of_profile(change.key.name)):
                self._queue.add(key)

    def _on_node(self, change: Change) -> None:
        # Every few minutes a node tells that it lives: only what is counted deserves a pass.
        node = self._world.nodes.get(change.key)
        if self._counted.get(change.key) != node:
            self._counted[change.key] = node
            self._count_again()

    def _on_quota(self, change: Change) -> None:
        for key in self._world.sessions_without_room(change.key.namespace):
            self._queue.add(key, FREE_AFTER)

    def _count_again(self) -> None:
        for name in self._world.profile_names():
            self._queue.add(Key("", name), FREE_AFTER)

    def _on_child(self, change: Change) -> None:
        labels = change.body["metadata"].get("labels", {})
        key = self._world.key_of_uid(labels.get(names.SESSION_UID, ""))
        if key:
            self._queue.add(key, COALESCE)
        if change.body["kind"] == POD.kind and extended_of(change.body):
            self._count_again()

    def _on_shared(self, change: Change) -> None:
        label = change.body["metadata"].get("labels", {}).get(names.USER, "")
        for key in self._world.sessions_of_user(change.key.namespace, label):
            self._queue.add(key, COALESCE)


async def _first_of(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Run tasks until one ends, end the others, and raise what any of them failed of.

    ``kopf.run_tasks`` would also wait for, cancel, and raise the errors of all else that runs in the loop: a host name
    that an agent's question could not resolve made an operator forget the signal that had ended it.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _selector(kind: Kind) -> tuple[str, str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version, kind.plural


def _answered(session: Body) -> bool:
    """Return whether an operator has seen the session as it is: then it is only looked at again."""
    return bool(session.get("status", {}).get("observedGeneration") == session["metadata"].get("generation", 1))
