"""The snapshot: our own writes count until the watch has caught up with them, and never longer."""

from __future__ import annotations

from typing import Any

from af_operator.model import Key
from af_operator.names import SESSION_UID
from af_operator.world import World, parse_session, trim
from tests.support.bench import SPEC


def child(version: int, uid: str = "c-1", **data: str) -> dict[str, Any]:
    metadata = {"name": "c", "namespace": "physics", "uid": uid, "resourceVersion": str(version)}
    metadata["labels"] = {SESSION_UID: "s-1"}  # type: ignore[assignment]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def session(version: int, **status: str) -> dict[str, Any]:
    metadata = {
        "name": "s",
        "namespace": "physics",
        "uid": "s-1",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-21T12:00:00Z",
    }
    return {"kind": "AnalysisSession", "metadata": metadata, "spec": SPEC, "status": status}


class Bed:
    def __init__(self) -> None:
        self.children: dict[str, list[Any]] = {}
        self.sessions: dict[Key, list[Any]] = {Key("physics", "s"): [session(1)]}
        self.world = World(self.sessions, {}, self.children, {}, {})

    def watch(self, event: str | None, body: dict[str, Any]) -> None:
        self.children["s-1"] = [] if event == "DELETED" else [body]
        self.world.saw(event, body)

    def seen(self) -> list[Any]:
        return list(self.world.observed(parse_session(session(1))).children)


def test_a_write_counts_before_its_echo() -> None:
    bed = Bed()
    bed.world.wrote(child(5, a="1"))
    assert [b["data"] for b in bed.seen()] == [{"a": "1"}]


def test_an_older_event_does_not_undo_it_and_a_newer_one_replaces_it() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3, a="0"))
    bed.world.wrote(child(5, a="1"))
    bed.watch("MODIFIED", child(4, a="0"))
    assert [b["data"] for b in bed.seen()] == [{"a": "1"}]
    bed.watch("MODIFIED", child(6, a="2"))
    assert [b["data"] for b in bed.seen()] == [{"a": "2"}]


def test_what_we_deleted_is_terminating_until_the_watch_says_gone() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.world.deleted(child(3))
    assert ["deletionTimestamp" in b["metadata"] for b in bed.seen()] == [True]
    bed.watch("DELETED", child(4))
    assert bed.seen() == []


def test_a_successor_of_what_we_deleted_is_alive() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.world.deleted(child(3))
    bed.watch("ADDED", child(7, uid="c-2"))
    assert ["deletionTimestamp" in b["metadata"] for b in bed.seen()] == [False]


def test_a_late_echo_of_a_deletion_does_not_hide_the_successor_that_we_wrote() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.world.wrote(child(7, uid="c-2"))
    bed.watch("DELETED", child(6))
    assert [b["metadata"]["uid"] for b in bed.seen()] == ["c-2"]


def test_the_newest_status_of_a_session_is_ours() -> None:
    bed = Bed()
    bed.world.wrote(session(9, phase="Ready"))
    found = bed.world.session(Key("physics", "s"))
    assert found is not None
    assert found.status == {"phase": "Ready"}
    bed.sessions.clear()
    assert bed.world.session(Key("physics", "s")) is None


def test_trim_keeps_of_managed_fields_only_that_we_applied() -> None:
    body = child(1)
    body["metadata"]["managedFields"] = [
        {"manager": "af-operator", "operation": "Apply", "fieldsV1": {"f:data": {}}},
        {"manager": "af-operator", "operation": "Update", "subresource": "status"},
        {"manager": "kubectl", "operation": "Apply"},
    ]
    assert trim(body)["metadata"]["managedFields"] == [{"manager": "af-operator", "operation": "Apply"}]
