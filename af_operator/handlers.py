"""kopf as transport: events and indexes in, keys into the queue, nothing else.

Only ``on.event`` and ``index`` are used. Every other decorator would put a finalizer on each object
(deletion then hangs without the operator) and keep its state in annotations that a tenant can forge.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kopf

from af_operator import names
from af_operator.api import GROUP, VERSION
from af_operator.capacity import Node, extended_of, parse_node
from af_operator.components import all_components
from af_operator.model import POD, Key, Kind
from af_operator.queue import WorkQueue
from af_operator.settings import Settings
from af_operator.world import World, trim

COALESCE = 0.05
"""Seconds in which the events of many children become one pass."""
FREE_AFTER = 1.0
"""Seconds in which the comings and goings of GPU workers become one count of what is free."""
DEAF_AFTER = 90.0
SESSIONS = (GROUP, VERSION, "analysissessions")
PROFILES = (GROUP, VERSION, "analysisprofiles")
NODES = ("", "v1", "nodes")
LEASES = ("coordination.k8s.io", "v1", "leases")


def watched_kinds() -> list[Kind]:
    """Return every kind that must exist before the operator starts: a watch on an unknown kind is silently deaf."""
    own = [Kind(f"{group}/{version}", "", plural) for group, version, plural in (SESSIONS, PROFILES)]
    return [*own, *child_kinds(), *shared_kinds()]


class Freshness:
    """When a watch last delivered something that must come every few seconds: the renewals of our Lease."""

    def __init__(self) -> None:
        self._last: float | None = None

    def saw(self) -> None:
        """Note an event."""
        self._last = time.monotonic()

    @property
    def seen(self) -> bool:
        """Whether there was any event."""
        return self._last is not None

    def deaf(self) -> str | None:
        """Return what is wrong, or None; nothing is wrong before the first event."""
        if self._last is None or time.monotonic() - self._last < DEAF_AFTER:
            return None
        return f"no watch event of the operator's Lease for {time.monotonic() - self._last:.0f} s"


def configure(settings: kopf.OperatorSettings, operator: Settings) -> None:
    """Set what kopf's defaults get wrong for us."""
    settings.posting.enabled = False  # each log line of a handler would be a POST
    settings.scanning.disabled = True  # the kinds are known at start; no rights on CRDs are needed
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70  # a silent watch is opened again
    settings.watching.chunk_size = 500
    settings.persistence.finalizer = f"{GROUP}/never-used"
    settings.process.ultimate_exiting_timeout = 10
    for kind in child_kinds():
        settings.watching.label_selectors[_selector(kind)] = names.SESSION_UID
    for kind in shared_kinds():
        settings.watching.label_selectors[_selector(kind)] = names.USER
    settings.watching.field_selectors[LEASES] = f"metadata.name={operator.lease_name}"


def child_kinds() -> list[Kind]:
    """Return every kind that components create or look at, and pods."""
    return sorted({k for c in all_components() for k in (*c.KINDS, *c.WATCHED)} | {POD})


def shared_kinds() -> list[Kind]:
    """Return every kind of what components make for users, and not for one session."""
    return sorted({k for c in all_components() for k in c.SHARED})


