"""The port-forward endpoint of an API server, in front of a little server that stands for a pod."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import WSMsgType, web

PORT_FRAME = (8888).to_bytes(2, "little")
LARGE = 5_000_000


class FakeKubelet:
    """Serves websockets in a thread; what a connection sends is answered by ``answer`` and then closed.

    `codes`: HTTP codes with which the next connections are refused. `trouble`: what the kubelet says of the pod.
    `tls`: what a client must trust.
    `leads_to`: ports of the pod to those of this machine that stand for them.
    """

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.trouble = ""
        self.leads_to: dict[int, int] = {}
        self.open = 0
        self.requests: list[web.Request] = []
        self.url = ""
        self.tls: ssl.SSLContext | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.codes:
            raise _refusal(self.codes.pop(0))
        websocket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await websocket.prepare(request)
        self.open += 1
        try:
            here = self.leads_to.get(int(request.query.get("ports", "0")))
            await (self._lead(websocket, here) if here else self._talk(websocket))
        finally:
            self.open -= 1
        return websocket

    async def _lead(self, websocket: web.WebSocketResponse, here: int) -> None:
        await self._begin(websocket)
        reader, writer = await asyncio.open_connection("127.0.0.1", here)

        async def back() -> None:
            while data := await reader.read(50_000):
                await websocket.send_bytes(b"\x00" + data)
            await websocket.close()

        task = asyncio.create_task(back())
        async for message in websocket:
            writer.write(message.data[1:])
        writer.close()
        await task

    @staticmethod
    async def _begin(websocket: web.WebSocketResponse) -> None:
        await websocket.send_bytes(b"\x00" + PORT_FRAME)
        await websocket.send_bytes(b"\x01" + PORT_FRAME)

    async def _talk(self, websocket: web.WebSocketResponse) -> None:
        await self._begin(websocket)
        async for message in websocket:
            assert message.type is WSMsgType.BINARY
            assert message.data[0] == 0
            if self.trouble:
                await websocket.send_bytes(b"\x01" + self.trouble.encode())
                return
            said = message.data[1:]
            if said == b"large":
                for _ in range(LARGE // 50_000):
                    await websocket.send_bytes(b"\x00" + b"x" * 50_000)
                return
            await websocket.send_bytes(b"\x00" + said.upper())


def _refusal(code: int) -> web.HTTPException:
    return {401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}.get(
        code, web.HTTPServiceUnavailable
    )()


@contextmanager
def kubelet() -> Iterator[FakeKubelet]:
    """Run one."""
    fake, loop = FakeKubelet(), asyncio.new_event_loop()
    app = web.Application()
    app.router.add_get("/{path:.*}", fake.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
