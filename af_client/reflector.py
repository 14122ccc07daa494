"""A copy of the objects of one kind, kept up to date by list and watch: reading it costs no request."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from af_client.async_transport import AsyncTransport
from af_client.errors import ClientError, Expired, from_response
from af_client.transport import Request

Body = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace (empty for what is in none) and name."""

LOG = logging.getLogger(__name__)
WATCH_SECONDS = 60
"""A connection that has died without a word is noticed after it."""
PAGE = 500
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
GRACE_SECONDS = 5.0
"""A watch that ends and begins again is no gap worth telling."""


def key_of(body: Body) -> Key:
    """Return namespace and name of an object."""
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


class Reflector:
    """The objects at one path.

    Parameters
    ----------
    path
        Of the collection, such as ``/apis/example.org/v1/things``.
    """

    def __init__(self, transport: AsyncTransport, path: str) -> None:
        self.objects: dict[Key, Body] = {}
        self.failure: ClientError | None = None
        """Why it is not up to date; None while it is."""
        self._api = transport
        self._path = path
        self._task: asyncio.Task[None] | None = None
        self._version = ""
        self._listed = False
        self._lost_at: float | None = None
        self._listeners: set[Callable[[Key], None]] = set()
        self._changed = asyncio.Event()

    @property
    def fresh(self) -> bool:
        """Whether it shows what is so, but for a moment."""
        return (
            self._listed and self._runs and (self._lost_at is None or time.monotonic() - self._lost_at < GRACE_SECONDS)
        )

    async def ready(self, seconds: float = 5.0) -> bool:
        """Start if need be, wait until it has been filled, and return whether it is fresh."""
        self._ensure_started()
        deadline = time.monotonic() + seconds
        while not self._listed and (left := deadline - time.monotonic()) > 0:
            await self.changed(left)
        return self.fresh

    async def changed(self, seconds: float) -> None:
        """Wait until something changes, at most so long."""
        event = self._changed
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    def listen(self, listener: Callable[[Key], None]) -> None:
        """Call `listener` with the key of every object that changes or goes, until ``ignore``."""
        self._listeners.add(listener)

    def ignore(self, listener: Callable[[Key], None]) -> None:
        """Call it no more."""
        self._listeners.discard(listener)

    def learn(self, body: Body) -> None:
        """Take over an object that a request of ours returned: the watch may tell of it later."""
        self._put(body)

    def forget(self, body: Body) -> None:
        """Drop an object that a request of ours has deleted or missed, unless another has its name by now."""
        known = self.objects.get(key_of(body))
        if known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]:
            self._drop(key_of(body))

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

    def _ensure_started(self) -> None:
        if not self._runs:
            self._version = ""
            self._task = asyncio.create_task(self._run(), name=f"reflector {self._path}")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            # A mistake of ours; seen, and no reason for a Hub that is blind for good.
            LOG.error("watch of %s has failed, beginning anew", self._path, exc_info=error)
            asyncio.get_running_loop().call_later(LONGEST_PAUSE, self._ensure_started)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if not self._version:
                    await self._list()
                    pause = FIRST_PAUSE
                began = time.monotonic()
                await self._watch()
                if time.monotonic() - began < FIRST_PAUSE:  # a server that hangs up at once
                    await asyncio.sleep(FIRST_PAUSE)
            except Expired:
                self._version = ""  # the server does not know our version any more: list anew
            except (ClientError, ValueError) as error:
                self._lose(error)
                self._version = ""  # that the list comes is how we know that the server is back
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that all do not come at once
                pause = min(LONGEST_PAUSE, pause * 2)

    def _lose(self, error: Exception) -> None:
        if self._lost_at is None:
            LOG.warning("watch of %s is broken, trying again: %s", self._path, error)
            self._lost_at = time.monotonic()
        self.failure = error if isinstance(error, ClientError) else ClientError(str(error))
        # Never forget here: objects that cannot be seen are not objects that are gone.
        self._tell()

    async def _list(self) -> None:
        found: dict[Key, Body] = {}
        query = {"limit": str(PAGE)}
        while True:
            answer = await self._api.call(Request("GET", self._path, query))
            found |= {key_of(body): body for body in answer.get("items", [])}
            following = answer["metadata"].get("continue")
            if not following:
                break
            query = {"limit": str(PAGE), "continue": following}
        self._version = answer["metadata"]["resourceVersion"]
        # What a request of ours has put in after the list was made would look gone.
        gone = [k for k, b in self.objects.items() if k not in found and _version(b) <= int(self._version)]
        self._seen()
        for key in gone:
            self._drop(key)
        for body in found.values():
            self._put(body)
        self._listed = True
        self._tell()

    async def _watch(self) -> None:
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        lines = self._api.lines(Request("GET", self._path, query, read_seconds=WATCH_SECONDS + 10))
        async with aclosing(_events(lines)) as events:
            async for kind, body in events:
                self._seen()
                self._version = body["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self.forget(body)
                elif kind != "BOOKMARK":
                    self._put(body)

    def _seen(self) -> None:
        if self._lost_at is not None:
            LOG.info("watch of %s is back", self._path)
        self._lost_at = self.failure = None

    def _put(self, body: Body) -> None:
        key = key_of(body)
        known = self.objects.get(key)
        if known is not None and _version(known) >= _version(body):
            return
        # Nobody here asks who wrote what, and it is half of an object.
        meta = {field: value for field, value in body["metadata"].items() if field != "managedFields"}
        self.objects[key] = {**body, "metadata": meta}
        self._tell(key)

    def _drop(self, key: Key) -> None:
        self.objects.pop(key, None)
        self._tell(key)

    def _tell(self, key: Key | None = None) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        if key is not None:
            for listener in list(self._listeners):
                listener(key)


def _version(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])  # ordered numbers, by Kubernetes' own word since 1.35


async def _events(lines: AsyncGenerator[bytes]) -> AsyncGenerator[tuple[str, Body]]:
    async with aclosing(lines):
        async for line in lines:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise from_response(int(event["object"].get("code", 500)), json.dumps(event["object"]))
            yield event["type"], event["object"]
