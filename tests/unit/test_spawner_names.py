"""Names that others have taken: a server of the Hub finds a free one, and never touches what is somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from af_client.hub import names
from tests.support.fake_api import refusal
from tests.support.fake_transport import condition
from tests.support.spawner_bench import GOOD, Bench, refused, session_path, until

FORESEEN = [session_path(name) for name in names.session_names("alice", "z")]
PATH = FORESEEN[0]
SECRET = "/api/v1/namespaces/alice/secrets/alice-z-hub"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench.opened() as bench:
        yield bench


def own(bench: Bench) -> dict[str, Any]:
    """Return alice's sessions by path."""
    found = bench.api.objects.items()
    return {path: b for path, b in found if "/analysissessions/" in path and b["spec"]["user"] == "alice"}


def conflict(path: str, kind: str = "Secret", suffix: str = "-notebook") -> dict[str, Any]:
    name = path.rpartition("/")[2] + suffix
    return condition("NotebookReady", False, "NameConflict", f"{kind} {name}: is there already, and not ours")


async def operate(bench: Bench, *bad: str, part: str = "NotebookReady") -> None:
    """Be the operator for alice's sessions: those of these names cannot be."""
    async with asyncio.timeout(10):
        while True:
            for path, body in own(bench).items():
                fresh = body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]
                if not body["spec"].get("suspend") and not fresh:
                    taken = {**conflict(path), "type": part}
                    await bench.api.say(path, "Starting", *([taken] if path in bad or "*" in bad else GOOD))
            await asyncio.sleep(0.01)


async def started(bench: Bench, *bad: str) -> str:
    """Start alice's server z; return the path of the session that came up."""
    operator = asyncio.create_task(operate(bench, *bad))
    try:
        spawner = bench.spawner("z")
        await spawner.start()
    finally:
        operator.cancel()
    return session_path(spawner.get_state()["name"])


async def test_sessions_of_others_under_every_name_that_can_be_foreseen_keep_nobody_out(bench: Bench) -> None:
    theirs = {path: await bench.apply(path, user="mallory", notebook={"serverName": "z"}) for path in FORESEEN}
    found = await started(bench)
    assert names.made_here(found.rpartition("/")[2], "alice", "z")
    assert {path: bench.api.objects[path] for path in theirs} == theirs


async def test_headless_sessions_of_ones_own_in_the_way_are_left_too(bench: Bench) -> None:
    for path in FORESEEN:
        await bench.api.put(path, {"spec": {"user": "alice", "mode": "Headless", "suspend": True}})
    assert await started(bench) not in FORESEEN


@pytest.mark.parametrize("owner", [[], [{"uid": "of-another"}]], ids=["nobody's", "another's"])
async def test_a_secret_of_somebody_else_is_neither_read_nor_changed(bench: Bench, owner: list[Any]) -> None:
    secrets = [path.replace("/apis/analysisfacility.io/v1alpha1", "/api/v1") for path in FORESEEN]
    secrets = [f"{path.replace('analysissessions', 'secrets')}-hub" for path in secrets]
    body = {"metadata": {"ownerReferences": owner}, "data": {"JUPYTERHUB_API_TOKEN": "a25vd24="}}
    theirs = {path: await bench.api.put(path, body) for path in secrets}
    found = await started(bench)
    assert found not in FORESEEN
    assert {path: bench.api.objects[path] for path in secrets} == theirs
    assert not [r for r in bench.api.requests if r.verb == "GET" and r.path in secrets]
    assert list(own(bench)) == [found], "what could not be has gone"


async def suspended_with_a_secret(bench: Bench, labels: dict[str, str]) -> str:
    """Return the uid of a session that is to start again, and whose Secret's name is taken."""
    uid: str = (await bench.apply(PATH, suspend=True, notebook={"serverName": "z"}))["metadata"]["uid"]
    await bench.api.put(SECRET, {"metadata": {"ownerReferences": [{"uid": uid}], "labels": labels}})
    return uid


