"""Two JupyterHubs for the same tests: one of a few lines, and the real one without proxy and without servers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen

from aiohttp import web

from af_operator.hub import SCOPES
from af_operator.views import HubServer

UGLY = "ann nováková@example.org?x=%2f#1"
USERS = ("alice", "bob", "carol", "dave", "erin", UGLY)
"""Those who have logged in once. JupyterHub knows nobody with a slash in the name."""
PAGE = 2
"""Users that a page has at most, so that there is more than one."""
WITHOUT = {f"without-{scope.replace(':', '-')}": tuple(s for s in SCOPES if s != scope) for scope in SCOPES}
ROLES: dict[str, tuple[str, ...]] = {"af-operator": SCOPES, "another": SCOPES, **WITHOUT}
"""Service to the scopes of its role; a service's token is token-of-<service>."""

CONFIG = """
import asyncio
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SpawnException, Spawner

class NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {{}}

class NoServer(Spawner):
    up = False
    async def start(self):
        if self.name == "broken":
            raise SpawnException("no node has room for it", reason="test")
        if self.name == "late":
            await asyncio.sleep(1)
            raise SpawnException("no node has room for it", reason="test")
        if self.name == "slow":
            await asyncio.sleep(3)
        self.up = True
        return "{url}"
    async def stop(self, now=False): self.up = False
    async def poll(self): return None if self.up else 0
    def get_state(self): return {{**super().get_state(), "up": self.up}}
    def load_state(self, state): self.up = state.get("up", False)

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = NoServer
c.JupyterHub.hub_bind_url = "{url}"
c.JupyterHub.bind_url = "http://127.0.0.1:{unused}"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.cleanup_servers = False
c.JupyterHub.api_page_max_limit = {page}
c.JupyterHub.init_spawners_timeout = 1
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0.5}}
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "not used in these tests"
c.Authenticator.allowed_users = set({users})
c.JupyterHub.services = [{{"name": s, "api_token": "token-of-" + s}} for s in {services}] + [
    {{"name": "test", "api_token": "token-of-test", "admin": True}}]
c.JupyterHub.load_roles = [{{"name": s, "scopes": list(scopes), "services": [s]}} for s, scopes in {roles}.items()]
"""


class AnyHub(Protocol):
    """A Hub that a test can look into."""

    url: str

    async def asked(self, server: HubServer) -> int: ...
    async def stop_server(self, server: HubServer) -> None: ...
    async def leave(self) -> None: ...
    async def come_back(self) -> None: ...


def path_of(server: HubServer) -> str:
    user, name = quote(server.user, safe=""), quote(server.server, safe="")
    return f"/users/{user}/servers/{name}" if name else f"/users/{user}/server"


PORTS = range(10_000, 30_000)
"""Below those that the kernel gives to whoever connects: what is free now is so still when its server starts."""


@cache
def _ports() -> Iterator[int]:
    """Return ports in an order of our own, apart from those of the workers beside us."""
    worker, workers = (os.environ.get(f"PYTEST_XDIST_WORKER{name}", "") for name in ("", "_COUNT"))
    mine = PORTS[int(worker.removeprefix("gw") or 0) :: int(workers or 1)]
    return iter(random.sample(mine, len(mine)))


def free_port() -> int:
    """Return a port that nobody listens at, and that is given to nobody else."""
    for port in _ports():
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class RealHub:
    """JupyterHub itself, as a process on loopback."""

    def __init__(self, folder: Path) -> None:
        self.root = f"http://127.0.0.1:{free_port()}"
        self.url = f"{self.root}/hub/api"
        self._folder = folder
        self._log = folder / "hub.log"
        names = {"users": list(USERS), "services": list(ROLES), "roles": ROLES}
        config = CONFIG.format(url=self.root, unused=free_port(), page=PAGE, **names)
        (folder / "jupyterhub_config.py").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub"],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "CONFIGPROXY_AUTH_TOKEN": "no-proxy"},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urlopen(f"{self.root}/hub/health", timeout=1):  # noqa: S310 - ours, on loopback
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"JupyterHub did not start:\n{self._log.read_text()}")

    def end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    async def asked(self, server: HubServer) -> int:
        return len(
            re.findall(rf"JupyterHub log:\d+\] \d+ POST /hub/api{re.escape(path_of(server))} ", self._log.read_text())
        )

    async def stop_server(self, server: HubServer) -> None:
        status, _ = self.request("DELETE", path_of(server), "test")
        assert status in (202, 204)

    def clear(self) -> None:
        """Stop every server, and wait for it."""
        end = time.monotonic() + 20
        while users := self.request("GET", "/users?state=active", "test")[1]:
            assert time.monotonic() < end, "servers do not stop"
            for user in users:
                for name in user["servers"]:
                    self.request("DELETE", path_of(HubServer(user["name"], name)), "test")

    async def leave(self) -> None:
        self.end()

    async def come_back(self) -> None:
        self.begin()

    def request(self, method: str, path: str, service: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"token token-of-{service}"}
        data = None if body is None else json.dumps(body).encode()
        asked = Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310 - ours, on loopback
        try:
            with urlopen(asked, timeout=10) as answer:  # noqa: S310
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except OSError as error:
            return getattr(error, "code", 0), None


