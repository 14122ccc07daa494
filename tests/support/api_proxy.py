"""An HTTP proxy between one client and the API server, that can act at the client's k-th write.

>>> with ApiProxy(server, token, ca) as proxy:
...     process = start_operator(proxy.kubeconfig(path))
...     proxy.at(3, "after", process.kill)

"Before" is before the API server hears of the write, which it then never does; "after" is when it has carried the
write out and the client has not heard of it. Those two are all that a crash between two writes can look like.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

WRITES = ("POST", "PUT", "PATCH", "DELETE")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}
When = Literal["before", "after"]


@dataclass(frozen=True)
class Write:
    """One request that was meant to change something; `status` is None as long as it has no answer."""

    verb: str
    path: str
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.path} {self.status or '-'}"


@dataclass(frozen=True)
class Trap:
    """What is to happen at one write."""

    number: int
    when: When
    act: Callable[[], object]


def counted(write: Write) -> bool:
    """Return whether a write belongs to the work: the Lease is renewed by the clock."""
    return "/leases" not in write.path


class ApiProxy:
    """Forwards to one server with one bearer token; listens on loopback, without encryption.

    Parameters
    ----------
    server
        URL of the API server.
    token
        Whose rights the client has.
    ca
        PEM file that vouches for the server; None for a server without encryption.
    count
        Which writes count, beginning with 1.
    """

    def __init__(
        self, server: str, token: str, ca: Path | None = None, count: Callable[[Write], bool] = counted
    ) -> None:
        self._server, self._token, self._count = server.rstrip("/"), token, count
        self._ssl = ssl.create_default_context(cafile=str(ca)) if ca else None
        self._lock = threading.Lock()
        self._writes: list[Write] = []
        self._trap: Trap | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-proxy", daemon=True)
        self.sprung = threading.Event()
        """Set when what `at` asked for has happened."""

    def __enter__(self) -> ApiProxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def writes(self) -> list[Write]:
        """Every write that counts so far, in order."""
        with self._lock:
            return list(self._writes)

    def at(self, number: int, when: When, act: Callable[[], object]) -> None:
        """Call `act` once, in another thread's time, at the `number`-th write from the beginning."""
        with self._lock:
            self.sprung.clear()
            self._trap = Trap(number, when, act)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here, and return its path."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    async def _start(self) -> None:
        connector = TCPConnector(ssl=self._ssl if self._ssl else False, limit=0)
        self._client = ClientSession(connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False)
        app = web.Application(client_max_size=8 * 1024**2)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        number = self._note(request)
        if self._springs(number, "before"):
            return _hang_up(request)
        try:
            return await self._answer(request, number)
        except (ClientError, ConnectionResetError):
            return _hang_up(request)

    async def _answer(self, request: web.Request, number: int | None) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        headers["Authorization"] = f"Bearer {self._token}"
        body = await request.read()
        url = URL(self._server + request.raw_path, encoded=True)
        async with self._client.request(request.method, url, headers=headers, data=body or None) as upstream:
            self._answered(number, upstream.status)
            if number is not None:
                await upstream.read()
            if self._springs(number, "after"):
                return _hang_up(request)
            kept = {k: v for k, v in upstream.headers.items() if k.lower() not in HOP_BY_HOP}
            answer = web.StreamResponse(status=upstream.status, headers=kept)
            await answer.prepare(request)
            if number is not None:
                await answer.write(await upstream.read())
            else:
                async for chunk in upstream.content.iter_any():  # a watch: as it comes
                    await answer.write(chunk)
            await answer.write_eof()
            return answer

    def _note(self, request: web.Request) -> int | None:
        write = Write(request.method, request.path)
        if request.method not in WRITES or not self._count(write):
            return None
        with self._lock:
            self._writes.append(write)
            return len(self._writes)

    def _answered(self, number: int | None, status: int) -> None:
        if number is not None:
            with self._lock:
                self._writes[number - 1] = replace(self._writes[number - 1], status=status)

    def _springs(self, number: int | None, when: When) -> bool:
        with self._lock:
            trap = self._trap
            if trap is None or (trap.number, trap.when) != (number, when):
                return False
            self._trap = None
        trap.act()
        self.sprung.set()
        return True


def _hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)
