"""When the world can be relied on: every list read, kopf not behind what is known by name, and no watch lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from af_kube.store import Key, Store
from af_operator import watches
from af_operator.components import child_kinds, shared_kinds, shipped
from af_operator.model import POD
from af_operator.watches import Watches, Witness
from af_operator.world import NODE, PROFILE, SESSION, World
from tests.support.bench import SPEC

KEY = Key("physics", "s")


def named(version: int, uid: str = "u-1") -> dict[str, Any]:
    return {"metadata": {"namespace": "physics", "name": "s", "uid": uid, "resourceVersion": str(version)}}


class Bed:
    def __init__(self) -> None:
        self.told: Store[Any] = Store()
        self.witness = Witness(self.told)
        self.names = self.witness.names


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_what_is_known_by_name_is_awaited_until_kopf_tells_of_it(bed: Bed) -> None:
    bed.names.put(named(3))
    assert bed.witness.awaited == [KEY]
    bed.told.put(named(2))
    assert bed.witness.awaited == [KEY], "not of its newest version"
    bed.told.put(named(3))
    assert bed.witness.awaited == []


def test_what_kopf_told_of_first_is_not_awaited(bed: Bed) -> None:
    bed.told.put(named(3))
    bed.names.put(named(3))
    assert bed.witness.awaited == []


def test_what_went_in_a_gap_of_kopfs_watch_goes(bed: Bed) -> None:
    bed.told.put(named(3))
    bed.names.put(named(3))
    bed.names.settle("", [], 9)  # a list without it
    assert KEY not in bed.told


def test_what_kopf_tells_late_brings_nothing_back(bed: Bed) -> None:
    bed.told.put(named(3))
    bed.names.put(named(3))
    bed.names.drop(KEY, "u-1", 9)
    bed.told.put(named(7))
    assert KEY not in bed.told
    assert bed.witness.awaited == []


def test_another_of_its_name_stays(bed: Bed) -> None:
    bed.names.put(named(3))
    bed.told.put(named(3))
    bed.told.put(named(7, uid="u-2"))
    bed.names.drop(KEY, "u-1", 5)
    assert bed.told.uid(KEY) == "u-2"


def test_what_went_before_kopf_told_of_it_is_awaited_no_more(bed: Bed) -> None:
    bed.names.put(named(3))
    bed.names.drop(KEY, "u-1", 4)
    assert bed.witness.awaited == []


def test_kopf_is_deaf_when_it_is_behind_for_long(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.names.put(named(3))
    assert bed.witness.deaf() is None
    monkeypatch.setattr(watches, "DEAF_SECONDS", -1.0)
    assert "kopf has not told of physics/s" in str(bed.witness.deaf())
    bed.told.put(named(4))
    assert bed.witness.deaf() is None


class NoServer:
    """Nothing ever answers."""

    async def read(self, request: Any) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    lines = read


def sources(found: Watches) -> list[tuple[str, str, str, bool]]:
    return [(r.source.path, r.source.namespace, r.source.labels, r.source.metadata_only) for r in found._reflectors]


def test_every_kind_is_watched_and_of_ours_the_names() -> None:
    found = sources(Watches(NoServer(), World(shipped())))  # type: ignore[arg-type]
    assert (
        len(found) == len(World(shipped()).kinds) + 2 == len(child_kinds(shipped())) + len(shared_kinds(shipped())) + 4
    )
    assert ("/apis/analysisfacility.io/v1alpha1/analysissessions", "", "", True) in found
    assert ("/api/v1/pods", "", "analysisfacility.io/session-uid", False) in found
    assert ("/api/v1/persistentvolumeclaims", "", "analysisfacility.io/user", False) in found
    assert ("/api/v1/nodes", "", "", False) in found
    assert ("/api/v1/resourcequotas", "", "", False) in found


def test_namespaces_that_are_named_are_watched_each_for_itself() -> None:
    found = sources(Watches(NoServer(), World(shipped()), ["a", "b"]))  # type: ignore[arg-type]
    pods = [namespace for path, namespace, _, _ in found if path == "/api/v1/pods"]
    assert pods == ["a", "b"]
    assert [namespace for path, namespace, _, _ in found if path == "/api/v1/resourcequotas"] == ["a", "b"]
    assert [namespace for path, namespace, _, _ in found if path == "/api/v1/nodes"] == [""]


async def test_nothing_is_filled_before_each_list_is_there_and_kopf_has_told_all() -> None:
    world = World(shipped())
    found = Watches(NoServer(), world, ["a"])  # type: ignore[arg-type]
    waiting = asyncio.create_task(found.filled())
    found._reflectors[0]._note_loss(ValueError("lost once it was listed"))
    for reflector in found._reflectors:
        assert str(reflector.source) in str(found.missing())
        await asyncio.sleep(0)
        assert not waiting.done()
        reflector._listed = True
        reflector._store.stir()
    found.witnesses[SESSION].names.put(named(3))
    await asyncio.sleep(0.01)
    assert "analysissessions (by kopf)" in str(found.missing())
    assert not waiting.done()
    session = {"apiVersion": SESSION.api_version, "kind": SESSION.kind, **named(3), "spec": SPEC}
    world.learn_session(session)
    await asyncio.wait_for(waiting, 5)
    assert found.missing() is None
    await found.close()


def test_a_watch_that_is_lost_for_long_is_named_and_the_world_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(shipped())
    found = Watches(NoServer(), world)  # type: ignore[arg-type]
    assert world.unseen() is None
    pods = next(r for r in found._reflectors if r.source.path == "/api/v1/pods")
    pods._note_loss(ValueError("broken"))
    assert world.unseen() is None, "a moment is no reason to stop"
    later = time.monotonic() + watches.LOST_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "/api/v1/pods" in str(world.unseen())
    assert str(POD.plural) in str(found.lost())


def test_the_kinds_that_must_be_installed_are_ours_and_the_components() -> None:
    assert {SESSION, PROFILE, POD} <= set(World(shipped()).kinds)
    assert NODE not in World(shipped()).kinds, "it is always there"
