"""When JupyterHub's servers were last used: from JupyterHub itself, and from a few lines that answer like it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from af_operator import hub
from af_operator.hub import JupyterHub
from af_operator.settings import Settings
from af_operator.views import HubServer, HubView, activity_at
from tests.support.hubs import AnyHub, FakeHub, RealHub

ZMUMU, LAB = HubServer("alice", "zmumu"), HubServer("bob", "lab")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"PAUSE": 0.02, "SOON": 0.1}.items():
        monkeypatch.setattr(hub, name, seconds)


@pytest.fixture
async def fake_hub() -> AsyncIterator[FakeHub]:
    found = FakeHub()
    await found.come_back()
    yield found
    await found.leave()


@pytest.fixture
def real_hub(tmp_path: Path) -> Iterator[RealHub]:
    found = RealHub(tmp_path)
    found.begin()
    yield found
    found.end()


class Poll:
    """The operator's side: the poll that runs with the operator's scopes and no others, and whom it told."""

    def __init__(self, tested: AnyHub, folder: Path) -> None:
        (folder / "token").write_text("token-of-af-operator\n")
        self.told: list[frozenset[str] | None] = []
        config = Settings(hub_api_url=tested.url, hub_token_file=folder / "token", hub_poll_seconds=0.1)
        self.hub = JupyterHub(config, self.told.append, lambda _: True)

    @property
    def activity(self) -> dict[HubServer, datetime]:
        return dict(self.hub.view().activity)

    async def until(self, check: Callable[[HubView], Any]) -> HubView:
        end = time.monotonic() + 20
        while not check(self.hub.view()):
            assert time.monotonic() < end, self.hub.view()
            await asyncio.sleep(0.02)
        return self.hub.view()

    async def starts(self, *servers: HubServer) -> None:
        for server in servers:
            self.hub.start(server)
        await self.until(lambda view: view.servers == frozenset(servers))

    async def looks_again(self, fake: FakeHub) -> None:
        """Wait for what comes of a poll that began later than now: the next but one has begun."""
        seen = fake.polls
        self.hub.look()
        await self.until(lambda _: fake.polls >= seen + 2)


@asynccontextmanager
async def polled(tested: AnyHub, folder: Path) -> AsyncIterator[Poll]:
    found = Poll(tested, folder)
    running = asyncio.create_task(found.hub.run())
    try:
        yield found
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_jupyterhub_tells_it_to_the_operators_scopes(real_hub: RealHub, tmp_path: Path) -> None:
    async with polled(real_hub, tmp_path) as poll:
        await poll.starts(ZMUMU, LAB)
        _, alice = real_hub.request("GET", "/users/alice", "test")
        assert alice["servers"]["zmumu"]["last_activity"], "JupyterHub counts its start"
        assert poll.activity == {}, "which is no use of it: the operator has asked for it"
        poll.told.clear()

        used = datetime.now(UTC) + timedelta(minutes=7)
        said = {"servers": {"zmumu": {"last_activity": used.isoformat()}}}
        assert real_hub.request("POST", "/users/alice/activity", "test", said)[0] == 200
        await poll.until(lambda view: view.activity)
        assert poll.activity == {ZMUMU: activity_at(used)}
        assert poll.told == [frozenset({"alice"})], "bob's sessions are let be"

        await real_hub.stop_server(ZMUMU)
        await poll.until(lambda view: view.servers == {LAB})
        assert poll.activity == {}, "what is there no more is not remembered for ever"


async def test_who_uses_a_server_is_told_once_in_five_minutes(fake_hub: FakeHub, tmp_path: Path) -> None:
    async with polled(fake_hub, tmp_path) as poll:
        await poll.starts(ZMUMU, LAB)
        poll.told.clear()
        for seconds in range(0, 900, 50):
            fake_hub.use(ZMUMU, f"{NOON + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.123456Z}")
            await poll.looks_again(fake_hub)
            assert poll.activity == {ZMUMU: activity_at(NOON + timedelta(seconds=seconds))}
        assert poll.told == [frozenset({"alice"})] * 3


async def test_a_hub_that_nobody_uses_wakes_nobody(fake_hub: FakeHub, tmp_path: Path) -> None:
    async with polled(fake_hub, tmp_path) as poll:
        await poll.starts(ZMUMU)
        fake_hub.use(ZMUMU, "2026-11-21T12:04:59.9Z")
        await poll.until(lambda view: view.activity)
        poll.told.clear()
        await poll.looks_again(fake_hub)
        assert (poll.told, poll.activity) == ([], {ZMUMU: NOON})


async def test_it_is_kept_while_the_hub_is_away(fake_hub: FakeHub, tmp_path: Path) -> None:
    async with polled(fake_hub, tmp_path) as poll:
        await poll.starts(ZMUMU)
        fake_hub.use(ZMUMU, "2026-11-21T12:03:00Z")
        await poll.until(lambda view: view.activity)
        await fake_hub.leave()
        await poll.until(lambda view: view.servers is None)
        assert poll.activity == {ZMUMU: NOON}
        await fake_hub.come_back()
        await poll.until(lambda view: view.servers is not None)
        assert poll.activity == {ZMUMU: NOON}


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", 1795262400, True, [], {"a": []}),
        *("yesterday", "2026-11-21T12:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"),
        "2026-11-21T12:00:00Z" * 1000,
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_no_time_is_left_out(fake_hub: FakeHub, tmp_path: Path, value: Any) -> None:
    async with polled(fake_hub, tmp_path) as poll:
        await poll.starts(ZMUMU, LAB)
        fake_hub.use(ZMUMU, value)
        fake_hub.use(LAB, "2026-11-21T12:00:00Z")
        view = await poll.until(lambda view: view.activity)
        assert view.activity == {LAB: NOON}, "the other's is told"
        assert view.servers == {ZMUMU, LAB}, "and the server is shown all the same"


async def test_a_hub_that_says_nothing_of_it_is_one_like_any_other(fake_hub: FakeHub, tmp_path: Path) -> None:
    server = {"ready": True, "pending": None}
    body = {"items": [{"name": "alice", "servers": {"zmumu": server}}], "_pagination": {"next": None}}
    fake_hub.answers += [web.json_response(body) for _ in range(3)]
    async with polled(fake_hub, tmp_path) as poll:
        assert (await poll.until(lambda view: view.servers)).servers == {ZMUMU}
        assert poll.activity == {}
