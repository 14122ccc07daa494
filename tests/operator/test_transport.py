"""Events in, keys out: the handlers without kopf's machinery, and what they register with it."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from af_operator import handlers, names, settings
from af_operator.model import Key
from af_operator.queue import WorkQueue
from af_operator.world import World

KEY = Key("physics", "zmumu")
SESSION = {
    "apiVersion": "analysisfacility.io/v1alpha1",
    "kind": "AnalysisSession",
    "metadata": {"name": "zmumu", "namespace": "physics", "uid": "s-1", "resourceVersion": "1"},
    "spec": {"profile": "default"},
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


class Bed:
    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.fresh = handlers.Freshness()
        self.worlds: list[World] = []
        self.transport = handlers.Transport(self.queue, self.worlds.append, self.fresh)

    async def start(self) -> None:
        await self.transport._start(sessions={KEY: [SESSION]}, uids={"s-1": [KEY]}, profiles={}, children={})


@pytest.fixture
async def bed() -> Bed:
    found = Bed()
    await found.start()
    return found


async def test_a_session_event_is_a_key(bed: Bed) -> None:
    await bed.transport._session(event={"type": "ADDED", "object": SESSION}, namespace="physics", name="zmumu")
    assert await bed.queue.get() == KEY


async def test_a_profile_event_is_the_keys_of_its_sessions(bed: Bed) -> None:
    await bed.transport._profile(name="other")
    assert len(bed.queue) == 0
    await bed.transport._profile(name="default")
    assert await bed.queue.get() == KEY


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
