"""Fills a store by list and watch, and keeps it as it is at the API server whatever happens to the connection."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from af_kube.connection import Transport
from af_kube.errors import Expired, HttpError, KubeError, Unreachable
from af_kube.request import JSON, Request
from af_kube.store import Body, Key, Store, key_of, version_of

LOG = logging.getLogger(__name__)
WATCH_SECONDS = 300.0, 600.0
"""How long one watch may take: drawn, so that all do not end at once."""
SILENT_SECONDS = 75.0
"""A watch that says nothing for so long is dead: the server sends a bookmark each minute."""
PAGE = 500
PAGE_BYTES = 4 * 1024**2
"""What a page should have at most: where objects are large, pages are of fewer."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
ATTEMPTS = 4
"""Watches that fail one after the other before the version that they began at is given up."""
STEADY_SECONDS = 10.0
"""A watch that held for so long says that the server is well, whatever ended it."""
GRACE_SECONDS = 5.0
"""A watch that ends and begins again is no gap worth telling."""
METADATA = "PartialObjectMetadata", "g=meta.k8s.io;v=v1"
AT_ONCE = 2
"""Pages that one process reads at the same time: each is many times its size in memory."""


@dataclass(frozen=True)
class Source:
    """What is listed and watched.

    Attributes
    ----------
    path
        Of the collection in all namespaces, or of what is in none: ``/apis/batch/v1/jobs``.
    namespace
        The one to look at; all of them when it is empty.
    labels, fields
        Selectors.
    metadata_only
        Nothing but names and versions is asked for.
    """

    path: str
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    metadata_only: bool = False

    def request(self, read_seconds: float, **query: str) -> Request:
        """Return the request with the selectors and `query`."""
        root, _, plural = self.path.rpartition("/")
        path = f"{root}/namespaces/{self.namespace}/{plural}" if self.namespace else self.path
        selectors = {"labelSelector": self.labels, "fieldSelector": self.fields}
        given = {name: value for name, value in selectors.items() if value} | query
        return Request("GET", path, given, read_seconds=read_seconds, accept=self._accept("watch" in query))

    def _accept(self, watch: bool) -> str:
        kind, group = METADATA
        return f"{JSON};as={kind}{'' if watch else 'List'};{group}" if self.metadata_only else JSON

    def holds(self, key: Key) -> bool:
        """Return whether an object belongs here, by its name."""
        return not self.namespace or key.namespace == self.namespace

    def __str__(self) -> str:
        return f"{self.path} in {self.namespace}" if self.namespace else self.path


