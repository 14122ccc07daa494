"""The objects of one kind: the newest that anybody told of, found by what they say, and each change told once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from af_kube import store as store_module
from af_kube.store import Body, Change, Key, Store, without_managed_fields

ZOE = Key("a", "z")


def thing(version: int, uid: str = "1", *, name: str = "z", namespace: str = "a", **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": spec}


def by_color(body: Body) -> str | None:
    return body["spec"].get("color")


@pytest.fixture
def store() -> Store[Any]:
    return Store(indexes={"color": by_color})


@pytest.fixture
def heard(store: Store[Any]) -> list[Change]:
    heard: list[Change] = []
    store.listen(heard.append)
    return heard


def told(heard: list[Change]) -> list[tuple[str, str, bool]]:
    return [(change.key.name, change.uid, change.gone) for change in heard]


def test_the_newest_version_is_kept_by_whatever_way_it_came(store: Store[Any], heard: list[Change]) -> None:
    assert store.put(thing(5, color="red"))
    assert not store.put(thing(5, color="same version"))
    assert not store.put(thing(4, color="older"))
    assert store.put(thing(10, color="blue"))  # a number, not a text: "10" < "5"
    assert store.get(ZOE) == thing(10, color="blue")
    assert (store.version(ZOE), store.uid(ZOE)) == (10, "1")
    assert told(heard) == [("z", "1", False)] * 2


def test_what_is_not_there(store: Store[Any]) -> None:
    assert (store.get(ZOE), store.uid(ZOE), store.version(ZOE)) == (None, None, 0)
    assert ZOE not in store
    assert list(store.by("color", "red")) == []
    assert not store.drop(ZOE, "1", 5)


def test_what_belongs_to_no_namespace(store: Store[Any]) -> None:
    store.put({"metadata": {"name": "node", "uid": "1", "resourceVersion": "1"}, "spec": {}})
    assert list(store) == [Key("", "node")]


def test_a_late_answer_does_not_bring_back_what_has_gone(store: Store[Any], heard: list[Change]) -> None:
    created = thing(5)
    store.put(created)
    assert store.drop(ZOE, "1", 7)
    assert not store.put(created)
    assert not store.put(thing(6))  # nor an answer to a change of it
    assert ZOE not in store
    assert told(heard) == [("z", "1", False), ("z", "1", True)]


def test_an_answer_later_than_the_whole_life_of_its_object(store: Store[Any], heard: list[Change]) -> None:
    store.drop(ZOE, "1", 7)  # nobody had heard of it before
    assert not store.put(thing(5))
    assert heard == []


def test_what_was_not_selected_for_a_while_comes_back(store: Store[Any]) -> None:
    store.put(thing(5))
    store.drop(ZOE, "1", 6)  # its label was taken off
    assert store.put(thing(8))  # and put on again
    assert store.version(ZOE) == 8


def test_a_drop_does_not_take_what_is_newer_or_anothers(store: Store[Any]) -> None:
    store.put(thing(9))
    assert not store.drop(ZOE, "1", 8)
    assert not store.drop(ZOE, "another", 10)
    assert store.version(ZOE) == 9


def test_one_that_took_the_name_of_another_says_that_the_other_has_gone(store: Store[Any], heard: list[Change]) -> None:
    store.put(thing(5, "old", color="red"))
    store.put(thing(9, "new", color="blue"))
    assert told(heard) == [("z", "old", False), ("z", "old", True), ("z", "new", False)]
    assert store.counts("color") == {"blue": 1}
    assert not store.put(thing(6, "old"))
    assert store.uid(ZOE) == "new"


def test_what_a_request_has_found_gone_goes_unless_it_is_another(store: Store[Any]) -> None:
    store.put(thing(5, "new"))
    store.forget(thing(3, "old"))
    assert store.uid(ZOE) == "new"
    store.forget(thing(3, "new"))  # as old as it may have been when the request was sent
    assert ZOE not in store
    assert not store.put(thing(5, "new"))


def test_only_so_much_is_remembered_of_what_has_gone(store: Store[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "REMEMBERED", 2)
    for uid in "abc":
        store.drop(ZOE, uid, 5)
    assert len(store._gone) == 2
    assert not store.put(thing(5, "c"))


class TestLists:
    """What a list is taken for that is whole, and one that is not yet."""

    def test_what_it_has_not_has_gone_but_what_was_made_since_stays(
        self, store: Store[Any], heard: list[Change]
    ) -> None:
        for version, name in ((3, "listed"), (4, "gone"), (12, "made-since")):
            store.put(thing(version, name, name=name))
        heard.clear()
        store.settle("", {Key("a", "listed")}, 10)
        assert {key.name for key in store} == {"listed", "made-since"}
        assert told(heard) == [("gone", "gone", True)]

    def test_a_list_of_one_namespace_says_nothing_of_others(self, store: Store[Any]) -> None:
        store.put(thing(3, "x", namespace="b"))
        store.settle("a", set(), 10)
        assert list(store) == [Key("b", "z")]
        assert store.put(thing(4, "y", namespace="b", name="y"))

    def test_who_came_and_went_before_it_is_not_brought_back_by_a_late_answer(self, store: Store[Any]) -> None:
        store.settle("", set(), 10)
        assert not store.put(thing(9))
        assert store.put(thing(11))

    def test_a_history_that_goes_back_makes_everything_news(self, store: Store[Any]) -> None:
        store.put(thing(90, "1", color="red"))
        store.put(thing(91, "2", name="other"))
        store.drop(Key("a", "other"), "2", 95)
        store.settle("", {ZOE}, 100)
        store.rewind()
        assert store.get(ZOE) is not None  # what cannot be seen is not gone
        assert store.put(thing(50, "1", color="blue"))
        assert store.put(thing(51, "2", name="other"))
        assert store.counts("color") == {"blue": 1}


class TestIndexes:
    def test_they_follow_changes(self, store: Store[Any]) -> None:
        store.put(thing(1, "1", color="red"))
        store.put(thing(2, "2", name="y", color="red"))
        store.put(thing(3, "3", name="x"))
        assert store.keys("color", "red") == [ZOE, Key("a", "y")]
        assert store.counts("color") == {"red": 2}
        store.put(thing(4, "1", color="blue"))
        assert [body["metadata"]["name"] for body in store.by("color", "red")] == ["y"]
        assert store.counts("color") == {"red": 1, "blue": 1}
        store.put(thing(5, "1"))
        store.drop(Key("a", "y"), "2", 6)
        assert store.counts("color") == {}
        store.put(thing(7, "3", name="x", color="red"))
        assert store.keys("color", "red") == [Key("a", "x")]

    def test_several_are_kept_apart(self) -> None:
        store: Store[Any] = Store(indexes={"color": by_color, "namespace": lambda body: body["metadata"]["namespace"]})
        store.put(thing(1, color="red"))
        store.put(thing(2, "2", namespace="b"))
        assert store.counts("namespace") == {"a": 1, "b": 1}
        assert store.counts("color") == {"red": 1}
        store.drop(ZOE, "1", 3)
        assert store.counts("namespace") == {"b": 1}
        assert store.counts("color") == {}


class TestListeners:
    def test_they_hear_of_each_change_until_they_do_not_want_to(self, store: Store[Any]) -> None:
        heard: list[Change] = []
        store.listen(heard.append)
        store.listen(heard.append)  # once is enough
        body = thing(1)
        store.put(body)
        assert heard == [Change(ZOE, "1", body, gone=False)]
        store.ignore(heard.append)
        store.drop(ZOE, "1", 2)
        assert len(heard) == 1

    def test_what_has_gone_is_told_as_it_was_kept(self) -> None:
        store: Store[Any] = Store(lambda body: {"color": body["spec"]["color"]})
        heard: list[Change] = []
        store.put(thing(1, color="red"))
        store.listen(heard.append)
        store.drop(ZOE, "1", 2)
        assert heard == [Change(ZOE, "1", {"color": "red"}, gone=True)]

    def test_they_find_the_store_and_its_indexes_as_they_are_after_the_change(self, store: Store[Any]) -> None:
        seen: list[tuple[bool, int]] = []
        store.listen(lambda change: seen.append((change.key in store, len(store.keys("color", "red")))))
        store.put(thing(1, color="red"))
        store.drop(ZOE, "1", 2)
        assert seen == [(True, 1), (False, 0)]

    async def test_who_waits_is_woken_by_a_change_and_else_when_the_time_is_over(self, store: Store[Any]) -> None:
        waiting = asyncio.create_task(store.changed(30))
        await asyncio.sleep(0)
        store.put(thing(1))
        await asyncio.wait_for(waiting, 5)
        await store.changed(0.01)
        for change in (lambda: store.drop(ZOE, "1", 2), store.stir):
            waiting = asyncio.create_task(store.changed(30))
            await asyncio.sleep(0)
            change()
            await asyncio.wait_for(waiting, 5)


def test_bodies_are_kept_without_who_wrote_what() -> None:
    body = thing(1)
    body["metadata"]["managedFields"] = [{"manager": "somebody"}]
    assert without_managed_fields(body) == thing(1)
    assert "managedFields" in body["metadata"]  # which is the caller's


def test_what_is_kept_and_what_is_shown_are_the_callers_choice() -> None:
    store: Store[str] = Store(lambda body: body["spec"]["color"].encode(), bytes.decode)
    store.put(thing(1, color="red"))
    assert store.get(ZOE) == "red"
