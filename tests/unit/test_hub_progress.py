"""What the page of a start says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from af_client.hub import progress, spawner
from af_client.model import Session
from af_kube import reflector
from tests.support.fake_transport import condition, status
from tests.support.spawner_bench import GOOD, Bench, session_path, until

PATH = session_path("alice-z")
WAITING = condition("DaskReady", False, "Unschedulable", "pool gpu: 2 of at least 4 workers ready: no GPU is free")


def session(found: dict[str, Any]) -> Session:
    meta = {"name": "alice-z", "namespace": "physics", "uid": "u", "generation": 1}
    return Session.parse({"metadata": meta, "spec": {"user": "alice", "mode": "Interactive"}, "status": found})


def test_each_part_says_why_it_waits() -> None:
    found = session(
        status(
            "Starting",
            condition("Accepted", True),
            condition("Ready", False, "Unschedulable", "a summary"),
            WAITING,
            condition("NotebookReady", True),
            condition("HubRegistered", False, "NotReady", "later"),
            condition("XCacheReady", False, "WaitingForOthers", "waits"),
        )
    )
    assert progress.sentences(found) == [
        "Asked for session alice-z in namespace physics",
        "Your choices are accepted",
        "Dask: pool gpu: 2 of at least 4 workers ready: no GPU is free",
        "Notebook is ready",
    ]
    assert progress.waiting_for(found) == "a summary"


LACKING = "what the session needs at its minimum never fits: exceeded quota: few; ask for less"
NODES = "0/3 nodes are available: 3 Insufficient cpu"


def test_what_all_parts_wait_for_is_said_once_and_the_schedulers_words_mean_something() -> None:
    found = session(
        status(
            "Starting",
            condition("NotebookReady", False, "QuotaTooSmall", LACKING),
            condition("DaskReady", False, "QuotaTooSmall", LACKING),
            condition("HasRoom", False, "QuotaTooSmall", LACKING),
            condition("SparkReady", False, "Unschedulable", NODES),
            condition("Ready", False, "Unschedulable", f"Spark: {NODES}"),
        )
    )
    assert progress.sentences(found)[1:] == [
        LACKING,
        f"Spark: no node has room for it now: {NODES}",
    ]
    assert progress.waiting_for(found) == f"Spark: no node has room for it now: {NODES}"


def test_the_bar_moves_with_the_workers_and_ends_before_the_hub_has_looked() -> None:
    def at(ready: int) -> int:
        pools = {"dask": {"pools": {"gpu": {"ready": ready, "desired": 4}}}}
        return progress.percent(session(status("Starting", condition("Accepted", True), WAITING, components=pools)))

    assert progress.FIRST < at(0) < at(2) < at(4) <= progress.LAST < 100
    assert progress.percent(session(status("Ready", *GOOD))) == progress.LAST


async def events(started: Any) -> list[dict[str, Any]]:
    return [event async for event in started.progress()]


async def test_the_page_tells_each_thing_once_and_never_goes_back() -> None:
    async with Bench.opened() as bench:
        server = bench.spawner("z")
        start = asyncio.create_task(server.start())
        await until(lambda: server._starting)
        told = asyncio.create_task(events(server))
        await bench.operate(PATH, "Starting", condition("Accepted", True), WAITING)
        seen = session(bench.api.objects[PATH]["status"])
        await until(lambda: server._start.session and server._start.session.phase == seen.phase)
        await asyncio.wait_for(server.sessions.changed(0.3), 1)
        await bench.operate(PATH)
        await start
        messages = [event["message"] for event in await told]
        assert messages[0] == "Asked for session alice-z in namespace alice"
        assert "Dask: pool gpu: 2 of at least 4 workers ready: no GPU is free" in messages
        assert len(messages) == len(set(messages))
        percents = [event["progress"] for event in await told]
        assert percents == sorted(percents)


async def test_an_operator_that_is_away_is_said_and_the_start_comes_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawner, "OPERATOR_SECONDS", 0.1)
    async with Bench.opened() as bench:
        server = bench.spawner("z")
        start = asyncio.create_task(server.start())
        await until(lambda: server._starting)
        stream = server.progress()
        async with asyncio.timeout(5):
            async for event in stream:
                if event["message"] == progress.OPERATOR_AWAY:
                    break
        await bench.operate(PATH)
        assert await start
        await stream.aclose()


async def test_an_api_server_that_is_away_is_not_taken_for_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawner, "OPERATOR_SECONDS", 0.0)
    for name in ("GRACE_SECONDS", "LONGEST_PAUSE"):
        monkeypatch.setattr(reflector, name, 0.2)
    async with Bench.opened() as bench:
        server = bench.spawner("z")
        start = asyncio.create_task(server.start())
        await until(lambda: PATH in bench.api.objects and not bench.api.objects[PATH]["spec"]["suspend"])
        await bench.api.go_away()
        await until(lambda: not server.sessions.fresh, 10)
        assert server._lines(server._start, server._start.session) == [progress.CLUSTER_UNSEEN]
        await bench.api.go_away(False)
        await bench.operate(PATH)
        assert await start
