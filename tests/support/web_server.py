"""An aiohttp application on a port of loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
SECONDS = 10
BACKLOG = 4096
"""Connections that wait to be accepted: thousands of clients may come at once."""


class WebServer:
    """Serves as long as its context lasts, at a free port if none is said."""

    url: str

    def __init__(self, app: web.Application, host: str = "127.0.0.1", port: int = 0) -> None:
        self._at = host, port
        # A client that has gone needs no answer any more, least of all one that does not end.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="web-server", daemon=True)

    def __enter__(self) -> WebServer:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the server's thread, and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._at, backlog=BACKLOG).start()
        self.url = f"http://{self._at[0]}:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        # aiohttp ends connections in the background, and tells nobody when. What is left is the loop's own pipe.
        while len(self._loop._selector.get_map()) > 1:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
