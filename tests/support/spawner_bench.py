"""Servers of JupyterHub on a fake API server: JupyterHub's own objects and database, without its web server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from jupyterhub import orm
from jupyterhub.oauth.provider import make_provider
from jupyterhub.objects import Hub
from jupyterhub.spawner import SpawnException
from jupyterhub.user import User
from traitlets.config import Config

from af_client.hub.errors import NotStarted
from af_client.hub.sessions import HubSessions
from af_client.hub.spawner import AnalysisSessionSpawner
from tests.support.fake_api import BASE, FakeApi
from tests.support.fake_transport import condition

PROFILE: dict[str, Any] = {
    "spec": {
        "images": [{"name": "analysis", "image": "r/analysis"}, {"name": "ml", "image": "r/ml"}],
        "sizes": [{"name": "small", "cpu": "500m", "memory": "1Gi"}, {"name": "large", "cpu": "4", "memory": "16Gi"}],
        "nodePools": [{"name": "cpu", "maxWorkers": 8}, {"name": "gpu", "gpuResource": "nvidia.com/gpu"}],
        "xcache": {"image": "r/xcache", "origin": "o:1094", "maxSize": "100Gi"},
        "limits": {"workers": 10, "gpus": 2},
        "defaults": {"image": "analysis", "size": "small"},
    },
    "status": {"nodePools": [{"name": "gpu", "gpus": 4, "gpusFree": 3}]},
}
GOOD = (condition("Accepted", True), condition("NotebookReady", True), condition("Ready", True))


def session_path(name: str, namespace: str = "alice") -> str:
    return f"{BASE}/namespaces/{namespace}/analysissessions/{name}"


async def until(happens: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not happens():  # noqa: ASYNC110 (what is waited for has no event of its own)
            await asyncio.sleep(0.01)


async def refused(spawner: AnalysisSessionSpawner) -> NotStarted:
    """Start a server, and return why it does not."""
    with pytest.raises(NotStarted) as error:
        await spawner.start()
    assert isinstance(error.value, SpawnException)  # which does not count towards consecutive_failure_limit
    assert "Next: " in error.value.jupyterhub_message
    return error.value


class Bench:
    """A Hub's users and servers; `restart` makes the same again from what is in the database."""

    def __init__(self, **traits: Any) -> None:
        self.api = FakeApi()
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        self.db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri=""))
        orm_role = orm.Role(name="server", scopes=["users:activity!user", "access:servers!server"])
        self.db.add_all([orm_role, orm.Role(name="user", scopes=["self"])])
        self.db.commit()
        self.config = Config({"AnalysisSessionSpawner": {"start_timeout": 30} | traits})
        self.restart()

    def restart(self) -> None:
        api = self.api

        class OnFake(AnalysisSessionSpawner):
            _shared: ClassVar[dict[tuple[str, ...], HubSessions]] = {}

            @staticmethod
            def transport() -> Any:
                return api

        self._class, self._users = OnFake, {}

    def user(self, name: str = "alice") -> User:
        if name not in self._users:
            row = orm.User.find(self.db, name) or orm.User(name=name)
            self.db.add(row)
            row.roles = [orm.Role.find(self.db, "user")]
            self.db.commit()
            settings = {
                "hub": Hub(),
                "base_url": "/",
                "spawner_class": self._class,
                "config": self.config,
                "allow_named_servers": True,
                "oauth_provider": make_provider(lambda: self.db, url_prefix="", login_url=""),
            }
            self._users[name] = User(row, settings, self.db)
        return self._users[name]

    def spawner(self, server: str = "", user: str = "alice", token: str = "t" * 32) -> AnalysisSessionSpawner:
        spawner = self.user(user).get_or_create_spawner(server, "")
        spawner.api_token = token
        return spawner

    async def offer(self, name: str = "default", **spec: Any) -> None:
        body = PROFILE | {"spec": PROFILE["spec"] | spec}
        await self.api.put(f"{BASE}/analysisprofiles/{name}", body)

    async def apply(self, path: str, user: str = "alice", **spec: Any) -> dict[str, Any]:
        """Apply a session as with kubectl."""
        spec = {"user": user, "mode": "Interactive", "suspend": False, "notebook": {}} | spec
        return await self.api.put(path, {"spec": spec})

    async def operate(self, path: str, phase: str = "Ready", *conditions: dict[str, Any]) -> None:
        """Act as the operator: say this of a session as soon as it is not suspended."""
        await until(lambda: path in self.api.objects and not self.api.objects[path]["spec"].get("suspend"))
        await self.api.say(path, phase, *(conditions or GOOD))

    async def started(self, path: str, server: str = "", user: str = "alice") -> AnalysisSessionSpawner:
        """Return a server that is up, as JupyterHub has it after a start."""
        spawner = self.spawner(server, user)
        _, spawner_url = await asyncio.gather(self.operate(path), spawner.start())
        assert spawner_url
        spawner.start_polling()
        return spawner

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Bench]:
        bench = cls()
        await bench.offer()
        yield bench
        await bench.close()

    async def close(self) -> None:
        for user in self._users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
        for sessions in self._class._shared.values():
            await sessions.close()
        self.db.close()
