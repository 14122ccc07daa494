"""The port to JupyterHub: the same tests against a few lines that answer like it, and against JupyterHub itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from af_operator import hub
from af_operator.hub import SCOPES, Api, JupyterHub
from af_operator.settings import Settings
from af_operator.views import HubRefusal, HubServer, HubView
from tests.support.hubs import PAGE, UGLY, WITHOUT, AnyHub, FakeHub, RealHub, path_of

ZMUMU = HubServer("alice", "zmumu")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"PAUSE": 0.02, "SOON": 0.1, "RETRY": 0.5, "STOPPED": 0.5}.items():
        monkeypatch.setattr(hub, name, seconds)


@pytest.fixture
async def fake_hub() -> AsyncIterator[FakeHub]:
    found = FakeHub()
    await found.come_back()
    yield found
    await found.leave()


@pytest.fixture(scope="module")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    found = RealHub(tmp_path_factory.mktemp("hub"))
    found.begin()
    yield found
    found.end()


@pytest.fixture
def real_hub(shared_hub: RealHub) -> RealHub:
    """The one real Hub, with no server in it."""
    shared_hub.clear()
    return shared_hub


@pytest.fixture(params=["fake", "real"])
def tested(request: pytest.FixtureRequest) -> AnyHub:
    found: AnyHub = request.getfixturevalue(f"{request.param}_hub")
    return found


class Poll:
    """The operator's side: the poll that runs, and what it told."""

    def __init__(self, tested: AnyHub, folder: Path, service: str = "af-operator") -> None:
        self.token = folder.with_suffix(".token")
        self.be(service)
        self.running = True
        self.told: list[frozenset[str] | None] = []
        self.config = Settings(hub_api_url=tested.url, hub_token_file=self.token, hub_poll_seconds=0.1)
        self.hub = JupyterHub(self.config, self.told.append, lambda _: self.running)

    def be(self, service: str) -> None:
        self.token.write_text(f"token-of-{service}\n")

    @property
    def servers(self) -> frozenset[HubServer] | None:
        return self.hub.view().servers

    def refusal(self, server: HubServer) -> HubRefusal | None:
        return self.hub.view().refused.get(server)

    async def until(self, check: Callable[[HubView], Any], seconds: float = 20) -> HubView:
        end = time.monotonic() + seconds
        while not check(self.hub.view()):
            assert time.monotonic() < end, self.hub.view()
            await asyncio.sleep(0.02)
        return self.hub.view()

    async def shows(self, *servers: HubServer) -> HubView:
        return await self.until(lambda v: v.servers == frozenset(servers))

    async def refuses(self, server: HubServer) -> HubRefusal:
        return (await self.until(lambda v: server in v.refused)).refused[server]


Begin = Callable[..., Poll]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    tasks = []

    def new(tested: AnyHub, service: str = "af-operator") -> Poll:
        found = Poll(tested, tmp_path / service, service)
        tasks.append(asyncio.create_task(found.hub.run()))
        return found

    yield new
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(e, asyncio.CancelledError) for e in ended), ended


async def test_a_server_is_started_once_and_shown_and_its_user_concerned(tested: AnyHub, begin: Begin) -> None:
    poll = begin(tested)
    await poll.shows()
    poll.told.clear()
    before = await tested.asked(ZMUMU)
    for _ in range(5):
        poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)
    assert poll.told == [frozenset({"alice"})]
    assert await tested.asked(ZMUMU) == before + 1
    poll.hub.start(ZMUMU)  # a pass that saw the view of a moment ago
    await poll.until(lambda _: not poll.hub._wanted)
    assert await tested.asked(ZMUMU) == before + 1, "it is there: nobody asks again"


@pytest.mark.parametrize("server", [HubServer("alice", ""), HubServer(UGLY, "zmumu"), HubServer(UGLY, "")])
async def test_default_servers_and_ugly_names(tested: AnyHub, begin: Begin, server: HubServer) -> None:
    poll = begin(tested)
    poll.hub.start(server)
    await poll.shows(server)


async def test_all_pages_are_read(tested: AnyHub, begin: Begin) -> None:
    servers = [HubServer(user, "zmumu") for user in ("alice", "bob", "carol", "dave", "erin")]
    assert len(servers) > 2 * PAGE
    poll = begin(tested)
    for server in servers:
        poll.hub.start(server)
    await poll.shows(*servers)


async def test_a_server_on_its_way_up_counts(tested: AnyHub, begin: Begin) -> None:
    poll, slow = begin(tested), HubServer("alice", "slow")
    poll.hub.start(slow)
    view = await poll.shows(slow)
    assert view.refused == {}
    async with aiohttp.ClientSession() as http:
        assert await Api(http, poll.config).start(slow) is None or isinstance(tested, FakeHub)


