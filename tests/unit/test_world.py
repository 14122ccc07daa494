"""The snapshot: what watches and our own writes told, whichever is newer, and not more of it than passes need."""

from __future__ import annotations

from typing import Any

import pytest

from af_kube.store import key_of, version_of
from af_operator import world as module
from af_operator.components import shipped
from af_operator.model import Key
from af_operator.names import SESSION_UID, USER
from af_operator.views import HubServer
from af_operator.world import LAST_APPLIED, World, parse_session, trim, trim_session
from tests.support.bench import SPEC

KEY = Key("physics", "s")
FILES = {"zmumu.py": "print('a long program')\n" * 100}


def child(version: int, uid: str = "c-1", **data: str) -> dict[str, Any]:
    metadata = {"name": "c", "namespace": "physics", "uid": uid, "resourceVersion": str(version)}
    metadata["labels"] = {SESSION_UID: "s-1"}  # type: ignore[assignment]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def session(version: int, name: str = "s", spec: Any = SPEC, **status: str) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "physics",
        "uid": f"{name}-1",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-21T12:00:00Z",
    }
    kind = {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisSession"}
    return {**kind, "metadata": metadata, "spec": spec, "status": status}


class Bed:
    def __init__(self) -> None:
        self.world = World(shipped())
        self.world.wrote(session(1))

    def watch(self, event: str, body: dict[str, Any]) -> None:
        store = self.world.store_of(body)
        if event == "DELETED":
            store.drop(key_of(body), body["metadata"]["uid"], version_of(body))
        else:
            store.put(body)

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


def test_an_answer_that_comes_after_the_news_of_the_end_brings_nothing_back() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.watch("DELETED", child(4))
    bed.world.wrote(child(3))
    assert bed.seen() == []


def test_what_we_deleted_is_terminating_until_the_watch_says_gone() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.world.deleted(child(3))
    assert ["deletionTimestamp" in b["metadata"] for b in bed.seen()] == [True]
    bed.watch("DELETED", child(4))
    assert bed.seen() == []
    assert not bed.world._terminating


def test_the_news_of_an_end_may_come_before_the_answer_to_the_delete() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.watch("DELETED", child(4))
    bed.world.deleted(child(3))
    assert not bed.world._terminating, "else it would be remembered for ever"


def test_a_successor_of_what_we_deleted_is_alive() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.world.deleted(child(3))
    bed.watch("ADDED", child(7, uid="c-2"))
    assert ["deletionTimestamp" in b["metadata"] for b in bed.seen()] == [False]
    assert not bed.world._terminating


def test_a_late_echo_of_a_deletion_does_not_hide_the_successor_that_we_wrote() -> None:
    bed = Bed()
    bed.watch("ADDED", child(3))
    bed.world.wrote(child(7, uid="c-2"))
    bed.watch("DELETED", child(6))
    assert [b["metadata"]["uid"] for b in bed.seen()] == ["c-2"]


def test_a_label_in_another_namespace_makes_no_child() -> None:
    bed = Bed()
    stranger = child(3)
    stranger["metadata"]["namespace"] = "other"
    bed.watch("ADDED", stranger)
    assert bed.seen() == []


def test_the_newest_status_of_a_session_is_ours() -> None:
    bed = Bed()
    bed.world.wrote(session(9, phase="Ready"))
    bed.watch("MODIFIED", session(8, phase="Starting"))
    found = bed.world.session(KEY)
    assert found is not None
    assert found.status == {"phase": "Ready"}
    assert bed.world.phases() == {"Ready": 1}
    bed.watch("DELETED", session(10))
    assert bed.world.session(KEY) is None
    assert bed.world.phases() == {}


def test_what_is_found_by_user_profile_and_server_follows_each_change() -> None:
    bed = Bed()
    lab = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {}}
    bed.world.wrote(session(2, "lab", lab))
    server = HubServer("alice", "lab")
    assert bed.world.notebooks() == bed.world.notebooks(["alice"]) == [Key("physics", "lab")]
    assert [s.name for s in bed.world.sessions_of(server)] == ["lab"]
    assert bed.world.sessions_of_user("physics", "alice") == [KEY, Key("physics", "lab")]
    assert bed.world.sessions_of_profile("default") == [KEY, Key("physics", "lab")]
    bed.watch("DELETED", session(3, "lab", lab))
    assert bed.world.notebooks() == bed.world.sessions_of(server) == []
    assert bed.world.sessions_of_user("physics", "alice") == [KEY]


