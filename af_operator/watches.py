"""The watches that fill the world's stores, and when these can be relied on.

kopf brings the bodies of sessions and profiles, and everything else is listed and watched here. Of those two kinds the
names alone are watched here as well, since kopf says neither when a list is over nor what went in a gap of its watch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any

from af_kube.connection import Transport
from af_kube.reflector import AT_ONCE, Reflector, Source
from af_kube.request import api_path
from af_kube.store import Change, Key, Store
from af_operator import names
from af_operator.model import Kind
from af_operator.world import NODE, PROFILE, QUOTA, SESSION, World

LOST_SECONDS = 30.0
"""For so long a world that is not kept up to date is one to act on; events are late by seconds on a busy day, too."""
DEAF_SECONDS = 120.0
"""For so long kopf may be behind what is known by name."""

FOREVER = 2**63
"""After every version: what kopf tells late of a session that has gone brings it back no more."""


class Witness:
    """Knows by name what kopf has to tell of in full.

    Parameters
    ----------
    store
        The store that kopf's events fill.
    """

    def __init__(self, store: Store[Any]) -> None:
        self.names: Store[None] = Store(lambda _: None)
        self._store = store
        self._awaited: dict[Key, float] = {}
        self.names.listen(self._on_name)
        store.listen(self._on_body)

    @property
    def awaited(self) -> list[Key]:
        """What kopf has not told of yet, or not of its newest version; what is awaited longest comes first."""
        return list(self._awaited)

    def deaf(self) -> str | None:
        """Return what kopf ought to have told of long ago, or None."""
        key = next(iter(self._awaited), None)
        if key is None or time.monotonic() - self._awaited[key] < DEAF_SECONDS:
            return None
        return f"kopf has not told of {key.namespace}/{key.name} for {time.monotonic() - self._awaited[key]:.0f} s"

    def _on_name(self, change: Change) -> None:
        if change.gone:
            self._awaited.pop(change.key, None)
            self._store.drop(change.key, change.uid, FOREVER)
        elif self._store.version(change.key) < self.names.version(change.key):
            self._awaited.setdefault(change.key, time.monotonic())

    def _on_body(self, change: Change) -> None:
        if self._store.version(change.key) >= self.names.version(change.key):
            self._awaited.pop(change.key, None)


class Watches:
    """Every watch of the process but kopf's two.

    Parameters
    ----------
    namespaces
        To look at; all of them when there is none.
    """

    def __init__(self, api: Transport, world: World, namespaces: Iterable[str] = ()) -> None:
        self._world = world
        self._namespaces = tuple(namespaces) or ("",)
        self.witnesses = {SESSION: Witness(world.sessions), PROFILE: Witness(world.profiles)}
        pages = asyncio.Semaphore(AT_ONCE)
        self._reflectors = [Reflector(api, source, store, pages) for source, store in self._sources()]
        world.unseen = self.lost

    def start(self) -> None:
        """Begin to watch."""
        for reflector in self._reflectors:
            reflector.start()

    async def close(self) -> None:
        """Stop watching."""
        await asyncio.gather(*(reflector.close() for reflector in self._reflectors))

    async def filled(self) -> None:
        """Wait until every list was read once, and kopf has told of every session and profile."""
        for reflector in self._reflectors:
            await reflector.filled()
        for witness, store in zip(self.witnesses.values(), (self._world.sessions, self._world.profiles), strict=True):
            while witness.awaited:
                await store.changed(1)

    def missing(self) -> str | None:
        """Return what has not been listed yet, or None."""
        not_listed = [str(r.source) for r in self._reflectors if not r.listed]
        not_listed += [f"{kind.plural} (by kopf)" for kind, witness in self.witnesses.items() if witness.awaited]
        return f"not listed yet: {', '.join(not_listed)}" if not_listed else None

    def lost(self) -> str | None:
        """Return what is not kept up to date for too long to act on it, or None."""
        reflectors = [r for r in self._reflectors if r.lost > LOST_SECONDS]
        return "; ".join(f"nothing is heard of {r.source} for {r.lost:.0f} s: {r.failure}" for r in reflectors) or None

    def deaf(self) -> str | None:
        """Return what no waiting will mend, or None."""
        troubles = (*(r.trouble for r in self._reflectors), *(w.deaf() for w in self.witnesses.values()))
        return next((trouble for trouble in troubles if trouble), None)

    def _sources(self) -> Iterator[tuple[Source, Store[Any]]]:
        yield Source(_path(NODE)), self._world.nodes
        yield Source(_path(PROFILE), metadata_only=True), self.witnesses[PROFILE].names
        for namespace in self._namespaces:
            yield Source(_path(SESSION), namespace, metadata_only=True), self.witnesses[SESSION].names
            yield Source(_path(QUOTA), namespace), self._world.quotas
            for kind, store in self._world.children.items():
                yield Source(_path(kind), namespace, names.SESSION_UID), store
            for kind, store in self._world.shared.items():
                yield Source(_path(kind), namespace, names.USER), store


def _path(kind: Kind) -> str:
    return f"{api_path(kind.api_version)}/{kind.plural}"
