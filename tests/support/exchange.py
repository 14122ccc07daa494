"""One request on its way through the proxy: what it asks, what the server says, and what of that is passed on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import ClientResponse, ClientSession, StreamReader, web
from yarl import URL

WRITES = ("POST", "PUT", "PATCH", "DELETE")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}
ROOTS = {"api": 2, "apis": 3}
"""How many parts of a path name the API's group and version."""
Kind = Literal["write", "watch", "list", "get", "other"]


@dataclass(frozen=True)
class Call:
    """One request; `status` is None as long as it has no answer."""

    verb: str
    path: str
    status: int | None = None
    query: Mapping[str, str] = field(default_factory=dict, compare=False)
    time: float = field(default_factory=time.monotonic, compare=False)
    """When it came, by the monotonic clock."""

    def __str__(self) -> str:
        return f"{self.verb} {self.path} {self.status or '-'}"

    @property
    def kind(self) -> Kind:
        """What it is to the API server; ``other`` is about no object: versions, groups, health."""
        if self.verb in WRITES:
            return "write"
        parts = self.path.strip("/").split("/")
        rest = parts[ROOTS.get(parts[0], len(parts)) :]
        if not rest:
            return "other"
        if rest[0] == "namespaces" and len(rest) > 2:
            rest = rest[2:]
        if self.query.get("watch") in ("1", "true", "True"):
            return "watch"
        return "list" if len(rest) == 1 else "get"

    @property
    def page(self) -> bool:
        """Whether it goes on with a list."""
        return self.kind == "list" and "continue" in self.query


@dataclass(frozen=True)
class Upstream:
    """The server, and whose rights the client has there."""

    client: ClientSession
    server: str
    token: str


class Exchange:
    """A request and its answer, which faults may change.

    Parameters
    ----------
    answered
        Called with the status that the server has answered.

    Attributes
    ----------
    query
        Parameters that the server is given instead of the client's.
    silent
        Nothing more of the answer is passed on, and it does not end.
    budget
        Bytes of the answer until the connection is closed, which happens in any case before the answer's end.
    """

    def __init__(self, request: web.Request, call: Call, upstream: Upstream, answered: Callable[[int], None]) -> None:
        self.request, self.call = request, call
        self.query: dict[str, str] = {}
        self.silent = False
        self.budget: int | None = None
        self._upstream, self._answered = upstream, answered
        self._last_words: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._rest = b""

    async def carry_out(self) -> None:
        """Have the server answer, and keep that from the client."""
        async with self._asked() as answer:
            await answer.read()

    async def pass_on(self) -> web.StreamResponse:
        """Ask the server, and give the client its answer as it comes."""
        async with self._asked() as theirs:
            kept = {k: v for k, v in theirs.headers.items() if k.lower() not in HOP_BY_HOP}
            answer = web.StreamResponse(status=theirs.status, headers=kept)
            await answer.prepare(self.request)
            await self._pour(theirs.content, answer)
            await answer.write_eof()
            return answer

    def end(self, words: bytes) -> None:
        """Say one more line instead of anything else, and end the answer."""
        if not self._last_words.done():
            self._last_words.set_result(words)

    def hang_up(self) -> web.StreamResponse:
        """Close the connection at once; return what nobody will get."""
        transport = self.request.transport
        if transport is not None and not transport.is_closing():  # a close sends what is on its way, an abort does not
            transport.abort()
        return web.Response(status=499)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[ClientResponse]:
        headers = {k: v for k, v in self.request.headers.items() if k.lower() not in HOP_BY_HOP}
        headers["Authorization"] = f"Bearer {self._upstream.token}"
        body = await self.request.read()
        url = URL(self._upstream.server + self.request.raw_path, encoded=True)
        url = url.update_query(self.query) if self.query else url
        answer = await self._upstream.client.request(self.request.method, url, headers=headers, data=body or None)
        self._answered(answer.status)
        try:
            yield answer
        finally:
            rest = answer.connection  # none when the answer was read to its end
            if rest is not None and rest.transport is not None:
                rest.transport.abort()  # a close would wait for the server to say goodbye
            answer.close()

    async def _pour(self, content: StreamReader, answer: web.StreamResponse) -> None:
        while chunk := await self._next(content):
            if not self.silent:
                await self._give(answer, self._whole(chunk))
        if self.silent:
            await self._last_words
        if self._last_words.done():
            await answer.write(self._last_words.result())
        elif self.budget is not None:
            await self._cut()
        else:
            await answer.write(self._rest)

    async def _next(self, content: StreamReader) -> bytes:
        """Return what comes next; nothing at the end, or when there are last words."""
        reading = asyncio.ensure_future(content.readany())
        try:
            await asyncio.wait({reading, self._last_words}, return_when=asyncio.FIRST_COMPLETED)
            return b"" if self._last_words.done() else reading.result()
        finally:
            reading.cancel()

    def _whole(self, chunk: bytes) -> bytes:
        """Return whole events of a watch: what is put between them must not come into the middle of one."""
        if self.call.kind != "watch":
            return chunk
        events, newline, self._rest = (self._rest + chunk).rpartition(b"\n")
        return events + newline

    async def _give(self, answer: web.StreamResponse, data: bytes) -> None:
        if self.budget is None:
            await answer.write(data)
            return
        await answer.write(data[: self.budget])
        self.budget -= min(self.budget, len(data))
        if not self.budget:
            await self._cut()

    async def _cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.close()
        raise ConnectionResetError("cut, as asked")