class FakeHub:
    """What the operator uses of the API, as the real one answers."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/hub/api"
        self.posts: list[HubServer] = []
        self.answers: list[web.Response] = []
        """What to answer instead, first to last."""
        self.polls = 0
        """How often it was asked who is there."""
        self._servers: dict[HubServer, dict[str, Any]] = {}
        self._runner: web.AppRunner | None = None

    async def come_back(self) -> None:
        app = web.Application()
        app.router.add_get("/hub/api/users", self._users)
        app.router.add_post("/hub/api/users/{user}/servers/{server}", self._start)
        app.router.add_post("/hub/api/users/{user}/server", self._start)
        app.router.add_get("/hub/api/users/{user}/servers/late/progress", self._progress)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def leave(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def asked(self, server: HubServer) -> int:
        return self.posts.count(server)

    async def stop_server(self, server: HubServer) -> None:
        del self._servers[server]

    def use(self, server: HubServer, last_activity: Any) -> None:
        """Say when a server was last used."""
        self._servers[server]["last_activity"] = last_activity

    async def _users(self, request: web.Request) -> web.Response:
        self.polls += request.query["offset"] == "0"
        if self.answers:
            return self.answers.pop(0)
        scopes = self._scopes(request)
        if "list:users" not in scopes:
            return _error(403, "Action is not authorized with current scopes; requires any of [list:users]")
        active = sorted({s.user for s in self._servers})
        offset, limit = int(request.query["offset"]), min(PAGE, int(request.query["limit"]))
        items = [self._user(u, "read:servers" in scopes) for u in active[offset : offset + limit]]
        following = {"offset": offset + limit} if offset + limit < len(active) else None
        return web.json_response({"items": items, "_pagination": {"next": following}})

    def _user(self, user: str, with_servers: bool) -> dict[str, Any]:
        servers = {s.server: model for s, model in self._servers.items() if s.user == user}
        return {"name": user, **({"servers": servers} if with_servers else {})}

    async def _start(self, request: web.Request) -> web.Response:
        name = request.raw_path.rpartition("/")[2] if "server" in request.match_info else ""
        server = HubServer(unquote(request.raw_path.split("/")[4]), unquote(name))
        self.posts.append(server)
        if "start:servers" not in self._scopes(request):
            return _error(403, "Action is not authorized with current scopes; requires any of [start:servers]")
        if server.user not in USERS:
            return _error(404, "Not Found")
        if not re.fullmatch(r"[-a-z0-9]*", server.server):
            return _error(400, f"Invalid server_name: {server.server!r}")
        if server in self._servers:
            return _error(400, f"{server.user}:{server.server} is already running")
        if server.server == "broken":
            return _error(500, "no node has room for it")
        if server.server == "late":
            asyncio.get_running_loop().call_later(0.5, self._servers.pop, server)
        slow = server.server in ("slow", "late")
        self._servers[server] = {"ready": not slow, "pending": "spawn" if slow else None}
        return web.Response(status=202 if slow else 201)

    async def _progress(self, request: web.Request) -> web.Response:
        event = {"progress": 100, "failed": True, "message": "Spawn failed: no node has room for it"}
        return web.Response(text=f"data: {json.dumps(event)}\n\n", content_type="text/event-stream")

    @staticmethod
    def _scopes(request: web.Request) -> Iterable[str]:
        return ROLES.get(request.headers["Authorization"].removeprefix("token token-of-"), ())


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"status": status, "message": message}, status=status)
