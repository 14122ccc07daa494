"""Requests over the network, by aiohttp: one call, one stream of lines."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp
from aiohttp import AddrInfoType
from yarl import URL

from af_kube.credentials import Credentials, load
from af_kube.errors import Expired, HttpError, Unreachable
from af_kube.request import Request

CONNECT_SECONDS = 10.0
CLOSING_SECONDS = 2.0
"""For how long the server is waited for at the end of TLS."""
CLOSING_PAUSE_SECONDS = 0.005
KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
"""Seconds, seconds, probes: a peer that is gone without a word is noticed within a minute, also by a quiet watch."""
MAX_LINE = 8 * 1024**2
"""Bytes of one line of a stream at most. The API server's own limit of an object is below 3 MiB."""


class Transport(Protocol):
    """A connection to an API server; each method raises a ``KubeError``."""

    async def read(self, request: Request) -> bytes:
        """Return the answer's body."""

    def lines(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Enter when the server has begun to answer; then the answer comes line by line."""


async def call(api: Transport, request: Request) -> dict[str, Any]:
    """Return the answer to a request as JSON; an empty mapping when it is none."""
    text = await api.read(request)
    try:
        answer = json.loads(text) if text else {}
    except ValueError as error:
        raise Unreachable(f"what answers is no API server: {error}: {text[:100]!r}") from error
    return answer if isinstance(answer, dict) else {}


class Connection:
    """To one API server. Made on first use, in the running loop.

    Parameters
    ----------
    credentials
        Asked for once.
    """

    def __init__(self, credentials: Callable[[], Awaitable[Credentials]] = load) -> None:
        self._load = credentials
        self._lock = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    async def read(self, request: Request) -> bytes:
        """See ``Transport.read``."""
        limits = aiohttp.ClientTimeout(total=request.read_seconds, connect=CONNECT_SECONDS)
        response = await self._send(request, limits)
        with _explained(self._credentials.server):
            async with response:
                if request.last_bytes is None:
                    return await response.read()
                kept = bytearray()
                async for chunk in response.content.iter_any():
                    kept += chunk
                    del kept[: -request.last_bytes]
                return bytes(kept)

    @asynccontextmanager
    async def lines(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        """See ``Transport.lines``."""
        limits = aiohttp.ClientTimeout(connect=CONNECT_SECONDS, sock_read=request.read_seconds)
        response = await self._send(request, limits)
        try:
            # What the caller raises in between is theirs, and passes as it is.
            async with aclosing(_lines(response, self._credentials.server)) as received:
                yield received
        finally:
            response.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None
            await self._closed()

    async def _closed(self) -> None:
        # aiohttp ends TLS in the background and tells nobody; an event loop that ends before leaves sockets open.
        end = time.monotonic() + CLOSING_SECONDS
        while any(each.fileno() >= 0 for each in self._sockets) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(CLOSING_PAUSE_SECONDS)

    async def _send(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        http = await self._connected()
        credentials = self._credentials
        headers = await self._headers(request)
        with _explained(credentials.server):
            response = await http.request(
                request.verb,
                URL(credentials.server + request.path),
                params=dict(request.query),
                headers=headers,
                data=None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode(),
                timeout=limits,
                allow_redirects=False,  # the token is for this server alone
                proxy=credentials.proxy,
                server_hostname=credentials.server_name,
            )
            if response.status >= 300:
                async with response:
                    raise _refusal(response, await response.text(errors="replace"))
        return response

    async def _headers(self, request: Request) -> dict[str, str]:
        # Not compressed: gzip costs the server more than the network within a cluster gains.
        headers = {"Accept": request.accept, "Accept-Encoding": "identity", "Content-Type": request.content_type}
        authorization = await self._credentials.authorization()
        return headers | ({"Authorization": authorization} if authorization else {})

    async def _connected(self) -> aiohttp.ClientSession:
        async with self._lock:
            if self._http is None:
                self._credentials = await self._load()
                connector = aiohttp.TCPConnector(ssl=self._credentials.tls, limit=0, socket_factory=self._socket)
                self._http = aiohttp.ClientSession(connector=connector)
            return self._http

    def _socket(self, address: AddrInfoType) -> socket.socket:
        made = _kept_alive(address)
        self._sockets.add(made)
        return made


def _kept_alive(address: AddrInfoType) -> socket.socket:
    sock = socket.socket(*address[:3])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


async def _lines(response: aiohttp.ClientResponse, server: str) -> AsyncGenerator[bytes]:
    # Not response.content's own lines: they end at 128 KiB, and an object may be larger.
    rest = b""
    with _explained(server):
        async for chunk in response.content.iter_any():
            *complete_lines, rest = (rest + chunk).split(b"\n")
            for line in complete_lines:
                if line:
                    yield line
            if len(rest) > MAX_LINE:
                raise Unreachable(f"{server} sends a line without an end")
    if rest:
        yield rest


@contextmanager
def _explained(server: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise Unreachable(f"{server} does not answer: {reason}") from error


def _refusal(response: aiohttp.ClientResponse, text: str) -> Expired | HttpError:
    if response.status == 410:
        return Expired(text[:500])
    wait = response.headers.get("Retry-After", "")
    return HttpError(response.status, text, float(wait) if wait.isdigit() else None)
