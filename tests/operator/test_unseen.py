"""What a pass does when something goes wrong with itself, with its world, or with the text that it needs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from af_operator import plan
from af_operator.errors import Unavailable
from af_operator.model import Key
from af_operator.passes import BROKEN, TOLD_AFTER, _run_pass
from af_operator.queue import WorkQueue
from af_operator.reconcile import BLIND_RETRY
from tests.support.bench import SPEC, UNDER_DASK_KUBERNETES, Bench


async def test_nothing_is_made_or_deleted_by_a_world_that_is_long_past() -> None:
    bench = Bench()
    bench.world.unseen = lambda: "nothing is heard of pods for 42 s"
    assert await bench.reconcile(bench.key) == bench.now + BLIND_RETRY
    assert bench.cluster.writes == []
    bench.world.unseen = lambda: None
    await bench.settle()
    bench.cluster.writes.clear()
    bench.world.unseen = lambda: "nothing is heard of pods for 42 s"
    bench.change(suspend=True)
    await bench.reconcile(bench.key)
    assert bench.cluster.writes == []


async def test_a_session_that_nothing_is_done_to_is_told_of_all_the_same() -> None:
    bench = Bench()
    await bench.settle()
    bench.world.unseen = lambda: "nothing is heard of pods for 42 s"
    bench.change(lifetimeSeconds=7200)
    await bench.reconcile(bench.key)
    assert bench.status["observedGeneration"] == 2


async def failing(bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int, queue: WorkQueue) -> None:
    def fails(*_: Any) -> Any:
        raise KeyError("replicas")

    with monkeypatch.context() as broken:
        broken.setattr(plan, "build", fails)
        for _ in range(times):
            await _run_pass(queue, bench.reconcile, lambda: bench.now, bench.key)
            bench.deliver()


async def test_a_pass_that_fails_again_and_again_is_told_to_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, queue, counted = Bench(), WorkQueue(), BROKEN._value.get()
    await bench.settle()
    before = bench.status
    await failing(bench, monkeypatch, TOLD_AFTER - 1, queue)
    assert bench.status == before, "once or twice may come of a moment"
    bench.cluster.writes.clear()
    await failing(bench, monkeypatch, 5, queue)
    assert [verb for verb, _ in bench.cluster.writes] == ["status"], "said once"
    condition = bench.condition("InternalError")
    assert condition["status"] == "True"
    for word in ("KeyError", "physics/zmumu", "a pass failed", "admin"):
        assert word in condition["message"]
    assert {c["type"] for c in bench.status["conditions"]} == {c["type"] for c in before["conditions"]} | {
        "InternalError"
    }
    assert bench.status["phase"] == before["phase"]
    assert BROKEN._value.get() == counted + 1
    await _run_pass(queue, bench.reconcile, lambda: bench.now, bench.key)
    assert BROKEN._value.get() == counted
    await bench.settle()
    assert "InternalError" not in {c["type"] for c in bench.status["conditions"]}, "and it is over when it is over"


async def test_a_session_that_never_had_a_status_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    await failing(bench, monkeypatch, TOLD_AFTER, WorkQueue())
    assert bench.status["phase"] == "Pending"
    assert bench.status["observedGeneration"] == 1


async def test_who_cannot_be_told_of_a_failure_takes_no_worker_along(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, queue = Bench(), WorkQueue()
    bench.cluster.errors["status"] = Unavailable("503")
    await failing(bench, monkeypatch, TOLD_AFTER + 1, queue)
    assert queue.faults(bench.key) == TOLD_AFTER + 1


async def test_a_source_is_read_again_only_where_its_text_is_needed_and_not_at_hand() -> None:
    bench = Bench()
    reads: list[Key] = []
    read = bench.cluster.read_session

    async def counted(session: Any) -> Any:
        reads.append(Key(session.namespace, session.name))
        return await read(session)

    bench.cluster.read_session = counted  # type: ignore[method-assign]
    await bench.settle()
    source = ("ConfigMap", "zmumu-source")
    assert bench.made[source]["data"] == SPEC["run"]["source"]["files"]
    assert reads == [], "a session that is created costs no read"
    bench.cluster.events.append(("DELETED", bench.cluster.objects.pop(("ConfigMap", "physics", "zmumu-source"))))
    bench.deliver()
    await bench.settle()
    assert bench.made[source]["data"] == SPEC["run"]["source"]["files"]
    assert reads == [bench.key]


async def test_siblings_of_a_request_that_fails_have_ended_before_the_pass_does() -> None:
    bench = Bench(profile=UNDER_DASK_KUBERNETES)
    await bench.settle()
    under_way = 0
    delete = bench.cluster.delete

    async def slow(body: Any) -> None:
        nonlocal under_way
        if body["kind"] == "DaskCluster":
            raise Unavailable("503")
        under_way += 1
        await asyncio.sleep(0.01)
        await delete(body)
        under_way -= 1

    bench.cluster.delete = slow  # type: ignore[method-assign]
    bench.change(suspend=True)
    with pytest.raises(Unavailable):
        await bench.reconcile(bench.key)
    assert under_way == 0
    assert "DaskWorkerGroup" not in {kind for kind, _ in bench.made}


async def test_a_key_that_somebody_added_to_a_config_map_of_ours_goes() -> None:
    bench = Bench()
    await bench.settle()
    agent = bench.made["ConfigMap", "zmumu-dask-agent"]
    bench.cluster._put("MODIFIED", {**agent, "data": agent["data"] | {"added.py": "import os"}})
    bench.deliver()
    bench.now += timedelta(seconds=1)
    await bench.settle()
    assert bench.made["ConfigMap", "zmumu-dask-agent"]["data"] == agent["data"]