class Transport:
    """Indexes and events of one operator process.

    Parameters
    ----------
    started
        Called with the world once kopf has its indexes; they are filled before any event arrives.
    """

    def __init__(self, queue: WorkQueue, started: Callable[[World], None], fresh: Freshness) -> None:
        self._queue = queue
        self._started = started
        self._fresh = fresh
        self._generations: dict[str, int] = {}
        self._counted: dict[str, Node] = {}

    def registry(self) -> kopf.OperatorRegistry:
        """Return a registry with our indexes and event handlers."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.startup(registry=registry)(self._start)
        kopf.index(*SESSIONS, id="sessions", registry=registry)(_by_key)
        kopf.index(*SESSIONS, id="uids", registry=registry)(_key_by_uid)
        kopf.index(*PROFILES, id="profiles", registry=registry)(_by_name)
        kopf.index(*NODES, id="nodes", registry=registry)(_node_by_name)
        kopf.on.event(*SESSIONS, registry=registry)(self._session)
        kopf.on.event(*PROFILES, registry=registry)(self._profile)
        kopf.on.event(*NODES, registry=registry)(self._node)
        kopf.on.event(*LEASES, registry=registry)(self._lease)
        for kind in child_kinds():
            kopf.index(*_selector(kind), id="children", registry=registry)(_by_session_uid)
            kopf.on.event(*_selector(kind), id=f"event-{kind.plural}", registry=registry)(self._child)
        for kind in shared_kinds():
            kopf.index(*_selector(kind), id="shared", registry=registry)(_by_user)
            kopf.on.event(*_selector(kind), id=f"event-{kind.plural}", registry=registry)(self._of_user)
        return registry

    async def _start(self, **indexes: Any) -> None:
        self._world = World(*(indexes[name] for name in ("sessions", "profiles", "children", "nodes", "shared")))
        self._keys = indexes["uids"]
        self._started(self._world)

    async def _session(self, *, event: Any, namespace: str | None, name: str, **_: Any) -> None:
        self._world.saw(event["type"], event["object"])
        self._queue.add(Key(str(namespace), name))

    async def _profile(self, *, event: Any, name: str, **_: Any) -> None:
        self._world.saw(event["type"], event["object"])
        self._queue.add(Key("", name))
        # Its status is written often, and says nothing to its sessions; the generation counts changes of its spec.
        generation = 0 if event["type"] == "DELETED" else event["object"]["metadata"].get("generation", 1)
        if self._generations.get(name) != generation:
            self._generations[name] = generation
            for key in self._world.sessions_of_profile(name):
                self._queue.add(key)

    async def _node(self, *, name: str, **_: Any) -> None:
        # Every few minutes a node tells that it lives: only what is counted deserves a pass.
        node = self._world.node(name)
        if node != self._counted.get(name):
            self._counted.pop(name) if node is None else self._counted.update({name: node})
            self._count_again()

    def _count_again(self) -> None:
        for name in self._world.profile_names():
            self._queue.add(Key("", name), FREE_AFTER)

    async def _lease(self, **_: Any) -> None:
        self._fresh.saw()

    async def _child(self, *, event: Any, labels: Any, **_: Any) -> None:
        self._world.saw(event["type"], event["object"])
        for key in self._keys.get(labels.get(names.SESSION_UID), ()):
            self._queue.add(key, COALESCE)
        if event["object"]["kind"] == POD.kind and extended_of(event["object"]):
            self._count_again()

    async def _of_user(self, *, event: Any, namespace: str | None, labels: Any, **_: Any) -> None:
        self._world.saw(event["type"], event["object"])
        for key in self._world.sessions_of_user(str(namespace), labels.get(names.USER, "")):
            self._queue.add(key, COALESCE)


async def _by_key(*, body: kopf.Body, namespace: str | None, name: str, **_: Any) -> dict[Key, Any]:
    return {Key(str(namespace), name): trim(dict(body))}


async def _key_by_uid(*, namespace: str | None, name: str, uid: str, **_: Any) -> dict[str, Key]:
    return {uid: Key(str(namespace), name)}


async def _by_name(*, body: kopf.Body, name: str, **_: Any) -> dict[str, Any]:
    return {name: trim(dict(body))}


async def _node_by_name(*, body: kopf.Body, name: str, **_: Any) -> dict[str, Node]:
    return {name: parse_node(body)}


async def _by_session_uid(*, body: kopf.Body, labels: Any, **_: Any) -> dict[str, Any]:
    return {labels[names.SESSION_UID]: trim(dict(body))}


async def _by_user(*, body: kopf.Body, namespace: str | None, labels: Any, **_: Any) -> dict[tuple[str, str], Any]:
    return {(str(namespace), labels[names.USER]): trim(dict(body))}


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _selector(kind: Kind) -> tuple[str, str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version, kind.plural
