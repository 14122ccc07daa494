"""A session that is being deleted stops at once, whatever holds it; and what an orphaning delete leaves is swept."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from tests.support.bench import PROFILE, SPEC, UNDER_DASK_KUBERNETES, Bench

ENGINES = pytest.mark.parametrize("profile", [PROFILE, UNDER_DASK_KUBERNETES], ids=["Native", "DaskKubernetes"])
LAB = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {}, "dask": SPEC["dask"]}
EVERYTHING = {
    **SPEC,
    "xcache": {"placement": "Session"},
    "spark": {"pools": SPEC["dask"]["pools"][:1]},
    "inference": {"models": []},
}
ROOMY = {
    "images": [PROFILE["images"][0] | {"provides": ["Spark"]}],
    "sizes": [{"name": "small", "cpu": "1", "memory": "4Gi"}],
    "inference": {"image": "registry.test/inference:1"},
}
HOLD = "example.org/archive"


def delete(bench: Bench, *finalizers: str) -> None:
    """Delete the session as the API server does where it has finalizers."""
    body = copy.deepcopy(bench.session)
    body["metadata"] |= {"deletionTimestamp": bench.now.strftime("%Y-%m-%dT%H:%M:%SZ"), "finalizers": [*finalizers]}
    bench.cluster._put("MODIFIED", body)
    bench.deliver()


def runs(body: dict[str, Any]) -> bool:
    """Return whether an object is a pod, or has pods made."""
    spec = body.get("spec", {})
    makes = body["kind"] in ("Job", "StatefulSet", "Deployment", "DaskCluster", "DaskWorkerGroup")
    return body["kind"] == "Pod" or (makes and spec.get("replicas") != 0 and spec.get("suspend") is not True)


@ENGINES
@pytest.mark.parametrize("spec", [SPEC, EVERYTHING, LAB], ids=["run", "everything", "notebook"])
async def test_it_stops_whatever_finalizers_hold_it(spec: dict[str, Any], profile: dict[str, Any]) -> None:
    bench = Bench(spec, profile | ROOMY)
    await bench.settle()
    assert any(map(runs, bench.made.values())), bench.status
    kinds_before = set(bench.made)
    delete(bench, HOLD, "example.org/other")
    await bench.settle()
    assert [ref for ref, body in bench.made.items() if runs(body)] == []
    assert set(bench.made) <= kinds_before, "nothing is made for it any more"
    ready = bench.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Deleting")
    assert f"held by finalizer {HOLD}, example.org/other" in ready["message"]


async def test_then_nothing_more_is_written_whatever_time_passes() -> None:
    """Neither lifetime nor time to live are asked for any more."""
    bench = Bench({**SPEC, "lifetimeSeconds": 300, "ttlSecondsAfterFinished": 60})
    await bench.settle()
    delete(bench, HOLD)
    await bench.settle()
    bench.cluster.writes.clear()
    for _ in range(5):
        bench.now += timedelta(minutes=10)
        assert await bench.reconcile(bench.key) is None
        bench.deliver()
    assert bench.cluster.writes == []


async def test_a_run_that_had_ended_stays_what_it_was() -> None:
    bench = Bench()
    await bench.settle()
    job = copy.deepcopy(bench.made["Job", "zmumu-run"])
    time = bench.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    job["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": time}]}
    bench.cluster._put("MODIFIED", job)
    bench.deliver()
    await bench.settle()
    delete(bench, HOLD)
    await bench.settle()
    assert bench.status["phase"] == "Succeeded"
    assert bench.condition("RunComplete")["reason"] == "Succeeded"
    assert HOLD in bench.condition("Ready")["message"]


async def test_a_profile_that_is_gone_keeps_nothing_running() -> None:
    bench = Bench()
    await bench.settle()
    body = bench.cluster.objects.pop(("AnalysisProfile", "", "default"))
    bench.cluster.events.append(("DELETED", body))
    bench.deliver()
    delete(bench, HOLD)
    await bench.settle()
    assert [ref for ref, body in bench.made.items() if runs(body)] == []
