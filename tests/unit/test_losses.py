"""What was lost is said in words, by whoever knew them, and stays said: notebooks, schedulers, workers, replicas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from af_operator import names
from af_operator.components import dask, inference, notebook, spark
from af_operator.components.dask import lost as of_dask
from af_operator.model import Body, Health, Session
from tests.support.objects import DASK, container, live, of_component, pod, session, world

OOM = {"exitCode": 137, "reason": "OOMKilled"}
PREEMPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "m"}
SERVER = of_component("notebook")
SET = live("apps/v1", "StatefulSet", "zmumu-notebook", SERVER, spec={"replicas": 1})


def told(s: Session, *conditions: tuple[str, str, str, str]) -> Session:
    """Return the session as its status has told of it: type, status, reason, message."""
    found = [
        {"type": t, "status": st, "reason": r, "message": m, "lastTransitionTime": "2026-01-01T10:03:00Z"}
        for t, st, r, m in conditions
    ]
    return replace(s, status={**s.status, "conditions": found})


def server(*statuses: dict[str, Any], created: str = "10:01", **status: Any) -> dict[str, Any]:
    found = pod("zmumu-notebook-0", SERVER, *(statuses or [container("notebook", running={})]), **status)
    found["metadata"]["creationTimestamp"] = f"2026-01-01T{created}:00Z"
    found["spec"]["containers"] = [{"name": "notebook"}]
    return found


def again(name: str, last: dict[str, Any]) -> dict[str, Any]:
    return {**container(name, running={}, last=last), "restartCount": 1, "ready": True}


LAB = told(session(notebook={}), ("NotebookReady", "True", "Ready", ""))


@pytest.mark.parametrize(
    ("children", "reason", "words"),
    [
        ([server(ready=True)], None, ""),
        (
            [server(again("notebook", OOM), ready=True)],
            "Restarted",
            "container notebook used more memory than its size has: choose a larger size (spec.notebook.size)",
        ),
        ([server(conditions=[PREEMPTED])], "Replaced", "preempted by a pod of higher priority"),
        ([server(created="10:04")], "Replaced", "its pod was evicted or deleted, or its node was lost"),
        ([], "Replaced", "its pod was evicted or deleted, or its node was lost"),
    ],
)
def test_a_notebook_that_is_lost_says_what_with_it(children: list[Body], reason: str | None, words: str) -> None:
    found = notebook.health(LAB, world(SET, *children)).condition
    assert (found and found.reason) == reason
    if found:
        assert found.type == "NotebookLost"
        assert found.message.startswith(
            f"the notebook server was lost ({'its container' if 'memory' in words else words}"
        )
        assert words in found.message
        assert "files in home stay" in found.message


def test_a_notebook_that_was_never_up_has_lost_nothing() -> None:
    assert notebook.health(session(notebook={}), world(SET)).condition is None
    crashing = {**container("notebook", waiting={"reason": "CrashLoopBackOff"}, last=OOM), "restartCount": 3}
    assert notebook.health(session(notebook={}), world(SET, server(crashing))).condition is None


def test_who_knew_more_of_a_loss_is_not_overruled() -> None:
    first = notebook.health(LAB, world(SET, server(conditions=[PREEMPTED]))).condition
    assert first
    later = told(
        session(notebook={}),
        ("NotebookReady", "True", "Ready", ""),
        ("NotebookLost", "True", first.reason, first.message),
    )
    assert notebook.health(later, world(SET, server(created="10:04"))).condition == first
    down = told(session(notebook={}), ("NotebookLost", "True", first.reason, first.message))
    assert notebook.health(down, world(SET)).condition == first


def test_a_scheduler_that_used_too_much_memory_says_which_field_to_change() -> None:
    labels = of_component("dask", **{names.ROLE: "scheduler"})
    found = pod("s", labels, again("scheduler", OOM), ready=True)
    found["spec"]["containers"] = [{"name": "scheduler"}]
    lost = of_dask.lost(session(dask=DASK), world(live("apps/v1", "Deployment", "zmumu-scheduler", labels), found))
    assert lost
    assert "used more memory than its size has: choose a larger size (spec.dask.scheduler.size)" in lost.message


WORKERS = [
    (dask, "dask", {"dask": DASK}, "cpu", "spec.dask.pools[name=cpu].size"),
    (spark, "spark", {"spark": DASK}, "cpu", "spec.spark.pools[name=cpu].size"),
    (inference, "inference", {"inference": {"models": [{"name": "m"}]}}, "replicas", "spec.inference.size"),
]


def worker(component: str, pool: str, *statuses: dict[str, Any], **status: Any) -> dict[str, Any]:
    found = pod("w-1", of_component(component, pool, **{names.ROLE: "worker"}), *statuses, **status)
    found["spec"]["containers"] = [{"name": "worker"}]
    return found


def losses(health: Health, pool: str) -> str | None:
    found: str | None = health.details["pools"][pool].get("lastLoss")
    return found


@pytest.mark.parametrize(("module", "component", "spec", "pool", "field"), WORKERS)
def test_a_worker_that_was_lost_is_told_of_and_stays_told(
    module: Any, component: str, spec: dict[str, Any], pool: str, field: str
) -> None:
    s = session(**spec)
    taken = worker(component, pool, conditions=[PREEMPTED])
    assert losses(module.health(s, world(taken)), pool) == "preempted by a pod of higher priority"
    hungry = worker(component, pool, again("worker", OOM), ready=True)
    words = losses(module.health(s, world(hungry)), pool)
    assert words == f"container worker used more memory than its size has: choose a larger size ({field})"
    over = 'Container worker exceeded its local ephemeral storage limit "1Gi". '
    greedy = worker(component, pool, phase="Failed", reason="Evicted", message=over)
    told = losses(module.health(s, world(greedy)), pool)
    assert told
    assert f"choose a larger size ({field})" in told
    removed = worker(component, pool, ready=True)
    removed["metadata"]["deletionTimestamp"] = "2026-01-01T10:04:00Z"
    assert losses(module.health(s, world(removed)), pool) is None
    later = replace(s, status={"components": {component: {"pools": {pool: {"lastLoss": "as told"}}}}})
    assert losses(module.health(later, world()), pool) == "as told"


def going(body: dict[str, Any]) -> dict[str, Any]:
    """Return a pod that was made at 10:01 and is asked to go."""
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-01-01T10:05:00Z"}}


def deployment(name: str, labels: dict[str, str], created: str, **metadata: str) -> dict[str, Any]:
    found = live("apps/v1", "Deployment", name, labels)
    found["metadata"] |= {"creationTimestamp": f"2026-01-01T{created}:00Z"} | metadata
    return found


HOLDERS = [
    (dask, {"dask": DASK}, of_component("dask", **{names.ROLE: "scheduler"}), "scheduler", "zmumu-scheduler"),
    (spark, {"spark": DASK}, of_component("spark", **{names.ROLE: "master"}), "connect", "zmumu-spark"),
]
WAS_SUSPENDED = ("Suspended", "True", "Suspended", "")


@pytest.mark.parametrize(("module", "spec", "labels", "container_name", "name"), HOLDERS)
def test_what_a_suspension_has_deleted_is_no_loss_while_its_pod_still_goes(
    module: Any, spec: dict[str, Any], labels: dict[str, str], container_name: str, name: str
) -> None:
    s = told(session(**spec), WAS_SUSPENDED)
    old = going(pod("old", labels, again(container_name, OOM)))
    goes = deployment(name, labels, "10:01", deletionTimestamp="2026-01-01T10:05:00Z")
    for there in ([], [goes], [deployment(name, labels, "10:04")]):
        found = module.health(s, world(*there, old)).condition
        assert found is None or not found.true
    found = module.health(s, world(deployment(name, labels, "10:01"), going(pod("old", labels)))).condition
    assert found
    assert "its pod was deleted" in found.message, "this one is the present Deployment's"


def test_no_notebook_and_no_model_service_is_lost_by_a_suspension() -> None:
    s = told(session(notebook={}), WAS_SUSPENDED, ("NotebookReady", "False", "Suspended", ""))
    assert notebook.health(s, world(SET, going(server()))).condition is None
    asked = told(
        session(inference={"models": [{"name": "m"}]}), WAS_SUSPENDED, ("InferenceReady", "False", "Suspended", "")
    )
    replica = going(worker("inference", "replicas"))
    found = inference.health(asked, world(replica))
    assert (found.condition, losses(found, "replicas")) == (None, None)


@pytest.mark.parametrize(("module", "component", "spec", "pool", "field"), WORKERS)
def test_a_worker_that_goes_tells_of_nothing_that_it_has_not_told_yet(
    module: Any, component: str, spec: dict[str, Any], pool: str, field: str
) -> None:
    old = going(worker(component, pool, again("worker", OOM)))
    assert losses(module.health(told(session(**spec), WAS_SUSPENDED), world(old)), pool) is None
