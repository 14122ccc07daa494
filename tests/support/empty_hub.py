"""A JupyterHub in which nobody has a server, and that may be slow to say so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType

from aiohttp import web

from tests.support.web_server import WebServer

NOBODY = {"items": [], "_pagination": {"next": None}}


class EmptyHub:
    """Answers the operator's poll.

    Parameters
    ----------
    directory
        For the operator's token.
    delay
        Seconds before each answer.

    Attributes
    ----------
    answered
        How often it has answered.
    """

    def __init__(self, directory: Path, delay: float = 0.0) -> None:
        self.answered = 0
        self._delay, self._token = delay, directory / "hub-token"
        app = web.Application()
        app.router.add_get("/hub/api/users", self._users)
        self._server = WebServer(app)

    def __enter__(self) -> EmptyHub:
        self._token.write_text("token-of-af-operator\n")
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def settings(self) -> dict[str, str]:
        """The operator's variables for it, without their prefix."""
        return {"HUB_API_URL": f"{self._server.url}/hub/api", "HUB_TOKEN_FILE": str(self._token)}

    async def _users(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self._delay)
        self.answered += 1
        return web.json_response(NOBODY)
