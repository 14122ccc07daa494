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
WATCH_SECONDS = 240.0, 360.0
"""How long one watch may take: drawn, so that all do not end at once."""
LATE_SECONDS = 15.0
"""A watch that has not ended so long after its time is dead. Silence alone says nothing: where nothing happens to a
kind, an API server whose etcd tells of no progress has not even a bookmark for it."""
FIRST_PAGE, PAGE, LEAST_PAGE = 50, 500, 10
"""Objects on a page: the first one is of few, for nobody knows how large they are."""
PAGE_BYTES = 4 * 1024**2
"""What a page should have at most: where objects are large, pages are of fewer."""
PAGE_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
LONGEST_ASKED = 60.0
"""We wait as long as the server asks, but not because of a mistake for a day."""
ATTEMPTS = 6
"""Refusals in a row before the version that a watch began at, or the page that a list is at, is given up."""
STEADY_SECONDS = 10.0
"""A watch that held for so long says that the server is well, whatever ended it."""
DEAF_SECONDS = 900.0
"""For so long watches may say nothing, not even that they end: then a list must tell whether nothing has happened."""
MISTAKE_SECONDS = 10.0
"""After which a task that a mistake of ours has ended begins anew."""
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
        parameters = {name: value for name, value in selectors.items() if value} | query
        return Request("GET", path, parameters, read_seconds=read_seconds, accept=self._accept("watch" in query))

    def _accept(self, watch: bool) -> str:
        kind, group = METADATA
        return f"{JSON};as={kind}{'' if watch else 'List'};{group}" if self.metadata_only else JSON

    def __str__(self) -> str:
        return f"{self.path} in {self.namespace}" if self.namespace else self.path


