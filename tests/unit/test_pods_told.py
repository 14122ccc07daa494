"""Which pods the status names, for their logs."""

from __future__ import annotations

from typing import Any

from af_operator import names
from af_operator.pods_told import MOST, with_logs
from tests.support.objects import container, of_component, pod


def begun(name: str, *, ready: bool = True, **labels: str) -> dict[str, Any]:
    found = pod(name, of_component("dask"), container("worker", running={}), ready=ready)
    found["metadata"]["labels"] |= labels
    return found


def test_pods_are_told_by_pool_by_role_or_by_component() -> None:
    pods = [
        begun("w2", **{names.POOL: "cpu", names.ROLE: "worker"}),
        begun("w1", **{names.POOL: "cpu", names.ROLE: "worker"}),
        begun("s", **{names.ROLE: "scheduler"}),
        begun("t", **{"dask.org/component": "scheduler"}),
        begun("n"),
    ]
    assert with_logs("dask", pods) == {"cpu": ["w1", "w2"], "scheduler": ["s", "t"], "dask": ["n"]}


def test_a_pod_that_has_written_nothing_is_not_told() -> None:
    waiting = pod("w", of_component("dask"), container("worker", waiting={"reason": "ImagePullBackOff"}), ready=False)
    assert with_logs("dask", [waiting, pod("x", of_component("dask"), ready=False)]) == {}


def test_of_many_those_in_trouble_are_told() -> None:
    pods = [begun(f"w{number:02}", ready=number != 90) for number in range(99)]
    told = with_logs("dask", pods)["dask"]
    assert len(told) == MOST
    assert "w90" in told
    assert told == sorted(told)
