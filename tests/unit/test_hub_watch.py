"""What the Hub keeps of sessions and profiles, how it finds one of them, and what it says when it cannot see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import pytest

from af_client.errors import Forbidden, Unreachable, from_response
from af_client.hub import names
from af_client.hub.sessions import HubSessions, Ref
from af_operator.components import shipped
from af_operator.views import HubServer
from af_operator.world import World
from tests.support.fake_api import FakeApi
from tests.support.list_watch_server import until
from tests.support.spawner_bench import session_path


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def sessions(api: FakeApi) -> AsyncIterator[HubSessions]:
    sessions = HubSessions(api)
    yield sessions
    await sessions.close()


async def apply(api: FakeApi, name: str, namespace: str = "physics", **spec: Any) -> dict[str, Any]:
    return await api.put(session_path(name, namespace), {"spec": {"user": "alice", "notebook": {}} | spec})


async def test_one_is_found_without_a_look_at_those_of_other_users(
    api: FakeApi, sessions: HubSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    server_name = names.server_name

    def counted(body: Any) -> str | None:
        looked_at.append(body["metadata"]["name"])
        return server_name(body)

    for n in range(50):
        await apply(api, f"other-{n}", user=f"user-{n}")
    await apply(api, "z")
    await apply(api, "y")
    await sessions.ready()
    monkeypatch.setattr(names, "server_name", counted)
    found = sessions.find("alice", "z")
    assert found is not None
    assert found.name == "z"
    assert sorted(looked_at) == ["y", "z"]


async def test_one_that_goes_or_changes_its_server_is_not_found_any_more(api: FakeApi, sessions: HubSessions) -> None:
    await apply(api, "z")
    await sessions.ready()
    await apply(api, "z", notebook={"serverName": "another"})
    await until(lambda: sessions.find("alice", "another"))
    assert sessions.find("alice", "z") is None
    await api.drop(session_path("z", "physics"))
    await until(lambda: sessions.find("alice", "another") is None)


async def test_of_two_both_show_the_same_one(api: FakeApi, sessions: HubSessions) -> None:
    old, young = (session_path(name, "physics") for name in ("old", "young"))
    for path, phase in ((old, "Refused"), (young, "Ready")):
        await apply(api, path.rpartition("/")[2], mode="Interactive", notebook={"serverName": "z"})
        await api.say(path, phase)
    edited = deepcopy(api.objects[old])
    edited["spec"]["image"] = "another"
    await api.put(old, edited)
    await sessions.ready()
    world = World(shipped())
    for path in (old, young):
        world.learn_session(api.objects[path])
    found = sessions.find("alice", "z")
    assert found is not None
    shown_by_the_operator = world.sessions_of(HubServer("alice", "z"))
    assert [found.name, *(s.name for s in shown_by_the_operator)] == ["young", "young", "old"]


async def test_the_text_of_a_program_is_not_kept(api: FakeApi, sessions: HubSessions) -> None:
    run = {"command": ["python", "a.py"], "source": {"files": {"a.py": "x" * 1000}}}
    body = await apply(api, "z", run=run)
    await sessions.ready()
    kept = sessions.get(Ref.of(body))
    assert kept is not None
    assert kept.body["spec"]["run"] == {"command": ["python", "a.py"]}


async def test_of_several_namespaces_all_must_be_seen(api: FakeApi) -> None:
    sessions = HubSessions(api, ["atlas", "cms"])
    await apply(api, "z", "atlas")
    await apply(api, "z", "cms", user="bob")
    assert await sessions.ready()
    assert {r.path.split("/")[-2] for r in api.requests} == {"atlas", "cms"}
    assert sessions.watches("cms")
    assert not sessions.watches("physics")
    assert sessions.find("alice", "z")
    assert sessions.find("bob", "z")
    await sessions.close()
    refused = HubSessions(api, ["atlas", "cms"])
    api.refuse["GET"] = [from_response(403, '{"message": "cms is not for you"}')] * 100
    assert not await refused.ready(0.1)
    assert not refused.fresh
    await refused.close()


async def test_why_not_is_said_in_words(api: FakeApi, sessions: HubSessions) -> None:
    api.refuse["GET"] = [from_response(403, '{"message": "not for you"}')] * 1000
    assert not await sessions.ready(0.1)
    assert isinstance(sessions.failure, Forbidden)
    assert "not for you" in str(sessions.failure)
    api.refuse.clear()
    await until(lambda: sessions.failure is None)
    assert await sessions.ready()


async def test_what_the_stream_says_is_in_words_too(
    api: FakeApi, sessions: HubSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sessions.ready()
    monkeypatch.setattr(api, "_told", lambda _: garbled())
    await api.go_away()
    await until(lambda: "reset" in str(sessions.failure))
    await api.go_away(False)
    await until(lambda: "cannot be read" in str(sessions.failure))
    assert isinstance(sessions.failure, Unreachable)


async def garbled() -> AsyncIterator[bytes]:
    yield b"{"


async def test_profiles_are_told_by_the_same_watch_for_all_servers(api: FakeApi, sessions: HubSessions) -> None:
    await api.put("/apis/analysisfacility.io/v1alpha1/analysisprofiles/default", {"spec": {}})
    assert sessions.profiles.objects == []
    assert await sessions.profiles.ready()
    assert [body["metadata"]["name"] for body in sessions.profiles.objects] == ["default"]
    await sessions.profiles.ready()
    assert len([r for r in api.requests if "watch" not in r.query]) == 1
