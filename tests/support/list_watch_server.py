"""An API server's lists and watches over HTTP on loopback: pages, versions, selectors, bookmarks; and what goes wrong.

Only what af_kube asks for: that a real one does the same is in ``tests/contract/test_reflector.py``.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from af_kube.connection import Connection
from af_kube.credentials import ServiceAccount
from af_kube.store import Key

PLURAL = "widgets"
PATH = f"/apis/example.org/v1/{PLURAL}"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def until(happens: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not happens():  # noqa: ASYNC110 (what is waited for has no event of its own)
            await asyncio.sleep(0.005)


def status(code: int, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": f"no: {code}", "details": details}


def refusing(code: int, **headers: str) -> Answer:
    """Answer with an error."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            status(code), status=code, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return answer


async def reset(request: web.Request) -> web.StreamResponse:
    """Hang up without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def saying(*chunks: bytes, then: Answer | None = None) -> Answer:
    """Begin a good answer with these bytes; then end it, or do as `then` says."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then is not None:
            await then(request)
        return response

    return answer


def event(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


class Event(NamedTuple):
    """A change from `before` to `after`; or, with a `kind`, something that is said in each stream at this moment."""

    version: int
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    kind: str = ""


class ListWatchServer:
    """Widgets, in namespaces.

    `lists`, `watches`: the queries that came; `next`: how the coming ones are answered; `after_page`: called after each
    page; `silent`: streams say nothing, as if the network had swallowed it.
    """

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[Key, dict[str, Any]] = {}
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.next: dict[str, deque[Answer]] = {"list": deque(), "watch": deque()}
        self.after_page: Callable[[], None] = lambda: None
        self.after_request: Callable[[], None] = lambda: None
        self.compacted = 0
        self.silent = False
        self._events: list[Event] = []
        self._streams: list[web.Request] = []
        self._pages: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._news = asyncio.Event()

    # What happens to the objects.

    def put(self, name: str, namespace: str = "a", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
        """Make or change one; return it as an answer to a request would."""
        self.version += 1
        before = self.objects.get(Key(namespace, name))
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": before["metadata"]["uid"] if before else f"uid-{self.version}",
            "resourceVersion": str(self.version),
            "labels": labels or {},
        }
        body = {"metadata": metadata, "spec": spec}
        self.objects[Key(namespace, name)] = body
        self._happened(before, body)
        return body

    def delete(self, name: str, namespace: str = "a") -> None:
        self.version += 1
        self._happened(self.objects.pop(Key(namespace, name)), None)

    def bookmark(self) -> None:
        """Tell the version alone, after something that no watch here is about."""
        self.version += 5
        self._happened(None, {"metadata": {"resourceVersion": str(self.version)}}, "BOOKMARK")

    def error(self, body: dict[str, Any]) -> None:
        """Say this in every stream."""
        self._happened(None, body, "ERROR")

    def compact(self) -> None:
        """Forget all that was: pages of lists, too."""
        self.compacted = self.version
        self._pages.clear()

    def restore(self, version: int) -> None:
        """Begin again at an earlier version, with nothing of what has been since, as from a backup."""
        self.objects.clear()
        self._events.clear()
        self.version = version

    async def cut(self, number: int = 1) -> None:
        """Break every watch, as soon as there are so many."""
        await until(lambda: len(self._streams) >= number)
        self._break()

    def _break(self) -> None:
        for request in self._streams:
            if request.transport is not None:
                request.transport.abort()

    def _happened(self, before: dict[str, Any] | None, after: dict[str, Any] | None, kind: str = "") -> None:
        self._events.append(Event(self.version, before, after, kind))
        self._news.set()
        self._news = asyncio.Event()

    # What is answered.

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query, kind = dict(request.query), "watch" if "watch" in request.query else "list"
        (self.watches if kind == "watch" else self.lists).append(query)
        self.headers.append(dict(request.headers))
        self.after_request()
        if self.next[kind]:
            return await self.next[kind].popleft()(request)
        if kind == "list":
            return self.page(request)
        return await self._watch(request)

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """Answer a list well: for `next`."""
        return self.page(request)

    def page(self, request: web.Request) -> web.Response:
        token = request.query.get("continue")
        if token is None:
            version, rest = self.version, [b for b in self.objects.values() if selected(request, b)]
        elif token in self._pages:
            version, rest = self._pages[token]
        else:
            return web.json_response(status(410), status=410)
        limit = int(request.query["limit"])
        page, rest = rest[:limit], rest[limit:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"page-{len(self.lists)}"
            self._pages[metadata["continue"]] = version, rest
        items = [shown(request, body) for body in page]
        self.after_page()
        return web.json_response(
            {"apiVersion": "example.org/v1", "kind": "WidgetList", "metadata": metadata, "items": items}
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        at = int(request.query["resourceVersion"])
        if at < self.compacted:
            await response.write(event("ERROR", status(410)))
            return response
        self._streams.append(request)
        try:
            told, missed = len(self._events), [e for e in self._events if e.version > at and not e.kind]
            while True:
                for line in filter(None, (seen_by(request, each) for each in missed)):
                    if not self.silent:
                        await response.write(line)
                if told == len(self._events):
                    await self._news.wait()
                told, missed = len(self._events), self._events[told:]
        except ConnectionResetError:
            return response
        finally:
            self._streams.remove(request)

    @asynccontextmanager
    async def served(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        """Serve, and return the URL."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            self._break()
            await runner.cleanup()


def seen_by(request: web.Request, each: Event) -> bytes:
    """Return the line that a watch says of an event: what is selected no longer has gone, as far as it can tell."""
    if each.kind:
        return event(each.kind, each.after or {})
    was = each.before is not None and selected(request, each.before)
    if each.after is not None and selected(request, each.after):
        return event("MODIFIED" if was else "ADDED", shown(request, each.after))
    if not was or each.before is None:
        return b""
    metadata = each.before["metadata"] | {"resourceVersion": str(each.version)}
    return event("DELETED", shown(request, {**each.before, "metadata": metadata}))


def selected(request: web.Request, body: dict[str, Any]) -> bool:
    metadata = body["metadata"]
    namespace = request.path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in request.path else None
    labels = dict(part.partition("=")[::2] for part in request.query.get("labelSelector", "").split(",") if part)
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    return (
        namespace in (None, metadata["namespace"])
        and all(metadata["labels"].get(label) == value for label, value in labels.items())
        and name in ("", metadata["name"])
    )


def shown(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": body["metadata"]} if "as=PartialObjectMetadata" in request.headers["Accept"] else body


def connection(url: str, token: Any, tls: Any = True) -> Connection:
    """Return a connection to a server; `token` is the path of its token's file."""

    async def credentials() -> ServiceAccount:
        return ServiceAccount(url, tls, token)

    return Connection(credentials)
