"""A store that is filled by list and watch: what it shows is what is so, and it says when not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from af_kube import reflector as reflector_module
from af_kube.connection import Connection
from af_kube.errors import Expired, HttpError, KubeError, Unreachable
from af_kube.reflector import Reflector, Source
from af_kube.store import Change, Key, Store
from tests.support.list_watch_server import PATH, ListWatchServer, refusing, saying, status, until

ZOE, YVES = Key("a", "zoe"), Key("a", "yves")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ListWatchServer:
    monkeypatch.setattr(reflector_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reflector_module, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(reflector_module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(reflector_module, "MISTAKE_SECONDS", 0.2)
    return ListWatchServer()


@pytest.fixture
def store() -> Store[Any]:
    return Store(indexes={"namespace": lambda body: body["metadata"]["namespace"]})


def gone(heard: list[Change]) -> list[str]:
    return [change.key.name for change in heard if change.gone]


async def test_it_shows_what_was_there_and_what_comes_changes_and_goes(
    server: ListWatchServer, watch: Reflector, store: Store[Any]
) -> None:
    server.put("before")
    assert not watch.listed
    assert await watch.ready()
    assert watch.listed
    assert set(store) == {Key("a", "before")}
    server.put("zoe", size=1)
    await until(lambda: ZOE in store)
    server.put("zoe", size=2)
    await until(lambda: store.get(ZOE)["spec"]["size"] == 2)
    server.delete("zoe")
    await until(lambda: ZOE not in store)
    assert len(server.lists) == len(server.watches) == 1


async def test_each_change_is_told_once(
    server: ListWatchServer, watch: Reflector, store: Store[Any], heard: list[Change]
) -> None:
    server.put("zoe")
    await watch.ready()
    store.put(server.put("zoe", size=2))  # the answer to a request of ours comes first
    server.delete("zoe")
    server.put("yves")
    await until(lambda: YVES in store)
    assert [(change.key.name, change.gone) for change in heard] == [
        ("zoe", False),
        ("zoe", False),
        ("zoe", True),
        ("yves", False),
    ]


async def test_items_of_a_list_say_what_they_are(server: ListWatchServer, watch: Reflector, store: Store[Any]) -> None:
    server.put("zoe")
    await watch.ready()
    assert (store.get(ZOE)["apiVersion"], store.get(ZOE)["kind"]) == ("example.org/v1", "Widget")


async def test_what_we_wrote_is_known_at_once_and_older_news_does_not_undo_it(
    server: ListWatchServer, watch: Reflector, store: Store[Any]
) -> None:
    await watch.ready()
    body = server.put("zoe", size=1)
    newer = {**body, "spec": {"size": 2}, "metadata": {**body["metadata"], "resourceVersion": "1000"}}
    store.put(newer)
    server.put("yves")
    await until(lambda: YVES in store)  # the watch has told of the older one before
    assert store.get(ZOE)["spec"]["size"] == 2


async def test_forgetting_one_does_not_take_another_of_its_name(
    server: ListWatchServer, watch: Reflector, store: Store[Any]
) -> None:
    old = server.put("zoe")
    await watch.ready()
    server.delete("zoe")
    server.put("zoe")
    await until(lambda: store.uid(ZOE) not in (None, old["metadata"]["uid"]))
    store.forget(old)
    assert ZOE in store


async def test_a_late_answer_to_a_create_does_not_bring_back_what_was_deleted_since(
    server: ListWatchServer, watch: Reflector, store: Store[Any], heard: list[Change]
) -> None:
    await watch.ready()
    created = server.put("zoe")
    server.delete("zoe")
    await until(lambda: gone(heard) == ["zoe"])
    assert not store.put(created)
    assert ZOE not in store


class TestSources:
    def test_they_say_where_they_look(self) -> None:
        assert str(Source("/api/v1/pods", "physics")) == "/api/v1/pods in physics"
        assert str(Source("/api/v1/nodes")) == "/api/v1/nodes"
        assert Source("/api/v1/pods", "physics").request(1).path == "/api/v1/namespaces/physics/pods"
        assert Source(PATH, "physics").request(1).path == "/apis/example.org/v1/namespaces/physics/widgets"

    async def test_labels_and_fields_are_selected_by_the_server(
        self, server: ListWatchServer, api: Connection, store: Store[Any]
    ) -> None:
        server.put("zoe", labels={"of": "us"})
        server.put("yves", labels={"of": "them"})
        watch = Reflector(api, Source(PATH, labels="of=us", fields="metadata.name=zoe"), store)
        await watch.ready()
        assert set(store) == {ZOE}
        for query in (*server.lists, *server.watches):
            assert (query["labelSelector"], query["fieldSelector"]) == ("of=us", "metadata.name=zoe")
        await watch.close()

    async def test_a_label_that_is_taken_off_and_put_on_again(
        self, server: ListWatchServer, api: Connection, store: Store[Any], heard: list[Change]
    ) -> None:
        server.put("zoe", labels={"of": "us"})
        watch = Reflector(api, Source(PATH, labels="of=us"), store)
        await watch.ready()
        server.put("zoe")
        await until(lambda: gone(heard) == ["zoe"])
        server.put("zoe", labels={"of": "us"})
        await until(lambda: ZOE in store)
        await watch.close()

    async def test_several_namespaces_fill_one_store(
        self, server: ListWatchServer, api: Connection, store: Store[Any], heard: list[Change]
    ) -> None:
        for namespace in "abc":
            server.put("zoe", namespace)
        watches = [Reflector(api, Source(PATH, namespace), store) for namespace in "ab"]
        assert all([await watch.ready() for watch in watches])
        assert store.counts("namespace") == {"a": 1, "b": 1}
        await server.cut(2)
        server.compact()
        server.put("yves", "b")
        server.delete("zoe", "b")
        await until(lambda: store.keys("namespace", "b") == [Key("b", "yves")])
        assert ZOE in store
        assert [change.key for change in heard if change.gone] == [Key("b", "zoe")]
        for watch in watches:
            await watch.close()

    async def test_names_and_versions_alone(self, server: ListWatchServer, api: Connection, store: Store[Any]) -> None:
        server.put("zoe", size=1)
        watch = Reflector(api, Source(PATH, metadata_only=True), store)
        await watch.ready()
        server.put("yves", size=1)
        await until(lambda: YVES in store)
        assert [store.get(key).get("spec") for key in (ZOE, YVES)] == [None, None]
        what = ";g=meta.k8s.io;v=v1"
        assert [headers["Accept"] for headers in server.headers] == [
            f"application/json;as=PartialObjectMetadataList{what}",
            f"application/json;as=PartialObjectMetadata{what}",
        ]
        await watch.close()


class TestSizes:
    async def test_pages_are_of_few_where_objects_are_large(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reflector_module, "PAGE_BYTES", 60_000)
        for n in range(100):
            server.put(f"w{n}", text="x" * 4000)
        assert await watch.ready()
        assert len(store) == 100
        assert [int(query["limit"]) for query in server.lists] == [50, 14, 14, 14, 14]

    async def test_and_grow_where_they_are_small(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reflector_module, "PAGE", 150)
        for n in range(500):
            server.put(f"w{n}")
        assert await watch.ready()
        assert len(store) == 500
        assert [int(query["limit"]) for query in server.lists] == [50, 100, 150, 150, 150]


class TestStates:
    """What it says of itself."""

    async def test_it_starts_when_the_api_server_does(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any]
    ) -> None:
        server.next["list"].extend([refusing(503)] * 20)
        assert not await watch.ready(0.05)
        await until(lambda: "503" in str(watch.failure))
        assert watch.lost > 0
        assert await watch.ready(5)
        assert (watch.failure, watch.lost) == (None, 0)

    async def test_what_cannot_be_seen_is_not_gone(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any], heard: list[Change]
    ) -> None:
        server.put("zoe")
        await watch.ready()
        await server.cut()
        server.next["watch"].extend([refusing(503)] * 100)
        await until(lambda: not watch.fresh)
        assert watch.listed
        assert watch.lost >= 0.1
        assert "503" in str(watch.failure)
        assert ZOE in store
        assert not await watch.ready(0)
        server.next["watch"].clear()
        await until(lambda: watch.fresh)
        assert (watch.failure, gone(heard)) == (None, [])

    async def test_a_watch_that_breaks_and_is_back_at_once_is_no_gap_worth_telling(
        self,
        server: ListWatchServer,
        watch: Reflector,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(reflector_module, "GRACE_SECONDS", 5.0)
        await watch.ready()
        await server.cut()
        while len(server.watches) < 2:
            assert watch.fresh
            await asyncio.sleep(0.001)
        assert "is broken" in caplog.text

    async def test_a_watch_that_begins_and_breaks_at_once_again_and_again_is_lost(
        self, server: ListWatchServer, watch: Reflector
    ) -> None:
        await watch.ready()
        await server.cut()
        server.next["watch"].extend([saying()] * 1000)
        await until(lambda: watch.lost > 0.2)
        assert not watch.fresh

    async def test_who_waits_for_a_change_hears_of_a_failure(
        self, server: ListWatchServer, watch: Reflector, store: Store[Any]
    ) -> None:
        await watch.ready()
        await until(lambda: server.watches)
        cutting = asyncio.create_task(server.cut())
        while watch.failure is None:
            await asyncio.wait_for(store.changed(30), 5)
        await cutting

    async def test_an_error_that_nobody_thought_of_does_not_make_it_blind(
        self, server: ListWatchServer, watch: Reflector, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.next["list"].append(saying(b'{"kind": "WidgetList", "apiVersion": "v1"}'))  # without metadata
        await watch.ready(0.1)
        assert not watch.fresh
        assert "metadata" in str(watch.failure)
        assert "has failed" in caplog.text
        assert "has ended" in str(watch.trouble)
        ended = watch._task
        await watch.ready(0)
        assert watch._task is ended  # whoever asks: it begins anew in its own time
        await until(lambda: watch.fresh)
        assert watch.trouble is None

    async def test_closed_is_closed(self, server: ListWatchServer, watch: Reflector, caplog: Any) -> None:
        server.next["list"].append(saying(b'{"kind": "WidgetList", "apiVersion": "v1"}'))
        await watch.ready(0.1)
        await watch.close()  # while it waits to begin anew
        await watch.close()
        await asyncio.sleep(0.3)
        assert len(server.lists) == 1
        assert not watch.fresh
        assert watch.trouble is None

    async def test_only_so_many_pages_are_read_at_the_same_time(
        self, server: ListWatchServer, api: Connection, store: Store[Any]
    ) -> None:
        reading, most = 0, 0

        async def slowly(request: web.Request) -> web.StreamResponse:
            nonlocal reading, most
            reading += 1
            most = max(most, reading)
            await asyncio.sleep(0.02)
            reading -= 1
            return server.page(request)

        server.next["list"].extend([slowly] * 5)
        pages = asyncio.Semaphore(2)
        watches = [Reflector(api, Source(PATH, namespace), store, pages) for namespace in "abcde"]
        assert all(await asyncio.gather(*(watch.ready() for watch in watches)))
        assert most == 2
        for watch in watches:
            await watch.close()


@pytest.mark.parametrize(
    ("error", "failures", "least", "most"),
    [
        (Unreachable(), 1, 0.1, 0.3),
        (Unreachable(), 2, 0.2, 0.6),
        (Unreachable(), 100, 5, 15),
        (HttpError(429, "", 3.0), 1, 3.1, 3.3),
        (HttpError(429, "", 86_400.0), 1, 60.1, 60.3),
        (Expired(), 2, 0.2, 0.6),
        (ValueError(), 3, 0.4, 1.2),
    ],
)
def test_pauses_grow_to_a_bound_and_are_as_long_as_the_server_asks(
    error: KubeError | ValueError, failures: int, least: float, most: float
) -> None:
    pauses = {reflector_module._pause(error, failures) for _ in range(50)}
    assert least <= min(pauses) <= max(pauses) <= most
    assert len(pauses) > 1  # so that all do not come at once


def test_an_error_in_a_stream_may_ask_to_wait() -> None:
    refusal = reflector_module._refusal(status(429, retryAfterSeconds=7))
    assert refusal.retry_after == 7.0
