"""Passes over runs that lose their pods: one Job after the other, and what is told in the end."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

from tests.support.bench import Bench
from tests.support.played_controllers import come_up, lose, of_kind

RUN = {"profile": "default", "user": "alice", "mode": "Headless", "run": {"command": ["python", "-V"]}}
TAKEN = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API"}


def end(bench: Bench, kind: str, reason: str) -> None:
    """Have the Job controller end the run's Job."""
    [job] = of_kind(bench, "Job")
    when = bench.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"type": kind, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": when}
    counts = {"succeeded": 1} if kind == "Complete" else {"failed": 1}
    bench.cluster._put("MODIFIED", {**copy.deepcopy(job), "status": {"conditions": [ended], **counts}})
    bench.deliver()


def take_away(bench: Bench) -> None:
    """Have the pod evicted: it ends, the Job controller counts it, and it is gone."""
    [pod] = of_kind(bench, "Pod")
    going = copy.deepcopy(pod)
    going["metadata"]["deletionTimestamp"] = bench.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    going["status"]["conditions"] = [TAKEN]
    bench.cluster._put("MODIFIED", going)
    bench.deliver()


async def until_told(bench: Bench) -> dict[str, Any]:
    for _ in range(3):
        await come_up(bench)
        bench.now += timedelta(seconds=5)
    return dict(bench.status)


async def test_a_run_that_is_evicted_begins_again_and_tells_of_it() -> None:
    bench = Bench(spec=RUN)
    await come_up(bench)
    take_away(bench)
    await bench.settle()
    told = bench.status["run"]
    assert (told["disruptions"], told["lastDisruption"]) == (1, "evicted through the API, as when its node is drained")
    lose(bench, of_kind(bench, "Pod")[0])
    end(bench, "Failed", "PodFailurePolicy")
    await bench.settle()
    assert bench.status["phase"] == "Starting"
    bench.now += timedelta(seconds=10)
    await until_told(bench)
    assert [job["metadata"]["name"] for job in of_kind(bench, "Job")] == ["zmumu-run-2"]
    end(bench, "Complete", "CompletionsReached")
    found = await until_told(bench)
    assert found["phase"] == "Succeeded"
    assert found["run"]["attempts"] == 2
    assert found["run"]["disruptions"] == 1
    assert found["run"]["lastDisruption"] == "evicted through the API, as when its node is drained"


async def test_an_operator_that_was_away_all_the_while_begins_it_again_as_well() -> None:
    bench = Bench(spec=RUN)
    await come_up(bench)
    lose(bench, of_kind(bench, "Pod")[0])
    end(bench, "Failed", "BackoffLimitExceeded")
    bench.now += timedelta(minutes=5)
    bench.restart()
    found = await until_told(bench)
    assert [job["metadata"]["name"] for job in of_kind(bench, "Job")] == ["zmumu-run-2"]
    assert (found["run"]["disruptions"], found["run"]["lastDisruption"]) == (1, "its pod was deleted")