class Reflector:
    """Of one source.

    Parameters
    ----------
    pages
        Bounds how many pages are read at once; one for all reflectors of a process.
    watch_seconds
        How long one watch may take: at the worst, so long nobody notices that it is dead.
    """

    def __init__(
        self,
        api: Transport,
        source: Source,
        store: Store[Any],
        pages: asyncio.Semaphore | None = None,
        watch_seconds: tuple[float, float] | None = None,
    ) -> None:
        self.source = source
        self._watch_seconds = watch_seconds
        self.failure: KubeError | None = None
        """Why the store is not up to date; None while it is."""
        self._api = api
        self._store = store
        self._pages = pages or asyncio.Semaphore(AT_ONCE)
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._version = ""
        self._newest = 0
        self._limit = FIRST_PAGE
        self._failures = 0
        self._listed = False
        self._opened_at = self._heard_at = 0.0
        self._lost_at: float | None = None

    @property
    def listed(self) -> bool:
        """Whether the whole list was read once: before that, what is not in the store may be there all the same."""
        return self._listed

    @property
    def lost(self) -> float:
        """Seconds since when the store is not kept up to date; 0 while it is."""
        return 0.0 if self.failure is None or self._lost_at is None else time.monotonic() - self._lost_at

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
        with suppress(TimeoutError):
            await asyncio.wait_for(self.filled(), seconds)
        return self.fresh

    async def filled(self) -> None:
        """Wait until the whole list was read once."""
        while not self._listed:
            await self._store.changed(seconds=60)

    def start(self) -> None:
        """Begin, unless it runs, or is to begin anew in a moment."""
        if not self._runs and self._again is None:
            self._version = ""
            self._task = asyncio.create_task(self._run(), name=f"reflector {self.source}")
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop watching."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            # A mistake of ours; seen, and no reason to be blind for good.
            LOG.error("watch of %s has failed, beginning anew", self.source, exc_info=error)
            self._note_loss(KubeError(f"{type(error).__name__}: {error}"))
            self._again = asyncio.get_running_loop().call_later(MISTAKE_SECONDS, self._restart)

    def _restart(self) -> None:
        self._again = None
        self.start()

    async def _run(self) -> None:
        while True:
            self._opened_at = float("inf")
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                self._failures = 0
            except (KubeError, ValueError) as error:
                if time.monotonic() - self._opened_at >= STEADY_SECONDS:
                    self._failures, self._lost_at = 0, None
                self._failures += 1
                self._note_loss(error)
                if self._gives_up(error):
                    self._version = ""
                if not isinstance(error, Expired) or self._failures > 1:
                    await asyncio.sleep(_pause(error, self._failures))

    def _gives_up(self, error: Exception) -> bool:
        """Return whether to list anew: a list costs a thousand times what it costs to go on with a watch."""
        if isinstance(error, Expired) or time.monotonic() - self._heard_at > DEAF_SECONDS:
            return True
        # Who cannot be reached, or asks us to wait, has said nothing of our version.
        asks = isinstance(error, KubeError) and error.retry_after is not None
        return not asks and not isinstance(error, Unreachable) and self._failures % ATTEMPTS == 0

    def _note_loss(self, error: Exception) -> None:
        if self.failure is None:
            level = logging.INFO if isinstance(error, Expired) else logging.WARNING
            LOG.log(level, "watch of %s is broken, trying again: %s", self.source, error)
        if self._lost_at is None:  # else the watch has begun again since, and said nothing
            self._lost_at = time.monotonic()
        self.failure = error if isinstance(error, KubeError) else KubeError(f"the answer cannot be read: {error}")
        # Nothing is dropped: objects that cannot be seen are not objects that are gone.
        self._store.stir()

    async def _list(self) -> None:
        listed: set[Key] = set()
        continue_token = ""
        while True:
            metadata = await self._page(continue_token, listed)
            continue_token = metadata.get("continue", "")
            if not continue_token:
                break
        self._store.settle(self.source.namespace, listed, int(metadata["resourceVersion"]))
        self._listed = True
        self._note_version(metadata)
        self._note_recovery()

    async def _page(self, continue_token: str, listed: set[Key]) -> dict[str, Any]:
        """Return what is said of a page, which is asked for again if need be: the pages before it are not lost."""
        failures = 0
        while True:
            try:
                async with self._pages:
                    return await self._read(continue_token, listed)
            except (KubeError, ValueError) as error:
                failures += 1
                if isinstance(error, Expired) or failures == ATTEMPTS:
                    raise
                self._note_loss(error)
                await asyncio.sleep(_pause(error, failures))

    async def _read(self, continue_token: str, listed: set[Key]) -> dict[str, Any]:
        query = {"limit": str(self._limit)} | ({"continue": continue_token} if continue_token else {})
        text = await self._api.read(self.source.request(PAGE_SECONDS, **query))
        answer: dict[str, Any] = json.loads(text)
        items: list[Body] = _items(answer)
        metadata: dict[str, Any] = answer["metadata"]
        fitting = len(items) * PAGE_BYTES // len(text) if items else PAGE
        self._limit = max(LEAST_PAGE, min(PAGE, fitting, self._limit * 2))
        if not continue_token and int(metadata["resourceVersion"]) < self._newest:
            LOG.warning("the versions of %s have gone back: whatever it says now is taken for news", self.source)
            self._store.rewind()
            self._newest = 0
        for body in items:
            listed.add(key_of(body))
            self._store.put(body)
        return metadata

    async def _watch(self) -> None:
        seconds = int(random.uniform(*(self._watch_seconds or WATCH_SECONDS)))  # noqa: S311 - so that all do not end at once
        request = self.source.request(
            seconds + LATE_SECONDS,
            watch="true",
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(seconds),
        )
        async with self._api.lines(request) as lines:
            self._opened_at = time.monotonic()
            self._note_recovery()
            async for line in lines:
                self._take(json.loads(line))
        self._heard_at = time.monotonic()
        if self._heard_at - self._opened_at < STEADY_SECONDS:
            raise Unreachable("the server ends the watch as soon as it has begun")

    def _take(self, event: dict[str, Any]) -> None:
        kind, body = event["type"], event["object"]
        if kind == "ERROR":
            raise _refusal(body)
        if kind == "DELETED":
            self._store.drop(key_of(body), body["metadata"]["uid"], version_of(body))
        elif kind != "BOOKMARK":
            self._store.put(body)
        self._note_version(body["metadata"])

    def _note_version(self, metadata: dict[str, Any]) -> None:
        self._version = metadata["resourceVersion"]
        self._newest = max(self._newest, int(self._version))
        self._heard_at, self._lost_at = time.monotonic(), None

    def _note_recovery(self) -> None:
        if self.failure is not None:
            LOG.info("watch of %s is back", self.source)
        self.failure = None
        self._store.stir()


def _pause(error: Exception, failures: int) -> float:
    retry_after = (error.retry_after if isinstance(error, KubeError) else None) or 0.0
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    backoff = ceiling * random.uniform(0.5, 1.5)  # noqa: S311 - so that all do not come at once
    return min(retry_after, LONGEST_ASKED) + backoff if retry_after else backoff


def _items(answer: dict[str, Any]) -> list[Body]:
    # The items of a list do not say what they are, where Kubernetes' own kinds are concerned.
    kind, version = answer["kind"].removesuffix("List"), answer["apiVersion"]
    return [{"apiVersion": version, "kind": kind, **body} for body in answer.get("items") or ()]


def _refusal(status: dict[str, Any]) -> KubeError:
    code, message = int(status.get("code", 500)), json.dumps(status)
    if code == 410:
        return Expired(message)
    wait = (status.get("details") or {}).get("retryAfterSeconds")
    return HttpError(code, message, float(wait) if wait else None)