def with_files(version: int) -> dict[str, Any]:
    return session(version, spec={**SPEC, "run": {"command": ["x"], "source": {"files": FILES}}})


def files_of(world: World) -> Any:
    found = world.session(KEY)
    assert found is not None
    assert found.spec.run is not None
    assert found.spec.run.source is not None
    return found.spec.run.source.files, found.trimmed


def test_the_text_of_a_source_is_held_until_its_config_map_is_there() -> None:
    world = World(shipped())
    world.learn_session(with_files(1))
    assert files_of(world) == (FILES, False)
    session = world.session(KEY)
    assert session is not None
    world.text_is_kept(session)
    assert files_of(world) == ({"zmumu.py": ""}, True)
    assert world._text_bytes == 0


def test_only_so_much_text_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXT_BYTES", 0)
    world = World(shipped())
    world.learn_session(with_files(1))
    assert files_of(world) == ({"zmumu.py": ""}, True)


def test_the_text_of_a_session_that_goes_is_not_held() -> None:
    bed = Bed()
    bed.world.learn_session(with_files(2))
    bed.watch("DELETED", session(3))
    assert bed.world._text_bytes == 0


def test_trim_keeps_of_managed_fields_only_that_the_object_is_ours() -> None:
    body = child(1)
    body["metadata"]["managedFields"] = [
        {"manager": "af-operator", "operation": "Apply", "fieldsV1": {"f:data": {}}},
        {"manager": "af-operator", "operation": "Update", "subresource": "status"},
        {"manager": "kubectl", "operation": "Apply"},
    ]
    assert trim(body)["metadata"]["managedFields"] == [{"manager": "af-operator", "operation": "Apply"}]


def test_trim_drops_the_text_of_what_cannot_change_and_what_kubectl_wrote_down_twice() -> None:
    body = child(1, big="text") | {"immutable": True}
    body["metadata"]["annotations"] = {LAST_APPLIED: "all of it again", "kept": "yes"}
    found = trim(body)
    assert found["data"] == {"big": ""}
    assert found["metadata"]["annotations"] == {"kept": "yes"}
    assert trim(child(1, big="text"))["data"] == {"big": "text"}


def test_a_session_is_kept_without_its_text() -> None:
    found = trim_session(with_files(1))
    assert found["spec"]["run"]["source"]["files"] == {"zmumu.py": ""}
    assert with_files(1)["spec"]["run"]["source"]["files"] == FILES


def test_what_is_kept_of_many_like_sessions_is_small() -> None:
    world = World(shipped())
    for number in range(200):
        body = with_files(number + 1)
        body["metadata"] |= {"name": f"s{number}", "uid": f"u{number}"}
        world.sessions.put(body)
    kept = sum(len(world.sessions._entries[key].kept) for key in world.sessions)
    assert kept < 200 * 400, "a packed session is hundreds of bytes, not thousands"
    assert world.session_body(Key("physics", "s7")) == trim_session(
        body | {"metadata": {**body["metadata"], "name": "s7", "uid": "u7", "resourceVersion": "8"}}
    )


def test_of_one_kind_some_are_a_users_and_others_a_sessions() -> None:
    """Volume claims: a home that went to the others would not be seen, and made anew."""
    bed = Bed()
    home, store = (
        {
            **child(3, uid=name),
            "kind": "PersistentVolumeClaim",
            "metadata": {**child(3, uid=name)["metadata"], "name": name},
        }
        for name in ("home-alice", "s-inference-store")
    )
    home["metadata"]["labels"] = {USER: "alice"}
    for body in (home, store):
        bed.world.wrote(body)
    observed = bed.world.observed(parse_session(session(1, spec=SPEC | {"user": "alice"})))
    assert [body["metadata"]["name"] for body in observed.shared] == ["home-alice"]
    assert [body["metadata"]["name"] for body in observed.children] == ["s-inference-store"]
