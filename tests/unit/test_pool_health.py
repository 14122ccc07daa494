"""How a pool is said to be, whatever computes in it."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator.api.pools import Pool
from af_operator.components._shared import pool_health
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components._shared.pool_health import PoolState
from af_operator.model import ObjectRef, Refusal
from af_operator.views import AgentView, PoolAnswer, PoolsAnswer
from tests.support.objects import UNSCHEDULABLE, container, pod

FULL = Reason("QuotaExceeded", "exceeded quota: small")
UP = pod("up", {}, ready=True)
WAITS = pod("waits", {})
NOWHERE = pod("nowhere", {}, conditions=[UNSCHEDULABLE])
PULLS = pod("pulls", {}, container("worker", waiting={"reason": "ErrImagePull", "message": "no such image"}))


def state(least: int, most: int, *pods: Any, **more: Any) -> PoolState:
    pool = {"name": "cpu", "nodePool": "cpu", "workers": {"min": least, "max": most}}
    gpus = {"gpusPerWorker": more.pop("gpus", 0)}
    return PoolState(Pool.model_validate(pool | gpus), most, pods, **{"started": len(pods)} | more)


@pytest.mark.parametrize(
    ("of", "reason", "message"),
    [
        (state(1, 2, UP), None, None),
        (state(0, 2), None, None),
        (state(0, 2, NOWHERE), None, None),  # nobody waits for it
        (state(2, 2, UP), STARTING, "1 started, the others are to come from the operator"),
        (state(2, 2, UP, maker="the Dask operator"), STARTING, "are to come from the Dask operator"),
        (state(2, 2, UP, WAITS), STARTING, "pool cpu: 1 of at least 2 workers ready"),
        (state(2, 2, UP, NOWHERE), "Unschedulable", UNSCHEDULABLE["message"]),
        (state(2, 2, UP, PULLS), "ImagePullBackOff", "no such image"),
        (state(2, 2, UP, refused=FULL), "QuotaExceeded", "1 of at least 2 workers ready: exceeded quota: small"),
        (state(3, 3, UP, PULLS, refused=FULL), "ImagePullBackOff", "no such image"),  # what is there comes first
        (state(3, 3, UP, WAITS, refused=FULL), "QuotaExceeded", "exceeded quota"),
    ],
)
def test_what_keeps_a_pool_below_its_minimum(of: PoolState, reason: str | None, message: str | None) -> None:
    found = of.below_minimum
    assert (found and found.reason) == reason
    assert found is None or (message and message in found.message)


@pytest.mark.parametrize(
    ("of", "summary"),
    [
        (state(1, 2, UP), "pool cpu: 1 of 2 workers"),
        (state(1, 2, UP, refused=FULL), "pool cpu: 1 of 2 workers (exceeded quota: small)"),
        (state(1, 1, UP, NOWHERE, refused=FULL), "pool cpu: 1 of 1 workers"),
        (state(0, 0), "pool cpu: 0 of 0 workers"),
    ],
)
def test_summary(of: PoolState, summary: str) -> None:
    assert of.summary == summary


@pytest.mark.parametrize(("free", "said"), [(None, "2 more nvidia.com/gpu: "), (3, "2 more nvidia.com/gpu, 3 free: ")])
def test_gpus_that_are_asked_for(free: int | None, said: str) -> None:
    stuck = {**NOWHERE, "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}}}]}}
    found = state(1, 1, stuck, gpus=2, gpus_free=free).below_minimum
    assert found
    assert f"asks for {said}{UNSCHEDULABLE['message']}" in found.message


def test_details_are_those_of_the_status() -> None:
    assert pool_health.details([state(1, 2, UP, WAITS)]) == {"pools": {"cpu": {"ready": 1, "desired": 2}}}


def test_real_trouble_comes_before_waiting() -> None:
    waiting = Reason(STARTING, "waits")
    assert pool_health.first_trouble([None, waiting, FULL]) == FULL
    assert pool_health.first_trouble([None, waiting]) == waiting
    assert pool_health.first_trouble([None, None]) is None


def test_workers_on_their_way_out_are_counted_over_all_groups() -> None:
    a = PoolAnswer(retiring=frozenset({"1", "2"}))
    b = PoolAnswer(retiring=frozenset({"3"}), stuck=frozenset({"4"}))
    going, stuck = pool_health.retirements(AgentView(PoolsAnswer(pools={"a": a, "b": b})))
    assert going.endswith(": 3")
    assert stuck.endswith(": 1")
    assert list(pool_health.retirements(AgentView(PoolsAnswer()))) == []
    assert list(pool_health.retirements(None)) == []


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        ('pods "g-worker-1" is forbidden: exceeded quota: small', "QuotaExceeded", "exceeded quota: small"),
        ('pods "g-worker-1" is forbidden: violates PodSecurity', "Refused", "violates PodSecurity"),
    ],
)
def test_a_refusal_is_told_without_the_name_of_a_pod(said: str, reason: str, message: str) -> None:
    found = pool_health.refusal(Refusal(ObjectRef("v1", "Pod", "g-worker-1"), "dask", "Refused", said))
    assert found == Reason(reason, message)
    assert pool_health.refusal(None) is None
