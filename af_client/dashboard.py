"""Dask's dashboard for a browser of this machine: passed on to with the session's token, which a browser cannot show.

Other users of the machine reach the port as well, and so do pages of other sites in its browsers. So all is below a
path that only who was told it can ask for; the dashboard's own links are relative, and stay below it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Self

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, DummyCookieJar, WSMsgType, web
from yarl import URL

from af_client.forward import HOST
from af_client.server_thread import ServerThread

ASKED_WITH = ("Accept", "Accept-Encoding", "Content-Type", "If-None-Match", "If-Modified-Since", "Range")
"""Headers that are passed on: no cookies, which a browser has for all ports of a machine."""
OF_A_CONNECTION = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "Set-Cookie")
WebSocket = web.WebSocketResponse | ClientWebSocketResponse


class Dashboard(ServerThread):
    """A server in a thread, as long as the context lasts.

    Parameters
    ----------
    port
        Of this machine, that is the dashboard's.
    token
        What it lets in.
    host
        Address of this machine at which that port is.

    Attributes
    ----------
    url
        Without a slash at the end. Who has it may ask.
    """

    def __init__(self, port: int, token: str, host: str = HOST) -> None:
        super().__init__("dashboard")
        self._there = f"http://{host}:{port}"
        self._token = token
        self._path = f"/{secrets.token_hex(16)}"

    def __enter__(self) -> Self:
        super().__enter__()
        self.url = f"http://{HOST}:{self.port}{self._path}"
        return self

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", self._path + "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        async with ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False) as self._client:
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            self._listening.set_result(runner.addresses[0][1])
            await self._over.wait()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        url = URL(self._there + request.raw_path.removeprefix(self._path), encoded=True)
        headers = {name: request.headers[name] for name in ASKED_WITH if name in request.headers}
        headers["Authorization"] = f"Bearer {self._token}"
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, url, headers)
            return await self._page(request, url, headers)
        except (ClientError, TimeoutError) as error:
            raise web.HTTPBadGateway(text=f"the dashboard does not answer: {error}") from error

    async def _page(self, request: web.Request, url: URL, headers: dict[str, str]) -> web.StreamResponse:
        body = request.content if request.can_read_body else None
        asked = self._client.request(request.method, url, headers=headers, data=body, allow_redirects=False)
        async with asked as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            response.headers.extend(answer.headers)
            for name in OF_A_CONNECTION:
                response.headers.popall(name, None)
            if response.headers.get("Location", "").startswith("/"):
                response.headers["Location"] = self._path + response.headers["Location"]
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
        return response

    async def _websocket(self, request: web.Request, url: URL, headers: dict[str, str]) -> web.WebSocketResponse:
        # Bokeh speaks the first, and tells by the second which document it is about.
        protocols = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        here = web.WebSocketResponse(protocols=protocols[:1], max_msg_size=0)
        async with self._client.ws_connect(url, headers=headers, protocols=protocols, max_msg_size=0) as there:
            await here.prepare(request)
            ways = [asyncio.ensure_future(_messages(one, other)) for one, other in ((here, there), (there, here))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await here.close()
        return here


async def _messages(one: WebSocket, other: WebSocket) -> None:
    """Pass on what one says until it has no more to say."""
    async for message in one:
        if message.type is WSMsgType.TEXT:
            await other.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await other.send_bytes(message.data)
