"""Events in, keys out: the handlers without kopf's machinery, and what they register with it."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from af_operator import handlers, names, settings
from af_operator.capacity import Node
from af_operator.model import Key
from af_operator.queue import WorkQueue
from af_operator.world import World

KEY = Key("physics", "zmumu")
SESSION = {
    "apiVersion": "analysisfacility.io/v1alpha1",
    "kind": "AnalysisSession",
    "metadata": {"name": "zmumu", "namespace": "physics", "uid": "s-1", "resourceVersion": "1"},
    "spec": {"profile": "default", "user": "alice"},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "namespace": "physics",
        "uid": "p-1",
        "resourceVersion": "2",
        "labels": {names.SESSION_UID: "s-1"},
    },
}


def profile_body(generation: int) -> dict[str, Any]:
    metadata = {"name": "default", "uid": "f-1", "generation": generation, "resourceVersion": str(generation)}
    return {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisProfile", "metadata": metadata}


class Bed:
    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.fresh = handlers.Freshness()
        self.worlds: list[World] = []
        self.transport = handlers.Transport(self.queue, self.worlds.append, self.fresh)
        self.nodes: dict[str, list[Any]] = {}
        self.shared: dict[tuple[str, str], list[Any]] = {}
        self.indexes = {
            "sessions": {KEY: [SESSION]},
            "uids": {"s-1": [KEY]},
            "profiles": {"default": [profile_body(1)]},
            "children": {},
            "nodes": self.nodes,
            "shared": self.shared,
        }

    async def start(self) -> None:
        await self.transport._start(**self.indexes)


@pytest.fixture
async def bed() -> Bed:
    found = Bed()
    await found.start()
    return found


async def test_a_session_event_is_a_key(bed: Bed) -> None:
    await bed.transport._session(event={"type": "ADDED", "object": SESSION}, namespace="physics", name="zmumu")
    assert await bed.queue.get() == KEY


async def keys(bed: Bed) -> set[Key]:
    return {await bed.queue.get() for _ in range(len(bed.queue))}


async def test_a_profile_event_is_its_own_key_and_those_of_its_sessions(bed: Bed) -> None:
    await bed.transport._profile(event={"type": "ADDED", "object": profile_body(1)}, name="other")
    assert await keys(bed) == {Key("", "other")}
    await bed.transport._profile(event={"type": "ADDED", "object": profile_body(1)}, name="default")
    assert await keys(bed) == {Key("", "default"), KEY}


async def test_a_profiles_status_wakes_no_session(bed: Bed) -> None:
    for generation, woken in ((1, True), (1, False), (2, True)):
        event = {"type": "MODIFIED", "object": profile_body(generation)}
        await bed.transport._profile(event=event, name="default")
        found = await keys(bed)
        assert (KEY in found) is woken
        for key in found:
            bed.queue.done(key)


async def test_a_profile_that_goes_and_comes_again_wakes_its_sessions_both_times(bed: Bed) -> None:
    for kind in ("ADDED", "DELETED", "ADDED"):
        await bed.transport._profile(event={"type": kind, "object": profile_body(1)}, name="default")
        found = await keys(bed)
        assert KEY in found, kind
        for key in found:
            bed.queue.done(key)


def node(**more: Any) -> Node:
    return Node(**{"name": "n", "labels": {}, "extended": {"nvidia.com/gpu": 2}, "usable": True, **more})


async def test_a_node_that_only_tells_that_it_lives_costs_no_pass(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "FREE_AFTER", 0.0)
    for value, passes in ((node(), 1), (node(), 0), (node(usable=False), 1), (node(usable=False), 0), (None, 1)):
        bed.nodes.update(n=[value]) if value else bed.nodes.clear()
        await bed.transport._node(name="n")
        assert len(bed.queue) == passes, value
        for key in await keys(bed):
            assert key == Key("", "default")
            bed.queue.done(key)


async def test_only_pods_with_gpus_are_counted_again(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "FREE_AFTER", 0.0)
    labels = {names.SESSION_UID: "s-0"}
    await bed.transport._child(event={"type": "MODIFIED", "object": POD}, labels=labels)
    assert len(bed.queue) == 0
    gpu = {"containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    await bed.transport._child(event={"type": "DELETED", "object": POD | {"spec": gpu}}, labels=labels)
    assert await keys(bed) == {Key("", "default")}


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "home-alice", "namespace": "physics", "uid": "c-1", "resourceVersion": "3"},
}


@pytest.mark.parametrize(
    ("namespace", "user", "woken"), [("physics", "alice", {KEY}), ("physics", "bob", set()), ("other", "alice", set())]
)
async def test_what_a_user_shares_wakes_their_sessions_in_its_namespace(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, namespace: str, user: str, woken: set[Key]
) -> None:
    monkeypatch.setattr(handlers, "COALESCE", 0.0)
    event = {"type": "MODIFIED", "object": CLAIM}
    await bed.transport._of_user(event=event, namespace=namespace, labels={names.USER: user})
    assert await keys(bed) == woken


async def test_what_is_shared_is_found_by_its_users_label() -> None:
    body: Any = CLAIM
    found = await handlers._by_user(body=body, namespace="physics", labels={names.USER: "alice"})
    assert list(found) == [("physics", "alice")]


def test_only_what_is_labelled_is_watched() -> None:
    found = kopf.OperatorSettings()
    handlers.configure(found, settings.Settings())
    assert found.watching.label_selectors["", "v1", "secrets"] == names.SESSION_UID
    assert found.watching.label_selectors["", "v1", "persistentvolumeclaims"] == names.USER


async def test_a_childs_event_is_the_key_of_its_session_a_moment_later(bed: Bed) -> None:
    for _ in range(5):
        event = {"type": "MODIFIED", "object": POD}
        await bed.transport._child(event=event, labels=POD["metadata"]["labels"])
    assert len(bed.queue) == 0, "events of many children become one pass"
    assert await bed.queue.get() == KEY
    assert len(bed.queue) == 0


async def test_a_child_of_a_session_that_is_gone_is_nobodys(bed: Bed) -> None:
    await bed.transport._child(event={"type": "DELETED", "object": POD}, labels={names.SESSION_UID: "s-0"})
    assert len(bed.queue) == 0


async def test_no_event_is_deaf_only_after_there_was_one(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bed.fresh.deaf() is None
    await bed.transport._lease()
    assert bed.fresh.deaf() is None
    monkeypatch.setattr(handlers, "DEAF_AFTER", -1.0)
    assert "no watch event" in str(bed.fresh.deaf())


def test_nothing_is_registered_that_would_put_a_finalizer_on_objects(bed: Bed) -> None:
    registry: Any = bed.transport.registry()
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert registry._watching.get_all_handlers()


def test_children_are_selected_by_the_server() -> None:
    options = kopf.OperatorSettings()
    handlers.configure(options, settings.Settings())
    assert options.posting.enabled is False
    assert options.queueing.worker_limit is None, "set alone it starves, and can deadlock indexing"
    kinds = {k.plural for k in handlers.child_kinds()}
    assert {"pods", "jobs", "configmaps", "daskclusters", "daskworkergroups"} <= kinds