class Reflector:
    """Of one source.

    Parameters
    ----------
    pages
        Bounds how many pages are read at once; one for all reflectors of a process.
    """

    def __init__(
        self, api: Transport, source: Source, store: Store[Any], pages: asyncio.Semaphore | None = None
    ) -> None:
        self.source = source
        self.failure: KubeError | None = None
        """Why the store is not up to date; None while it is."""
        self._api = api
        self._store = store
        self._pages = pages or asyncio.Semaphore(AT_ONCE)
        self._task: asyncio.Task[None] | None = None
        self._version = ""
        self._limit = PAGE
        self._listed = False
        self._lost_at: float | None = None

    @property
    def listed(self) -> bool:
        """Whether the whole list was read once: before that, what is not in the store may be there all the same."""
        return self._listed

    @property
    def lost(self) -> float:
        """Seconds since when nothing was heard of the server; 0 while it answers."""
        return 0.0 if self._lost_at is None else time.monotonic() - self._lost_at

    @property
    def fresh(self) -> bool:
        """Whether the store shows what is so, but for a moment."""
        return self._listed and self._runs and self.lost < GRACE_SECONDS

    @property
    def trouble(self) -> str | None:
        """Return what is wrong with the task itself, which no waiting will mend."""
        if self._task is not None and self._task.done():
            return f"the watch of {self.source} has ended"
        return None

    async def ready(self, seconds: float = 5.0) -> bool:
        """Start if need be, wait until the list is there, and return whether the store is fresh."""
        self.start()
        deadline = time.monotonic() + seconds
        while not self._listed and (left := deadline - time.monotonic()) > 0:
            await self._store.changed(left)
        return self.fresh

    def start(self) -> None:
        """Begin, unless it runs."""
        if not self._runs:
            self._version = ""
            self._task = asyncio.create_task(self._run(), name=f"reflector {self.source}")
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            # A mistake of ours; seen, and no reason to be blind for good.
            LOG.error("watch of %s has failed, beginning anew", self.source, exc_info=error)
            self._lose(KubeError(f"{type(error).__name__}: {error}"))
            asyncio.get_running_loop().call_later(min(10.0, LONGEST_PAUSE), self.start)

    async def _run(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failures = 0
            except (KubeError, ValueError) as error:
                failures = failures + 1 if time.monotonic() - began < STEADY_SECONDS else 1
                expired = isinstance(error, Expired)
                if expired or failures % ATTEMPTS == 0:
                    # The server does not know our version any more, or says no in a way that we do not: list anew.
                    self._version = ""
                if not expired or failures > 1:
                    self._lose(error if isinstance(error, KubeError) else KubeError(str(error)))
                    await asyncio.sleep(_pause(error, failures))

    def _lose(self, error: KubeError) -> None:
        if self._lost_at is None:
            LOG.warning("watch of %s is broken, trying again: %s", self.source, error)
            self._lost_at = time.monotonic()
        self.failure = error
        # Nothing is dropped: objects that cannot be seen are not objects that are gone.
        self._store.stir()

    async def _list(self) -> None:
        seen: set[Key] = set()
        query: dict[str, str] = {}
        while True:
            async with self._pages:
                answer = await self._page(query)
                for body in _items(answer):
                    seen.add(key_of(body))
                    self._store.put(body)
            following = answer["metadata"].get("continue")
            if not following:
                break
            query = {"continue": following}
        version = answer["metadata"]["resourceVersion"]
        self._drop_all_but(seen, int(version))
        self._version, self._listed = version, True
        self._seen()

    async def _page(self, query: dict[str, str]) -> dict[str, Any]:
        text = await self._api.read(self.source.request(60.0, limit=str(self._limit), **query))
        fitting = self._limit * PAGE_BYTES // max(len(text), 1)
        self._limit = max(10, min(PAGE, fitting, self._limit * 2))
        found: dict[str, Any] = json.loads(text)
        return found

    def _drop_all_but(self, seen: set[Key], version: int) -> None:
        # What a request of ours has put in after the list was made is newer than it, and stays.
        for key in self._store:
            if key not in seen and self.source.holds(key) and self._store.version(key) <= version:
                self._store.drop(key, self._store.uid(key) or "", version)

    async def _watch(self) -> None:
        seconds = random.uniform(*WATCH_SECONDS)  # noqa: S311 - so that all do not end at once
        request = self.source.request(
            SILENT_SECONDS,
            watch="true",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(int(seconds)),
        )
        began = time.monotonic()
        async with self._api.lines(request) as lines:
            self._seen()
            async for line in lines:
                self._take(json.loads(line))
        if time.monotonic() - began < FIRST_PAUSE:
            raise Unreachable("the server hangs up at once")

    def _take(self, event: dict[str, Any]) -> None:
        kind, body = event["type"], event["object"]
        if kind == "ERROR":
            raise _refusal(body)
        self._version = body["metadata"]["resourceVersion"]
        if kind == "DELETED":
            self._store.drop(key_of(body), body["metadata"]["uid"], version_of(body))
        elif kind != "BOOKMARK":
            self._store.put(body)

    def _seen(self) -> None:
        if self._lost_at is not None:
            LOG.info("watch of %s is back", self.source)
        self._lost_at = self.failure = None
        self._store.stir()


def _pause(error: Exception, failures: int) -> float:
    asked = error.retry_after if isinstance(error, KubeError) else None
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return max(asked or 0.0, ceiling * random.uniform(0.5, 1.5))  # noqa: S311 - so that all do not come at once


def _items(answer: dict[str, Any]) -> list[Body]:
    # The items of a list do not say what they are, where Kubernetes' own kinds are concerned.
    kind, version = answer["kind"].removesuffix("List"), answer["apiVersion"]
    return [{"apiVersion": version, "kind": kind, **body} for body in answer.get("items") or ()]


def _refusal(status: dict[str, Any]) -> KubeError:
    code, message = int(status.get("code", 500)), json.dumps(status)
    return Expired(message) if code == 410 else HttpError(code, message)
