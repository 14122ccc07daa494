"""Which models are loaded: one load of a version at a time, and a load that fails leaves what serves as it is."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from af_inference import log
from af_inference.errors import NotFound, Problem, Unprocessable
from af_inference.repository import unknown
from af_inference.served import Served
from af_inference.sources import Source

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a model, as the repository index has it.

    Attributes
    ----------
    reason
        Why it does not answer, if it does not.
    """

    name: str
    version: str
    ready: bool
    reason: str


class Registry:
    """Models by name and version; a name alone is its highest version.

    Attributes
    ----------
    pinned
        Names that stay loaded, however long nobody asked.
    """

    def __init__(self, source: Source, pinned: Collection[str], most: int) -> None:
        self.source, self.pinned, self._most = source, frozenset(pinned), most
        self._served: dict[Key, Served] = {}
        self._highest: dict[str, str] = {}
        self._failed: dict[Key, Problem] = {}
        self._unloaded: set[str] = set()
        self._loads: defaultdict[Key, threading.Lock] = defaultdict(threading.Lock)
        self._lock, self._refreshing = threading.Lock(), threading.Lock()
        self._generation = source.generation()

    def loaded(self, name: str, version: str | None = None) -> Served | None:
        """Return a model that is loaded; the way of nearly every request."""
        found = version or self._highest.get(name)
        return self._served.get((name, found)) if found else None

    async def get(self, name: str, version: str | None = None) -> Served:
        """Return a model, loaded first if need be.

        Raises
        ------
        NotFound
            There is none, or it was unloaded.
        Unprocessable
            It cannot be served.
        """
        if found := self.loaded(name, version):
            return found
        return await asyncio.to_thread(self.get_in_thread, name, version)

    def get_in_thread(self, name: str, version: str | None = None) -> Served:
        """Do the same in a thread that may wait."""
        if found := self.loaded(name, version):
            return found
        if name in self._unloaded:
            raise NotFound(f"model {name} was unloaded: load it with POST /v2/repository/models/{name}/load")
        return self._ensure(name, version) if version else self._highest_that_loads(name)

    def load(self, name: str, version: str | None = None) -> Served:
        """Load a model, also one that failed before or was unloaded; in a thread."""
        served = self._ensure(name, version, again=True)
        self._unloaded.discard(name)
        return served

    def unload(self, name: str) -> None:
        """Let go of all versions of a model until it is loaded again; requests that are in its queue are answered.

        Raises
        ------
        NotFound
            There is no such model.
        """
        if not self.source.versions(name):
            raise NotFound(unknown(name, None, []))
        self._unloaded.add(name)
        with self._lock:
            self._drop([key for key in self._served if key[0] == name])

    def refresh(self) -> None:
        """See what others did to the store: forget what is gone, let new versions take over once they are loaded."""
        with self._refreshing:  # who finds another at it waits: what was deleted must not answer afterwards
            generation = self.source.generation()
            if generation == self._generation:
                return
            self._generation = generation
            self._failed.clear()
            for name in {name for name, _ in list(self._served)}:
                self._renew(name)

    def entries(self) -> list[Entry]:
        """Return all versions of all models, loaded or not; in a thread."""
        return [
            self._entry(name, version)
            for name in self.source.names()
            for version in reversed(self.source.versions(name))
        ]

    def loaded_versions(self, name: str) -> list[str]:
        """Return which versions of a model are loaded."""
        return sorted((version for each, version in list(self._served) if each == name), key=int)

    def all_loaded(self) -> list[Served]:
        """Return the models that are loaded."""
        return list(self._served.values())

    def _highest_that_loads(self, name: str) -> Served:
        """Return the highest version that can be served; a broken one takes nobody's place."""
        versions = self.source.versions(name)
        for version in versions[:-1]:
            try:
                return self._took_over(self._ensure(name, version))
            except Unprocessable:
                continue  # was logged
        return self._took_over(self._ensure(name, versions[-1] if versions else None))

    def _took_over(self, served: Served) -> Served:
        self._highest[served.model.name] = served.model.version
        return served

    def _ensure(self, name: str, version: str | None, again: bool = False) -> Served:
        versions = self.source.versions(name)
        wanted = version or (versions[0] if versions else None)
        if wanted is None or wanted not in versions:
            raise NotFound(unknown(name, version, versions))
        with self._lock:
            load = self._loads[name, wanted]
        with load:
            served = self._served.get((name, wanted)) or self._load((name, wanted), again)
        if wanted == versions[0]:
            self._highest[name] = wanted
        return served

    def _load(self, key: Key, again: bool) -> Served:
        if not again and (problem := self._failed.get(key)):
            raise problem
        try:
            served = self.source.load(*key)
        except Problem as problem:
            self._failed[key] = problem
            log.warning("model cannot be served", model=key[0], version=key[1], reason=str(problem))
            raise
        self._failed.pop(key, None)
        with self._lock:
            if again or key[0] not in self._unloaded:  # it may have been unloaded meanwhile
                self._served[key] = served
            self._make_room(key)
        log.info("model loaded", model=key[0], version=key[1], provider=served.model.provider, batched=served.batched)
        return served

    def _make_room(self, but: Key) -> None:
        """Unload what was asked longest ago of the models that nobody pinned."""
        loose = [key for key in self._served if key[0] not in self.pinned and key != but]
        loose.sort(key=lambda key: self._served[key].statistics.last_inference)
        self._drop(loose[: max(0, len(loose) + 1 - self._most)])

    def _drop(self, keys: list[Key]) -> None:
        for name, version in keys:
            del self._served[name, version]
            if self._highest.get(name) == version:
                del self._highest[name]
            log.info("model unloaded", model=name, version=version)

    def _renew(self, name: str) -> None:
        versions = self.source.versions(name)
        try:
            if versions and self._highest.get(name) not in (None, versions[0]):
                self._ensure(name, None)
        except Problem:
            pass  # was logged; the version before it goes on
        with self._lock:
            self._drop([key for key in self._served if key[0] == name and key[1] not in versions])

    def _entry(self, name: str, version: str) -> Entry:
        if (name, version) in self._served:
            return Entry(name, version, True, "")
        failed = self._failed.get((name, version))
        reason = str(failed) if failed else "unloaded" if name in self._unloaded else "is loaded when it is asked for"
        return Entry(name, version, False, reason)
