"""A notebook server as its user has it: kernels and terminals, over their websockets."""

from __future__ import annotations

import base64
import re
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from tests.support.tenant import ENVIRONMENT, Tenant

SECONDS = 120


@dataclass(frozen=True)
class Lab:
    """Where a server is, with its path, and its token."""

    url: str
    token: str

    @asynccontextmanager
    async def kernel(self) -> AsyncIterator[Kernel]:
        """Start a kernel, and end it with the block."""
        async with self._made("kernels") as (client, kernel):
            channels = exact(f"{self.url}api/kernels/{kernel['id']}/channels")
            async with client.ws_connect(channels, max_msg_size=0) as socket:
                yield Kernel(socket)

    @asynccontextmanager
    async def terminal(self) -> AsyncIterator[Terminal]:
        """Open a terminal, and close it with the block."""
        async with (
            self._made("terminals") as (client, made),
            client.ws_connect(exact(f"{self.url}terminals/websocket/{made['name']}")) as socket,
        ):
            yield Terminal(socket)

    @asynccontextmanager
    async def _made(self, what: str) -> AsyncIterator[tuple[aiohttp.ClientSession, Mapping[str, Any]]]:
        async with aiohttp.ClientSession(headers={"Authorization": f"token {self.token}"}) as client:
            async with client.post(exact(f"{self.url}api/{what}"), json={}) as response:
                assert response.ok, await response.text()
                made = await response.json()
            yield client, made
            await client.delete(exact(f"{self.url}api/{what}/{made.get('id') or made['name']}"))


def exact(url: str) -> URL:
    """Return a URL as a browser asks for it: %3A stays."""
    return URL(url, encoded=True)


@dataclass(frozen=True)
class Kernel:
    """One that runs."""

    socket: aiohttp.ClientWebSocketResponse

    async def run(self, code: str) -> str:
        """Run a cell, and return what it prints, its traceback and its value too."""
        message = uuid.uuid4().hex
        header = {"msg_id": message, "msg_type": "execute_request", "session": "s", "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self.socket.send_json(request)
        said = ""
        while True:
            found = await self.socket.receive_json(timeout=SECONDS)
            content, kind = found["content"], found["msg_type"]
            if found["parent_header"].get("msg_id") != message:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                return said
            said += str(content.get("text", "")) + "\n".join(content.get("traceback", ()))
            said += str(content.get("data", {}).get("text/plain", "")) if kind == "execute_result" else ""


class Terminal:
    """One that is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.shown = ""

    async def type(self, text: str, until: str) -> str:
        """Type, and return what is shown from then on, as soon as it has a match of `until`."""
        await self._socket.send_json(["stdin", text])
        shown = ""
        while not re.search(until, shown):
            kind, *rest = await self._socket.receive_json(timeout=30)
            shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", rest[0]) if kind == "stdout" else ""
        return shown


@contextmanager
def lab(tenant: Tenant, session: str) -> Iterator[Lab]:
    """Forward a port to the notebook of a session, until the end of the block."""
    get = ("-o", "jsonpath={.data.JUPYTER_TOKEN}")
    token = tenant.kubectl("get", "secret", f"{session}-notebook", *get)
    path = URL(tenant.session(session)["status"]["endpoints"]["notebook"], encoded=True).raw_path
    pod = f"pod/{session}-notebook-0"
    argv = ["kubectl", "-n", tenant.namespace, "port-forward", pod, ":8888", "--address=127.0.0.1"]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            port = re.search(r":(\d+) ->", process.stdout.readline())
            assert port, "kubectl forwards nothing"
            yield Lab(f"http://127.0.0.1:{port[1]}{path}", base64.b64decode(token).decode())
        finally:
            process.terminate()
