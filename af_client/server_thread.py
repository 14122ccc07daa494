"""A port of this machine that an event loop in a thread serves, as long as a context lasts."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Self


class ServerThread(ABC):
    """The base of who listens; use it as a context manager.

    Attributes
    ----------
    port
        At which it listens.
    """

    def __init__(self, name: str) -> None:
        self._listening: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)

    def __enter__(self) -> Self:
        """Listen; raises what keeps it from that."""
        self._thread.start()
        self.port = self._listening.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._begin())
        except BaseException as error:
            if self._listening.done():
                raise
            self._listening.set_exception(error)

    async def _begin(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        await self._serve()

    @abstractmethod
    async def _serve(self) -> None:
        """Listen, say at which port (`_listening`), and serve until it is `_over`."""