async def test_one_that_runs_already_is_no_refusal(tested: AnyHub, begin: Begin) -> None:
    poll = begin(tested)
    async with aiohttp.ClientSession() as http:
        api = Api(http, poll.config)
        assert await api.start(ZMUMU) is None
        assert await api.start(ZMUMU) is None


@pytest.mark.parametrize("server", [HubServer("zoe", "zmumu"), HubServer("../admin", "x"), HubServer("zoe", "")])
async def test_an_unknown_user_is_named_and_asked_for_again_later(
    tested: AnyHub, begin: Begin, server: HubServer
) -> None:
    poll = begin(tested)
    before = await tested.asked(server)
    poll.hub.start(server)
    refusal = await poll.refuses(server)
    assert refusal.reason == "UnknownUser"
    assert repr(server.user) in refusal.message
    assert "logged in" in refusal.message
    poll.hub.start(server)
    await poll.until(lambda _: not poll.hub._wanted)
    assert await tested.asked(server) == before + 1, "no second request while it is refused"
    poll.told.clear()
    await poll.until(lambda v: server not in v.refused)
    assert frozenset({server.user}) in poll.told, "its sessions are looked at again"
    poll.hub.start(server)
    await poll.refuses(server)
    assert await tested.asked(server) == before + 2


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("broken", "no node has room for it"),
        ("late", "no node has room for it"),
        ("Big.Name", "Invalid server_name: 'Big.Name'"),
    ],
)
async def test_a_refusal_has_the_hubs_words(tested: AnyHub, begin: Begin, server: str, said: str) -> None:
    poll = begin(tested)
    poll.hub.start(HubServer("alice", server))
    refusal = await poll.refuses(HubServer("alice", server))
    assert refusal == HubRefusal("Refused", f"JupyterHub does not start its server: {said}")


async def test_a_server_that_was_stopped_is_left_alone_for_a_moment(tested: AnyHub, begin: Begin) -> None:
    poll = begin(tested)
    poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)
    await poll.until(lambda _: ZMUMU not in poll.hub._refused)
    before = await tested.asked(ZMUMU)
    await tested.stop_server(ZMUMU)
    assert (await poll.refuses(ZMUMU)).reason == "Stopped"
    poll.hub.start(ZMUMU)
    await poll.until(lambda _: not poll.hub._wanted)
    assert await tested.asked(ZMUMU) == before
    await poll.until(lambda v: ZMUMU not in v.refused)
    poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)


async def test_a_server_whose_session_was_suspended_is_asked_for_as_soon_as_it_runs_again(
    tested: AnyHub, begin: Begin
) -> None:
    poll = begin(tested)
    poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)
    await poll.until(lambda _: ZMUMU not in poll.hub._refused)
    poll.running = False
    await tested.stop_server(ZMUMU)
    poll.hub.look()
    assert (await poll.shows()).refused == {}
    poll.running = True
    poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)


async def test_what_was_suspended_meanwhile_is_not_started(tested: AnyHub, begin: Begin) -> None:
    poll = begin(tested)
    poll.running = False
    before = await tested.asked(ZMUMU)
    poll.hub.start(ZMUMU)
    await asyncio.wait_for(poll.hub.polled.wait(), 10)
    await poll.until(lambda _: not poll.hub._wanted)
    assert await tested.asked(ZMUMU) == before


async def test_a_hub_that_goes_away_is_told_and_asked_nothing(tested: AnyHub, begin: Begin) -> None:
    poll = begin(tested)
    poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)
    poll.told.clear()
    await tested.leave()
    try:
        view = await poll.until(lambda v: v.servers is None)
        assert view.trouble == f"JupyterHub's API at {tested.url} does not answer"
        assert poll.told == [None], "everybody is concerned, once"
        assert poll.hub.start(HubServer("bob", "zmumu")) is None, "no pass waits for it"
    finally:
        await tested.come_back()
    await poll.shows(ZMUMU, HubServer("bob", "zmumu"))
    assert poll.hub.view().trouble == ""


