"""A port of this machine that is a port of a pod: each connection is a websocket of its own to the API server.

Needs no right but ``pods/portforward`` of this one pod, while ``kubectl port-forward`` also reads the pod. The client
of Kubernetes has a port forward too, but when the other side closes it forgets what has arrived: files end too early.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from af_client.errors import BadInput, ClientError, Forbidden, Unavailable, not_logged_in
from af_client.server_thread import ServerThread
from af_client.transport import WebSocketAddress

if TYPE_CHECKING:  # takes time, which `af --help` must not pay
    from websockets.asyncio.client import ClientConnection

HOST = "127.0.0.1"
PROTOCOL = "v4.channel.k8s.io"
DATA = 0
"""Channel of data; 1 is of what went wrong. A frame begins with its channel; the first of each has only the port."""
CHUNK = 65_536
CLOSE_SECONDS = 2.0
"""For how long the API server is waited for at the end of a websocket, and of its TLS."""
RETRY_SECONDS = 10.0
PAUSE_SECONDS = 0.5

Address = Callable[[], WebSocketAddress]
Say = Callable[[str], None]


class PortForward(ServerThread):
    """A listening port; use it as a context manager. Connections are served in a thread.

    Parameters
    ----------
    address
        Where a websocket for one connection is opened; called for each, in another thread.
    port
        Port of this machine; 0 for a free one.
    say
        Called with what goes wrong later on, once until it is well again.
    """

    def __init__(self, address: Address, port: int = 0, say: Say = lambda _: None) -> None:
        super().__init__("port forward")
        self._address = address
        self._wanted = port
        self._say = say
        self._said = ""

    def __enter__(self) -> Self:
        """Listen.

        Raises
        ------
        BadInput
            The port is taken.
        Forbidden, Unavailable
            The pod cannot be reached.
        """
        return super().__enter__()

    async def _serve(self) -> None:
        async with await self._connect():
            pass  # what is missing is said now, and not in a browser
        server = await self._listen()
        self._listening.set_result(server.sockets[0].getsockname()[1])
        await self._over.wait()
        # Each connection ends by itself now. None is cancelled, and the server is closed when there is none: of one
        # that was taken a moment ago, and has not begun, asyncio would leave the socket open.
        while connections := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(connections)
        server.close()

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._connection, HOST, self._wanted)
        except PermissionError as error:
            raise BadInput(f"port {self._wanted} is not for ordinary users: choose one from 1024 on") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise BadInput(f"port {self._wanted} is taken: choose another, or leave --port out") from error

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve_connection(reader, writer)
        except ClientError as error:
            self._complain(str(error))
        except OSError:
            pass  # one side went away, which is how connections end
        finally:
            writer.close()
            with suppress(OSError):
                await _first(writer.wait_closed(), self._over.wait())
            writer.transport.abort()  # at the end nobody waits for who does not read

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - see above

        connecting = asyncio.ensure_future(self._connect())
        await _first(connecting, self._over.wait())
        if connecting.cancelled():
            return
        # Not cancelled from here on: a socket that is about to be closed would stay open.
        async with connecting.result() as websocket:
            with suppress(ConnectionClosed):  # as by a node that goes away
                await _first(self._upwards(reader, websocket), self._downwards(websocket, writer), self._over.wait())

    async def _connect(self) -> ClientConnection:
        """Open a websocket; tries for a while, since a pod that starts again is away for some seconds."""
        end = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return await self._open()
            except Unavailable:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _open(self) -> ClientConnection:
        from websockets.asyncio.client import connect  # noqa: PLC0415 - see above
        from websockets.exceptions import InvalidStatus, WebSocketException  # noqa: PLC0415 - see above
        from websockets.typing import Subprotocol  # noqa: PLC0415 - see above

        at = await asyncio.to_thread(self._address)
        secure: dict[str, Any] = {}
        if at.url.startswith("https:"):
            secure = {"ssl": at.tls or True} | ({"server_hostname": at.server_name} if at.server_name else {})
        try:
            # No pings: a pod that is busy is not away.
            return await connect(
                f"ws{at.url.removeprefix('http')}",
                subprotocols=[Subprotocol(PROTOCOL)],
                additional_headers=dict(at.headers),
                proxy=at.proxy,
                compression=None,
                max_size=None,
                ping_interval=None,
                close_timeout=CLOSE_SECONDS,
                **secure,
            )
        except InvalidStatus as error:
            raise _refused(error.response.status_code) from error
        except (WebSocketException, TimeoutError, OSError) as error:
            raise Unavailable(f"the API server cannot be reached: {error}") from error

    @staticmethod
    async def _upwards(reader: asyncio.StreamReader, websocket: ClientConnection) -> None:
        while data := await reader.read(CHUNK):
            await websocket.send(bytes((DATA,)) + data)

    async def _downwards(self, websocket: ClientConnection, writer: asyncio.StreamWriter) -> None:
        begun = set()
        async for message in websocket:
            if isinstance(message, str):
                return  # not of this protocol
            channel, data = message[0], message[1:]
            if channel not in begun:
                begun.add(channel)
            elif channel == DATA:
                self._said = ""
                writer.write(data)
                await writer.drain()
            else:
                self._complain(data.decode(errors="replace"))
                return

    def _complain(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


async def _first(*doing: Awaitable[object]) -> None:
    """Return when one of them has ended: HTTP needs no half of a connection."""
    tasks = [asyncio.ensure_future(each) for each in doing]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _refused(code: int) -> ClientError:
    if code == 401:
        return not_logged_in()
    if code == 403:
        return Forbidden("the API server refuses the connection to the pod (403)")
    if code == 404:
        return Unavailable("the pod is not there")
    return Unavailable(f"the pod cannot be reached ({code})")
