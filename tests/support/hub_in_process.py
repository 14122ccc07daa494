"""The real JupyterHub in the test's own event loop, with the spawner on a fake API server and no proxy."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from html import unescape
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
from aiohttp import web
from jupyterhub import __version__
from jupyterhub.app import JupyterHub
from jupyterhub.proxy import Proxy
from traitlets.config import Config

from af_client.hub.sessions import HubSessions
from af_client.hub.spawner import AnalysisSessionSpawner
from tests.support.fake_api import FakeApi
from tests.support.hubs import free_port
from tests.support.spawner_bench import GOOD

USERS = {"alice", "bob"}


class NoProxy(Proxy):
    should_start = False

    async def add_route(self, *_: Any) -> None: ...
    async def delete_route(self, *_: Any) -> None: ...
    async def get_all_routes(self) -> dict[str, Any]:
        return {}


class QuietHub(JupyterHub):
    def init_signal(self) -> None: ...
    def load_config_file(self, *_: Any, **__: Any) -> None: ...


class HubInProcess:
    """`operator` tells what the operator says of each session that is not suspended; None: it is away."""

    UNTIL_SECONDS = 15

    def __init__(self, api: FakeApi, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.operator: tuple[Any, ...] | None = ("Ready", *GOOD)
        self.answers = True
        """Whether the notebook servers answer."""
        self.url = f"http://127.0.0.1:{free_port()}"
        self._behind = free_port()
        self.http = aiohttp.ClientSession(headers={"Authorization": "token token-of-test"})
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        QuietHub.clear_instance()
        self.hub = QuietHub.instance(config=self._config())
        await self.hub.initialize([])
        await self.hub.start()

    def answer_before_the_end(self) -> None:
        """Answer 202 to a start that has not ended at once."""
        self.hub.tornado_application.settings["slow_spawn_timeout"] = 0.1

    async def end(self) -> None:
        """End it as a container's does: servers stay."""
        for user in self.hub.users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
        self.hub.cleanup_servers = self.hub.cleanup_proxy = False
        await self.hub.cleanup()
        for sessions in self.hub.spawner_class._shared.values():
            await sessions.close()
        self.hub.http_server.stop()
        await self.hub.http_server.close_all_connections()
        self.hub.db.close()
        QuietHub.clear_instance()

    def _config(self) -> Config:
        api, behind = self.api, f"http://127.0.0.1:{self._behind}"

        class OnFake(AnalysisSessionSpawner):
            _shared: ClassVar[dict[tuple[str, ...], HubSessions]] = {}

            @staticmethod
            def transport() -> Any:
                return api

            async def start(self) -> str:
                await super().start()
                return behind

        hub = {
            "proxy_class": NoProxy,
            "spawner_class": OnFake,
            "bind_url": f"http://127.0.0.1:{free_port()}",
            "hub_bind_url": self.url,
            "allow_named_servers": True,
            "cleanup_servers": False,
            "db_url": f"sqlite:///{self.folder}/hub.sqlite",
            "cookie_secret_file": str(self.folder / "cookie_secret"),
            "authenticator_class": "shared-password",
            "services": [{"name": "test", "api_token": "token-of-test", "admin": True}],
            # Longer than any start here takes, however busy the machine: so that 201 means up.
            "tornado_settings": {"slow_spawn_timeout": 15},
            "log_level": 40,
        }
        return Config(
            JupyterHub=hub,
            ConfigurableHTTPProxy={"auth_token": "none"},
            Authenticator={"allowed_users": USERS},
            SharedPasswordAuthenticator={"user_password": "only for these tests"},
            Spawner={"http_timeout": 2, "consecutive_failure_limit": 2},
            AnalysisSessionSpawner={"start_timeout": 20, "namespace_template": "physics"},
        )

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body)
        async with self.http.request(method, f"{self.url}/hub/api{path}", data=data) as answer:
            return answer.status, await answer.text()

    async def server(self, user: str, name: str) -> dict[str, Any]:
        _, text = await self.ask("GET", f"/users/{quote(user, safe='')}?include_stopped_servers")
        return dict(json.loads(text).get("servers", {}).get(name, {}))

    async def until(self, user: str, name: str, **wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(self.UNTIL_SECONDS):
            while True:
                found = await self.server(user, name)
                if all(found.get(k) == v for k, v in wanted.items()):
                    return found
                await asyncio.sleep(0.05)

    async def operate(self) -> None:
        """Say of every session that runs what the operator would; as it does, only if it says something new."""
        while True:
            for path, body in list(self.api.objects.items()):
                current = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
                if self.operator and "/analysissessions/" in path and not body["spec"].get("suspend") and not current:
                    await self.api.say(path, *self.operator)
            await asyncio.sleep(0.02)

    async def serve(self) -> None:
        """Be the notebook server of everybody."""

        async def answer(_: web.Request) -> web.Response:
            if not self.answers:
                return web.Response(status=503)
            return web.Response(headers={"X-JupyterHub-Version": __version__})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._behind).start()

    @classmethod
    @asynccontextmanager
    async def opened(cls, api: FakeApi, folder: Path) -> AsyncIterator[HubInProcess]:
        found = cls(api, folder)
        await found.serve()
        operator = asyncio.create_task(found.operate())
        await found.begin()
        try:
            yield found
        finally:
            operator.cancel()
            await found.end()
            await found._runner.cleanup()
            await found.http.close()


class HubBrowser:
    """A login in a browser."""

    def __init__(self, hub: HubInProcess) -> None:
        self.hub, self.http = hub, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def login(self, user: str) -> None:
        async with self.http.get(f"{self.hub.url}/hub/login") as answer:
            page = await answer.text()
        xsrf = re.search(r'name="_xsrf"\s+value="([^"]+)"', page)
        assert xsrf
        form = {"username": user, "password": "only for these tests", "_xsrf": xsrf[1]}
        async with self.http.post(f"{self.hub.url}/hub/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 302

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(f"{self.hub.url}/hub{path}", allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def send(self, path: str, fields: dict[str, str]) -> tuple[int, str]:
        """Send the form of a page, as it stands, with these changes."""
        _, page = await self.get(path)
        action = re.search(r'action="([^"]+)"', page)
        assert action
        async with self.http.post(f"{self.hub.url}{unescape(action[1])}", data=fields, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def events(self, server: str, until: str) -> list[dict[str, Any]]:
        """Return what the page of a starting server is told, up to the first message that begins so."""
        found: list[dict[str, Any]] = []
        async with self.hub.http.get(f"{self.hub.url}/hub/api{server}/progress") as answer:
            with suppress(TimeoutError):
                async with asyncio.timeout(15):
                    async for line in answer.content:
                        if line.startswith(b"data: "):
                            found.append(json.loads(line.removeprefix(b"data: ")))
                            if found[-1]["message"].startswith(until):
                                return found
        raise AssertionError(f"{until!r} was never said: {found}")
