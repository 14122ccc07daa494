"""When a session is told that its Dask scheduler was lost, and until when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from af_operator.components import dask
from af_operator.components.dask import lost as of_lost
from af_operator.components.dask.dask_kubernetes.replicas import WORKER_GROUP
from af_operator.model import Body, Condition
from tests.support.objects import DASK, container, live, of_component, pod, session, world

SCHEDULER = of_component("dask", **{"dask.org/component": "scheduler"})
UP = [
    {
        "type": "Progressing",
        "status": "True",
        "reason": "NewReplicaSetAvailable",
        "lastUpdateTime": "2026-01-01T10:01:05Z",
    }
]


def deployment(*conditions: dict[str, Any]) -> Body:
    return live("apps/v1", "Deployment", "zmumu-scheduler", SCHEDULER, status={"conditions": list(conditions)})


def scheduler(created: str = "2026-01-01T10:01:00Z", **status: Any) -> Body:
    found = pod("s", SCHEDULER, {**container("scheduler", running={}), **status}, ready=True)
    found["metadata"]["creationTimestamp"] = created
    return found


def lost(*children: Body, before: Condition | None = None, **spec: Any) -> Condition | None:
    s = session(dask=DASK, **spec)
    if before:
        known = {"type": before.type, "status": str(before.true), "reason": before.reason, "message": before.message}
        s = replace(s, status={"conditions": [known]})
    return of_lost.lost(s, world(*children))


@pytest.mark.parametrize(
    ("children", "reason"),
    [
        ([deployment(*UP), scheduler()], None),
        ([deployment(), scheduler("2026-01-01T10:09:00Z")], None),  # its first pod may wait for a node for long
        ([deployment(*UP), scheduler("2026-01-01T10:02:00Z")], "Replaced"),
        ([deployment(*UP), scheduler(restartCount=1)], "Restarted"),
    ],
)
def test_evidence(children: list[Body], reason: str | None) -> None:
    found = lost(*children)
    assert (found and found.reason) == reason
    if found:
        assert found.true
        assert "is lost" in found.message


def test_what_is_lost_stays_lost_until_the_compute_goes() -> None:
    told = lost(deployment(*UP), scheduler(restartCount=1))
    assert told
    assert lost(deployment(*UP), scheduler(), before=told) == told
    suspended = lost(before=told, suspend=True)
    assert suspended
    assert not suspended.true
    resumed = lost(deployment(*UP), scheduler(), before=suspended)
    assert resumed
    assert not resumed.true


def test_it_is_beside_the_readiness_and_not_part_of_it() -> None:
    labels = of_component("dask", "cpu", **{WORKER_GROUP: "zmumu-cpu-1"})
    group = live("kubernetes.dask.org/v1", "DaskWorkerGroup", "zmumu-cpu-1", of_component("dask", "cpu"))
    there = (group, pod("w", labels, ready=True))
    found = dask.health(session(dask=DASK), world(deployment(*UP), scheduler(restartCount=1), *there))
    assert found.ready
    assert found.condition
    assert found.condition.type == of_lost.SCHEDULER.condition