async def test_a_secret_that_only_says_it_is_the_sessions_keeps_nobody_out(bench: Bench) -> None:
    await suspended_with_a_secret(bench, {})
    theirs = bench.api.objects[SECRET]
    assert await started(bench) == FORESEEN[1]
    assert bench.api.objects[SECRET] == theirs


async def test_the_secret_of_an_earlier_start_gives_way_and_is_neither_read_nor_patched(bench: Bench) -> None:
    label = {"analysisfacility.io/session-uid": "of-an-earlier-session"}
    await bench.api.put(SECRET, {"metadata": {"ownerReferences": [{"uid": "of-an-earlier-session"}], "labels": label}})
    assert await started(bench) == PATH
    assert bench.api.objects[SECRET]["data"]
    assert [r.verb for r in bench.api.requests if "/secrets" in r.path] == ["POST", "DELETE", "POST"]


async def test_a_secret_that_is_held_on_its_way_out_keeps_nobody_out(bench: Bench) -> None:
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z"})
    bench.api.refuse["POST"] = [refusal(409, "AlreadyExists", "exists", name="alice-z-hub")] * 2
    assert await started(bench) == FORESEEN[1]


@pytest.mark.parametrize("part", ["NotebookReady", "DaskReady"])
async def test_where_a_child_cannot_be_the_session_gets_another_name(bench: Bench, part: str) -> None:
    operator = asyncio.create_task(operate(bench, *FORESEEN, part=part))
    await bench.spawner("z").start()
    operator.cancel()
    assert len(own(bench)) == 1
    assert not own(bench).keys() & set(FORESEEN)


async def test_a_stopped_session_whose_name_was_taken_meanwhile_comes_back_as_it_was(bench: Bench) -> None:
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z", "size": "large"})
    found = await started(bench, PATH)
    assert found == FORESEEN[1]
    assert own(bench)[found]["spec"]["notebook"] == {"serverName": "z", "size": "large"}
    assert PATH not in bench.api.objects


async def test_what_runs_is_not_given_up_for_a_part_of_it(bench: Bench) -> None:
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    await bench.api.say(PATH, "Starting", {**conflict(PATH), "type": "DaskReady"})
    bench.config.AnalysisSessionSpawner.start_timeout = 4  # 3 of which are kept for JupyterHub
    assert (await refused(bench.spawner("z"))).reason == "late"
    assert bench.api.objects[PATH]["metadata"]["uid"] == body["metadata"]["uid"]


async def test_a_session_with_models_in_it_is_not_given_up(bench: Bench) -> None:
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z"}, inference={"upload": True})
    operator = asyncio.create_task(operate(bench, PATH))
    assert (await refused(bench.spawner("z"))).reason == "name-conflict"
    operator.cancel()
    assert PATH in bench.api.objects


async def test_a_home_whose_name_is_taken_is_said_at_once_and_costs_no_session(bench: Bench) -> None:
    home = condition("NotebookReady", False, "NameConflict", "PersistentVolumeClaim home-alice: is not ours")
    failed, _ = await asyncio.gather(refused(bench.spawner("z")), bench.operate(PATH, "Starting", home))
    assert "home-alice" in failed.jupyterhub_message
    assert [r.verb for r in bench.api.requests if r.path.endswith("/analysissessions") and r.verb == "POST"] == ["POST"]
    assert own(bench) == {}


async def test_tries_end_with_words_and_leave_nothing(bench: Bench) -> None:
    operator = asyncio.create_task(operate(bench, "*"))
    failed = await refused(bench.spawner("z"))
    operator.cancel()
    assert failed.jupyterhub_message.startswith("no name was free for your session: Secret alice-z-")
    assert own(bench) == {}


async def test_a_session_that_ended_and_is_not_the_hubs_is_left_to_be_read_and_keeps_nobody_out(bench: Bench) -> None:
    mine = session_path("mine")
    await bench.apply(mine, notebook={"serverName": "z"})
    await bench.api.say(mine, "Failed", condition("Ready", False, "Finished", "the lifetime is over"))
    assert await started(bench) == PATH
    assert mine in bench.api.objects
    await until(lambda: bench.spawner("z").sessions.find("alice", "z").name == "alice-z")
