"""Lists and watches that go wrong: nothing is lost, nothing is dropped in error, and a list is made only if need be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from af_kube import reflector as reflector_module
from af_kube.reflector import ATTEMPTS, Reflector
from af_kube.store import Change, Key, Store
from tests.support.list_watch_server import (
    Answer,
    ListWatchServer,
    event,
    refusing,
    reset,
    saying,
    status,
    until,
)

ZOE = Key("a", "zoe")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ListWatchServer:
    monkeypatch.setattr(reflector_module, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(reflector_module, "LONGEST_PAUSE", 0.02)
    return ListWatchServer()


@pytest.fixture
async def full(server: ListWatchServer, watch: Reflector, store: Store[Any]) -> None:
    """The store has been filled, and the watch has begun."""
    server.put("zoe")
    assert await watch.ready()
    await until(lambda: server.watches)


def gone(heard: list[Change]) -> list[str]:
    return [change.key.name for change in heard if change.gone]


class TestPages:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("FIRST_PAGE", "PAGE", "LEAST_PAGE"):
            monkeypatch.setattr(reflector_module, name, 2)

    @pytest.fixture
    def names(self, server: ListWatchServer) -> set[str]:
        names = {f"w{n}" for n in range(7)}
        for name in sorted(names):
            server.put(name)
        return names

    async def test_all_are_read(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any], names: set[str]
    ) -> None:
        assert await watch.ready()
        assert {key.name for key in store} == names
        assert [query.get("continue") for query in server.lists] == [None, "page-1", "page-2", "page-3"]

    @pytest.mark.parametrize(
        "fault",
        [reset, refusing(500), refusing(429), saying(b'{"kind": "WidgetList", "it', then=reset), saying(b'{"kind": ')],
        ids=["reset", "500", "429", "broken-off", "garbled"],
    )
    async def test_one_that_fails_is_asked_for_again_and_the_others_are_not(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any], names: set[str], fault: Answer
    ) -> None:
        server.next["list"].extend([server.listed, fault, fault, server.listed, fault])
        assert await watch.ready()
        assert {key.name for key in store} == names
        assert [query.get("continue") for query in server.lists] == [
            *(None, "page-1", "page-1", "page-1"),
            *("page-4", "page-4", "page-6"),
        ]

    async def test_one_that_is_too_old_begins_the_list_anew_and_no_half_of_it_counts(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any], names: set[str]
    ) -> None:
        listed: list[bool] = []

        def compact_once() -> None:
            listed.append(watch.listed)
            if len(server.lists) == 2:
                server.delete("w0")  # which was on the page before
                server.compact()

        server.after_page = compact_once
        assert await watch.ready()
        assert {key.name for key in store} == names - {"w0"}
        assert [query.get("continue") for query in server.lists] == [None, "page-1", "page-2", None, "page-4", "page-5"]
        assert listed == [False] * 5

    async def test_a_list_that_breaks_off_drops_nothing(
        self, server: ListWatchServer, watch: Reflector, heard: list[Change], names: set[str]
    ) -> None:
        await watch.ready()
        await server.cut()
        server.version += 1
        server.compact()
        server.after_page = lambda: server.compact() if len(server.lists) < 12 else None
        await until(lambda: len(server.watches) == 3)  # the second one was told that it is too late
        assert len(server.lists) > 12
        assert gone(heard) == []

    async def test_a_page_that_cannot_be_had_at_all_begins_the_list_anew(
        self, server: ListWatchServer, watch: Reflector, names: set[str]
    ) -> None:
        server.next["list"].extend([server.listed, *[refusing(400)] * ATTEMPTS])
        assert await watch.ready()
        again = [f"page-{ATTEMPTS + 2 + n}" for n in range(3)]
        assert [query.get("continue") for query in server.lists[ATTEMPTS:]] == ["page-1", None, *again]


@pytest.mark.usefixtures("full")
class TestGaps:
    """What has happened while nothing was seen."""

    async def test_it_is_told_by_the_difference_to_the_next_list(
        self, server: ListWatchServer, store: Store[Any], heard: list[Change]
    ) -> None:
        server.put("stays")
        server.put("another-of-its-name")
        await until(lambda: len(store) == 3)
        before = store.uid(Key("a", "another-of-its-name"))
        heard.clear()
        await server.cut()
        server.delete("zoe")
        server.delete("another-of-its-name")
        server.put("another-of-its-name")
        server.put("made")
        server.compact()
        await until(lambda: Key("a", "made") in store)
        await until(lambda: ZOE not in store)
        assert sorted(gone(heard)) == ["another-of-its-name", "zoe"]
        assert next(change.uid for change in heard if change.key.name == "another-of-its-name") == before
        assert len(heard) == 4
        assert len(server.lists) == 2

    async def test_what_a_request_of_ours_has_made_after_the_list_stays(
        self, server: ListWatchServer, store: Store[Any], heard: list[Change]
    ) -> None:
        server.after_page = lambda: store.put(server.put("ours")) and setattr(server, "after_page", lambda: None)
        server.version += 1
        server.compact()
        await server.cut()
        await until(lambda: len(server.watches) == 3)  # the second one was told that it is too late
        assert Key("a", "ours") in store
        assert gone(heard) == []

    async def test_a_late_answer_does_not_bring_back_what_came_and_went_in_it(
        self, server: ListWatchServer, store: Store[Any]
    ) -> None:
        await server.cut()
        created = server.put("short")
        server.delete("short")
        server.compact()
        await until(lambda: len(server.watches) == 3)
        assert not store.put(created)
        assert Key("a", "short") not in store

    async def test_without_a_list_where_the_server_still_knows(
        self, server: ListWatchServer, store: Store[Any], heard: list[Change]
    ) -> None:
        await server.cut()
        server.delete("zoe")
        server.put("made")
        await until(lambda: Key("a", "made") in store)
        assert gone(heard) == ["zoe"]
        assert len(server.lists) == 1

    async def test_a_bookmark_moves_the_version_on(self, server: ListWatchServer, store: Store[Any]) -> None:
        server.bookmark()
        server.put("after")
        await until(lambda: Key("a", "after") in store)
        server.bookmark()
        server.bookmark()
        await asyncio.sleep(0.05)
        server.compact()  # all that the watch has not been told of
        await server.cut()
        await until(lambda: len(server.watches) == 2)
        assert server.watches[1]["resourceVersion"] == str(server.version)
        assert server.watches[1]["allowWatchBookmarks"] == "true"
        assert len(server.lists) == 1

    async def test_a_history_that_goes_back_is_taken_as_it_is_now(
        self, server: ListWatchServer, store: Store[Any], heard: list[Change]
    ) -> None:
        uid = server.objects[ZOE]["metadata"]["uid"]
        server.version = 1000
        server.put("lost", size=1)
        server.put("zoe", size=2)
        await until(lambda: store.version(ZOE) == 1002)
        heard.clear()
        await server.cut()
        server.restore(20)
        server.put("zoe", size=1)["metadata"]["uid"] = uid
        server.next["watch"].append(refusing(410))
        await until(lambda: store.version(ZOE) == 21)
        await until(lambda: Key("a", "lost") not in store)
        assert store.get(ZOE)["spec"]["size"] == 1
        assert gone(heard) == ["lost"]


async def silent(request: web.Request) -> web.StreamResponse:
    """Open the stream, and say nothing."""
    return await saying(then=forever)(request)


async def forever(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.usefixtures("full")
class TestWatches:
    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Silence is noticed soon."""
        monkeypatch.setattr(reflector_module, "WATCH_SECONDS", (0, 0))
        monkeypatch.setattr(reflector_module, "LATE_SECONDS", 0.1)

    @pytest.mark.parametrize(
        "fault",
        [
            reset,
            refusing(500),
            refusing(503),
            refusing(429, Retry_After="0"),
            saying(),
            saying(b'{"type": "ADDED", "obj'),
            saying(b'{"type": "ADDED", "obj', then=reset),
            saying(event("ERROR", status(500))),
        ],
        ids=["reset", "500", "503", "429", "ended", "garbled", "broken-off", "error-event"],
    )
    async def test_one_that_fails_goes_on_where_it_was(
        self, server: ListWatchServer, store: Store[Any], fault: Answer
    ) -> None:
        server.put("told")
        await until(lambda: Key("a", "told") in store)
        at = str(server.version)
        server.next["watch"].extend([fault] * 3)
        await server.cut()
        server.put("missed")
        await until(lambda: Key("a", "missed") in store)
        assert [query["resourceVersion"] for query in server.watches[1:]] == [at] * 4
        assert len(server.lists) == 1

    @pytest.mark.usefixtures("short")
    async def test_one_that_has_died_without_a_word_goes_on_where_it_was(
        self, server: ListWatchServer, store: Store[Any]
    ) -> None:
        server.silent = True
        server.put("swallowed")
        await until(lambda: len(server.watches) == 2)
        assert Key("a", "swallowed") not in store
        server.silent = False
        await until(lambda: Key("a", "swallowed") in store)
        assert len(server.lists) == 1

    @pytest.mark.usefixtures("short")
    async def test_when_all_say_nothing_for_long_a_list_must_tell(
        self, server: ListWatchServer, store: Store[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reflector_module, "DEAF_SECONDS", 0.35)
        server.silent = True
        server.put("swallowed")
        await until(lambda: Key("a", "swallowed") in store)
        assert len(server.lists) == 2
        assert len(server.watches) >= 3

    @pytest.mark.parametrize("fault", [refusing(410), saying(event("ERROR", status(410)))], ids=["answer", "event"])
    async def test_a_version_that_is_too_old_costs_one_list(
        self, server: ListWatchServer, store: Store[Any], watch: Reflector, fault: Answer
    ) -> None:
        server.next["watch"].append(fault)
        await server.cut()
        server.put("missed")
        await until(lambda: len(server.watches) == 3)
        assert Key("a", "missed") in store
        assert len(server.lists) == 2
        assert watch.fresh

    @pytest.mark.parametrize("fault", [refusing(500), refusing(403), saying(event("ERROR", status(500)))])
    async def test_one_that_is_refused_several_times_in_a_row_costs_one_list(
        self, server: ListWatchServer, fault: Answer
    ) -> None:
        server.next["watch"].extend([fault] * (ATTEMPTS + 1))
        await server.cut()
        await until(lambda: len(server.watches) == 1 + ATTEMPTS + 2)
        assert len(server.lists) == 2

    @pytest.mark.parametrize("fault", [reset, refusing(429, Retry_After="0"), saying()], ids=["reset", "429", "ended"])
    async def test_who_cannot_answer_now_is_not_asked_for_lists(self, server: ListWatchServer, fault: Answer) -> None:
        server.next["watch"].extend([fault] * 3 * ATTEMPTS)
        await server.cut()
        await until(lambda: len(server.watches) == 1 + 3 * ATTEMPTS + 1)
        assert len(server.lists) == 1

    async def test_always_too_old_is_asked_less_and_less(
        self, server: ListWatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[int] = []

        def pause(_: Exception, failures: int) -> float:
            pauses.append(failures)
            return 0.001

        monkeypatch.setattr(reflector_module, "_pause", pause)
        server.next["watch"].extend([refusing(410)] * 5)
        await server.cut()
        await until(lambda: len(server.watches) == 7)
        assert pauses == [1, 2, 3, 4, 5, 6]

    async def test_too_old_once_is_listed_anew_at_once(
        self, server: ListWatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reflector_module, "_pause", lambda _, failures: pytest.fail("waits"))
        server.error(status(410))
        await until(lambda: len(server.watches) == 2)
        assert len(server.lists) == 2

    async def test_one_that_held_for_a_while_forgives_what_was_before(
        self, server: ListWatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[int] = []
        monkeypatch.setattr(reflector_module, "_pause", lambda _, failures: pauses.append(failures) or 0.001)
        monkeypatch.setattr(reflector_module, "STEADY_SECONDS", 0.05)
        server.next["watch"].extend([refusing(500)] * 2)
        await server.cut()
        await until(lambda: len(server.watches) == 4)
        await asyncio.sleep(0.06)
        await server.cut()
        await until(lambda: len(server.watches) == 5)
        assert pauses[-3:] == [2, 3, 1]


async def test_429_on_every_list_is_waited_for_as_asked(server: ListWatchServer, watch: Reflector) -> None:
    times: list[float] = []
    server.after_request = lambda: times.append(asyncio.get_running_loop().time())
    server.next["list"].append(refusing(429, Retry_After="1"))
    assert await watch.ready(10)
    assert times[1] - times[0] >= 1.0
    assert len(server.lists) == 2
