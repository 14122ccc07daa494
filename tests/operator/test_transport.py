"""Events in, keys out: kopf's two kinds, and what the stores of the world tell of all others."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_operator import handlers, names
from af_operator.components import shipped
from af_operator.handlers import kopf
from af_operator.model import Key
from af_operator.queue import WorkQueue
from af_operator.world import World

KEY = Key("physics", "zmumu")


def session(version: int = 1, uid: str = "s-1", **more: Any) -> dict[str, Any]:
    metadata = {"name": "zmumu", "namespace": "physics", "uid": uid, "resourceVersion": str(version), "generation": 1}
    return {
        "apiVersion": "analysisfacility.io/v1alpha1",
        "kind": "AnalysisSession",
        "metadata": metadata,
        "spec": {"profile": "default", "user": "alice"},
        **more,
    }


def pod(version: int, uid: str = "s-1", spec: Any = None) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "physics", "uid": "p-1", "resourceVersion": str(version)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata | {"labels": {names.SESSION_UID: uid}},
        "spec": spec or {},
    }


def profile(generation: int, version: int, name: str = "default") -> dict[str, Any]:
    metadata = {"name": name, "uid": f"f-{name}", "generation": generation, "resourceVersion": str(version)}
    return {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisProfile", "metadata": metadata}


def node(version: int, **spec: Any) -> dict[str, Any]:
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "2"}}
    metadata = {"name": "n", "uid": "n-1", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": ready}


class Bed:
    """A world with one session of one profile; what that told is forgotten."""

    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.world = World(shipped())
        self.transport = handlers.Transport(self.queue, self.world)
        self.transport.listen()
        self.version = 10

    async def session(self, kind: str | None, body: dict[str, Any]) -> None:
        await self.transport._on_session(event={"type": kind, "object": body})

    async def profile(self, kind: str | None, body: dict[str, Any]) -> None:
        await self.transport._on_profile(event={"type": kind, "object": body})

    async def keys(self) -> list[Key]:
        found = [await self.queue.get() for _ in range(len(self.queue))]
        for key in found:
            self.queue.done(key)
        return found


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr(handlers, "COALESCE", 0.0)
    monkeypatch.setattr(handlers, "FREE_AFTER", 0.0)
    found = Bed()
    await found.session("ADDED", session())
    await found.profile("ADDED", profile(1, 1))
    await found.keys()
    return found


async def test_a_session_event_is_a_key(bed: Bed) -> None:
    await bed.session("MODIFIED", session(2))
    assert await bed.keys() == [KEY]


async def test_the_echo_of_what_is_known_is_no_key(bed: Bed) -> None:
    bed.world.wrote(session(5))
    await bed.session("MODIFIED", session(5))
    await bed.session("MODIFIED", session(4))
    assert await bed.keys() == []


async def test_a_session_that_goes_is_a_key_by_whatever_way_that_is_heard_of(bed: Bed) -> None:
    await bed.session("DELETED", session(7))
    assert await bed.keys() == [KEY]
    assert bed.world.session_body(KEY) is None
    await bed.session("ADDED", session(8, uid="s-2"))
    await bed.keys()
    bed.world.sessions.drop(KEY, "s-2", 9)
    assert await bed.keys() == [KEY]


async def test_what_changed_goes_before_what_a_list_tells_of(bed: Bed) -> None:
    listed = [session(20, uid=f"l-{name}") for name in "abc"]
    for name, body in zip("abc", listed, strict=True):
        body["metadata"]["name"] = name
        body["status"] = {"observedGeneration": 1}
        await bed.session(None, body)
    never_seen = session(21, uid="l-d")
    never_seen["metadata"]["name"] = "d"
    await bed.session(None, never_seen)
    await bed.session("MODIFIED", session(22))
    assert [key.name for key in await bed.keys()] == ["d", "zmumu", "a", "b", "c"]


async def test_a_profile_event_is_its_own_key_and_those_of_its_sessions(bed: Bed) -> None:
    await bed.profile("ADDED", profile(1, 2, name="other"))
    assert await bed.keys() == [Key("", "other")]
    await bed.profile("MODIFIED", profile(2, 3))
    assert set(await bed.keys()) == {Key("", "default"), KEY}


async def test_a_profiles_status_wakes_no_session(bed: Bed) -> None:
    await bed.profile("MODIFIED", profile(1, 4))
    assert await bed.keys() == [Key("", "default")]


async def test_a_profile_that_goes_and_comes_again_wakes_its_sessions_both_times(bed: Bed) -> None:
    for kind, version in (("DELETED", 5), ("ADDED", 6)):
        body = profile(1, version) | {"metadata": profile(1, version)["metadata"] | {"uid": f"f-{kind}"}}
        if kind == "DELETED":
            body = profile(1, version)
        await bed.profile(kind, body)
        assert KEY in await bed.keys(), kind


async def test_a_node_that_only_tells_that_it_lives_costs_no_pass(bed: Bed) -> None:
    for body, passes in (
        (node(1), 1),
        (node(2), 0),
        (node(3, unschedulable=True), 1),
        (node(4, unschedulable=True), 0),
    ):
        bed.world.nodes.put(body)
        assert await bed.keys() == [Key("", "default")] * passes, body
    bed.world.nodes.drop(Key("", "n"), "n-1", 5)
    assert await bed.keys() == [Key("", "default")]


async def test_only_pods_with_gpus_are_counted_again(bed: Bed) -> None:
    pods = bed.world.children[handlers.POD]
    pods.put(pod(2, uid="s-0"))
    assert await bed.keys() == []
    gpu = {"containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    pods.put(pod(3, uid="s-0", spec=gpu))
    assert await bed.keys() == [Key("", "default")]
    pods.drop(Key("physics", "p"), "p-1", 4)
    assert await bed.keys() == [Key("", "default")]


@pytest.mark.parametrize(
    ("namespace", "user", "woken"), [("physics", "alice", [KEY]), ("physics", "bob", []), ("other", "alice", [])]
)
async def test_what_a_user_shares_wakes_their_sessions_in_its_namespace(
    bed: Bed, namespace: str, user: str, woken: list[Key]
) -> None:
    (claims,) = bed.world.shared.values()
    metadata = {"name": "home", "namespace": namespace, "uid": "c-1", "resourceVersion": "3"}
    claims.put({"kind": "PersistentVolumeClaim", "metadata": metadata | {"labels": {names.USER: user}}})
    assert await bed.keys() == woken


async def test_the_events_of_many_children_are_one_pass_a_moment_later(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "COALESCE", 0.01)
    for version in range(5):
        bed.world.children[handlers.POD].put(pod(30 + version))
    assert len(bed.queue) == 0
    assert await bed.queue.get() == KEY
    assert len(bed.queue) == 0


async def test_a_child_of_a_session_that_is_gone_is_nobodys(bed: Bed) -> None:
    bed.world.children[handlers.POD].put(pod(2, uid="s-0"))
    assert await bed.keys() == []


async def test_nothing_is_registered_that_would_put_a_finalizer_on_objects_or_index_them(bed: Bed) -> None:
    registry: Any = bed.transport.registry()
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert not registry._indexing.get_all_handlers()
    assert len(registry._watching.get_all_handlers()) == 2


def test_what_kopf_gets_wrong_for_us_is_set() -> None:
    options = kopf.OperatorSettings()
    handlers.configure(options)
    assert options.posting.enabled is False
    assert options.queueing.worker_limit is None, "set alone it starves"


@pytest.fixture
def nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that does not answer: kopf asks again and again."""
    named = {"name": "gone"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gone",
        "contexts": [named | {"context": {"cluster": "gone", "user": "gone"}}],
        "clusters": [named | {"cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [named | {"user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


async def _unresolved() -> None:
    raise OSError("Domain name not found")


@pytest.mark.usefixtures("nobody_there")
async def test_a_signal_ends_it_whatever_else_in_the_process_fails_or_goes_on(bed: Bed) -> None:
    """Seen: an agent's name could not be resolved just as the operator was told to end, and it went on."""
    watch = asyncio.create_task(bed.transport.run([]))
    await asyncio.sleep(0.1)  # kopf has its tasks, and we the signals
    failing = asyncio.create_task(_unresolved())
    going_on = asyncio.create_task(asyncio.Event().wait())
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(watch, 30)
    assert not going_on.done(), "it was ended with kopf"
    assert isinstance(failing.exception(), OSError)
    going_on.cancel()


async def test_kopf_begins_anew_when_it_fails_and_no_timer_takes_the_process_along(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "ANEW_SECONDS", 0.0)
    asked: list[dict[str, Any]] = []
    third = asyncio.Event()

    async def spawn_tasks(**options: Any) -> list[asyncio.Task[Any]]:
        asked.append(options)
        if len(asked) < 3:
            return [asyncio.create_task(_unresolved()), asyncio.create_task(asyncio.Event().wait())]
        third.set()
        return [asyncio.create_task(options["stop_flag"].wait()), asyncio.create_task(asyncio.Event().wait())]

    monkeypatch.setattr(kopf, "spawn_tasks", spawn_tasks)
    watch = asyncio.create_task(bed.transport.run(["physics"]))
    await third.wait()
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(watch, 30)
    assert [options["namespaces"] for options in asked] == [["physics"]] * 3
    assert not asked[0]["clusterwide"]
    assert asked[0]["settings"].process.ultimate_exiting_timeout is None
