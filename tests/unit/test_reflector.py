"""The watch of the Hub: what it shows is what is so, whatever happens to the connection; and it says when not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from af_client import reflector
from af_client.errors import Unavailable
from af_client.reflector import Key, Reflector
from tests.support.fake_api import BASE, FakeApi
from tests.support.spawner_bench import session_path, until

PATH = session_path("z")
KEY = ("alice", "z")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.setattr(reflector, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reflector, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(reflector, "GRACE_SECONDS", 0.1)
    return FakeApi()


@pytest.fixture
async def watch(api: FakeApi) -> AsyncIterator[Reflector]:
    watch = Reflector(api, f"{BASE}/analysissessions")
    yield watch
    await watch.close()


async def test_it_shows_what_was_there_and_what_comes_changes_and_goes(api: FakeApi, watch: Reflector) -> None:
    await api.put(session_path("before"), {"spec": {}})
    assert await watch.ready()
    assert set(watch.objects) == {("alice", "before")}
    await api.put(PATH, {"spec": {"suspend": False}})
    await until(lambda: KEY in watch.objects)
    await api.put(PATH, {**api.objects[PATH], "spec": {"suspend": True}})
    await until(lambda: watch.objects[KEY]["spec"]["suspend"])
    await api.drop(PATH)
    await until(lambda: KEY not in watch.objects)


async def test_listeners_hear_of_each_change_until_they_do_not_want_to(api: FakeApi, watch: Reflector) -> None:
    heard: list[Key] = []
    watch.listen(heard.append)
    await watch.ready()
    await api.put(PATH, {"spec": {}})
    await until(lambda: heard == [KEY])
    await api.drop(PATH)
    await until(lambda: heard == [KEY, KEY])
    watch.ignore(heard.append)
    await api.put(PATH, {"spec": {}})
    await until(lambda: KEY in watch.objects)
    assert heard == [KEY, KEY]


async def test_what_cannot_be_seen_is_not_gone_and_what_went_meanwhile_is_told(api: FakeApi, watch: Reflector) -> None:
    await api.put(PATH, {"spec": {}})
    await api.put(session_path("stays"), {"spec": {}})
    assert await watch.ready()
    await api.go_away()
    await until(lambda: not watch.fresh)
    assert KEY in watch.objects
    assert watch.failure is not None
    heard: list[Key] = []
    watch.listen(heard.append)
    await api.drop(PATH)
    await api.go_away(False)
    await until(lambda: watch.fresh)
    assert set(watch.objects) == {("alice", "stays")}
    assert KEY in heard
    assert watch.failure is None


async def test_a_version_that_the_server_has_forgotten_makes_it_list_again(api: FakeApi, watch: Reflector) -> None:
    await watch.ready()
    api.expire = True
    await api.put(PATH, {"spec": {}})
    await until(lambda: KEY in watch.objects)
    assert watch.fresh


async def test_it_starts_when_the_api_server_does(api: FakeApi, watch: Reflector) -> None:
    api.away = True
    assert not await watch.ready(0.1)
    api.away = False
    assert await watch.ready(5)


async def test_an_error_that_nobody_thought_of_does_not_make_it_blind(
    api: FakeApi, watch: Reflector, caplog: pytest.LogCaptureFixture
) -> None:
    api.refuse["GET"] = [AttributeError("no such thing"), Unavailable("try again")]
    await watch.ready(0.05)
    assert not watch.fresh
    assert "no such thing" in caplog.text
    await until(lambda: watch.fresh)


async def test_what_we_wrote_is_known_at_once_and_older_news_does_not_undo_it(api: FakeApi, watch: Reflector) -> None:
    await watch.ready()
    body = await api.put(PATH, {"spec": {"suspend": True}})
    newer = {**body, "spec": {"suspend": False}, "metadata": {**body["metadata"], "resourceVersion": "1000"}}
    watch.learn(newer)
    await asyncio.wait_for(watch.changed(0.2), 1)  # the watch tells of the older one meanwhile
    assert watch.objects[KEY]["spec"]["suspend"] is False


async def test_forgetting_one_does_not_take_another_of_its_name(api: FakeApi, watch: Reflector) -> None:
    old = await api.put(PATH, {"spec": {}})
    await watch.ready()
    await api.drop(PATH)
    await api.put(PATH, {"spec": {}})
    await until(lambda: KEY in watch.objects and watch.objects[KEY]["metadata"]["uid"] != old["metadata"]["uid"])
    watch.forget(old)
    assert KEY in watch.objects