async def test_a_rotated_token_needs_no_restart_and_is_never_told(tested: AnyHub, begin: Begin) -> None:
    with capture_logs() as logs:
        poll = begin(tested, service="wrong")
        view = await poll.until(lambda v: "token" in v.trouble)
        assert view.trouble.startswith("JupyterHub does not accept the operator's token: ")
        poll.be("another")
        await poll.shows()
        poll.hub.start(HubServer("zoe", "x"))
        await poll.refuses(HubServer("zoe", "x"))
        poll.token.unlink()
        assert "cannot read its token" in (await poll.until(lambda v: v.trouble)).trouble
        poll.token.write_text("\n")
        assert "is empty" in (await poll.until(lambda v: "empty" in v.trouble)).trouble
    assert logs
    assert "token-of" not in f"{logs} {view} {poll.hub.view()}"
    assert not structlog.is_configured() or logs


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_scope_is_needed_and_missed_by_name(tested: AnyHub, begin: Begin, scope: str) -> None:
    other = begin(tested)
    other.hub.start(HubServer("bob", "zmumu"))
    await other.shows(HubServer("bob", "zmumu"))
    poll = begin(tested, service=f"without-{scope.replace(':', '-')}")
    if scope == "start:servers":
        poll.hub.start(ZMUMU)
        said = (await poll.refuses(ZMUMU)).message
    else:
        said = (await poll.until(lambda v: len(v.trouble) > 40)).trouble
    assert said.endswith(f"(its role needs the scopes {', '.join(SCOPES)})"), said


BEYOND = [
    ("GET", "/users/alice/tokens", None),
    ("POST", "/users/alice/tokens", {"note": "x"}),
    ("POST", "/users/eve", None),
    ("PATCH", "/users/alice", {"admin": True}),
    ("DELETE", "/users/alice", None),
    ("DELETE", "/users/alice/servers/zmumu", None),
    ("POST", "/users/alice/activity", {"servers": {}}),
    ("GET", "/groups", None),
    ("GET", "/services", None),
    ("GET", "/proxy", None),
    ("GET", "/info", None),
    ("POST", "/shutdown", {}),
    ("GET", "/shares/alice/zmumu", None),
]


@pytest.mark.parametrize(("method", "path", "body"), BEYOND)
def test_the_scopes_allow_nothing_else(real_hub: RealHub, method: str, path: str, body: Any) -> None:
    assert real_hub.request("POST", path_of(ZMUMU), "test")[0] == 201
    assert real_hub.request(method, path, "af-operator", body)[0] in (403, 404)
    if path != "/shares/alice/zmumu":  # nobody but its user shares a server
        assert method != "GET" or real_hub.request(method, path, "test", body)[0] == 200, (
            "the test's own request is one"
        )


def test_the_scopes_show_no_state_and_no_more_of_a_user(real_hub: RealHub) -> None:
    assert real_hub.request("POST", path_of(ZMUMU), "test")[0] == 201
    status, (alice,) = real_hub.request("GET", "/users?state=active", "af-operator")
    assert status == 200
    assert set(alice) == {"kind", "name", "admin", "user_info", "servers"}
    assert "state" not in alice["servers"]["zmumu"]
    assert alice["servers"]["zmumu"]["user_options"] == {}


def test_there_is_a_role_for_each_scope_left_out() -> None:
    assert {tuple(sorted(set(SCOPES) - set(rest))) for rest in WITHOUT.values()} == {(s,) for s in SCOPES}


async def test_one_answer_that_is_lost_is_not_told(fake_hub: FakeHub, begin: Begin) -> None:
    poll = begin(fake_hub)
    poll.hub.start(ZMUMU)
    await poll.shows(ZMUMU)
    poll.told.clear()
    fake_hub.answers.append(web.Response(status=502))
    while fake_hub.answers:
        assert poll.servers == {ZMUMU}
        await asyncio.sleep(0.02)
    await poll.until(lambda _: poll.hub._failures == 0)
    assert poll.told == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 503, "text": '{"message": "busy"}'}, "answers 503"),
        ({"status": 302, "headers": {"Location": "/users"}}, "is not JupyterHub's API"),
        ({"text": "<html>"}, "is not JupyterHub's API"),
        ({"text": "[]"}, "is not JupyterHub's API"),
        ({"text": '{"items": [{"name": "alice", "servers": null}], "_pagination": {}}'}, "is not JupyterHub's API"),
    ],
)
async def test_what_is_not_the_api_is_said(fake_hub: FakeHub, begin: Begin, answer: Any, said: str) -> None:
    fake_hub.answers += [web.Response(**answer) for _ in range(3)]
    assert said in (await begin(fake_hub).until(lambda v: "asked yet" not in v.trouble)).trouble


def test_settings_need_a_token_with_a_url(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hub_token_file"):
        Settings(hub_api_url="http://hub:8081/hub/api")
    with pytest.raises(ValueError, match="hub_api_url"):
        Settings(hub_api_url="hub:8081", hub_token_file=tmp_path)
    with pytest.raises(ValueError, match="hub_base_url"):
        Settings(hub_base_url="/jupyter")
    assert Settings().hub_api_url == ""
