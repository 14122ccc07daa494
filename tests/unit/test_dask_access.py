"""Who may reach a session's Dask from outside: its user, its one scheduler, by a Role for single objects."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import names, plan
from af_operator.components import shipped
from af_operator.model import Body, Plan
from tests.support.objects import DASK, container, of_component, pod, profile, session, world
from tests.unit.test_dask_begun import NOW, made

ENGINES = ("Native", "DaskKubernetes")
ROLES = {"Native": {names.ROLE: "scheduler"}, "DaskKubernetes": {"dask.org/component": "scheduler"}}
NAME = "zmumu-scheduler"


def scheduler(engine: str, name: str, phase: str = "Running", began: str = "2026-01-01T10:00:00Z") -> dict[str, Any]:
    found = pod(name, of_component("dask", **ROLES[engine]), container("scheduler", running={}), phase=phase)
    found["metadata"]["creationTimestamp"] = began
    return found


def planned(engine: str, *pods: Body, there: dict[Any, Body] | None = None, **spec: Any) -> Plan:
    children = ((made(engine) if there is None else there).values(), pods)
    observed = world(*(body for each in children for body in each))
    return plan.build(shipped(), session(dask=DASK, **spec), profile(dask={"engine": engine}), observed, NOW)


def granted(found: Plan) -> set[tuple[str, str]]:
    rules = (
        rule
        for m in found.desired
        if m.ref == ("rbac.authorization.k8s.io/v1", "Role", NAME)
        for rule in m.body["rules"]
    )
    return {(rule["resources"][0], name) for rule in rules for name in rule["resourceNames"]}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_right_comes_with_the_pod(engine: str) -> None:
    assert not granted(planned(engine))
    assert not granted(planned(engine, scheduler(engine, f"{NAME}-a1-x", "Pending")))
    found = planned(engine, scheduler(engine, f"{NAME}-a1-x"))
    assert granted(found) == {("secrets", NAME), ("pods/portforward", f"{NAME}-a1-x")}
    [binding] = [m.body for m in found.desired if m.ref.kind == "RoleBinding"]
    assert [(who["kind"], who["name"]) for who in binding["subjects"]] == [("User", session().spec.user)]


@pytest.mark.parametrize("engine", ENGINES)
def test_it_is_to_the_scheduler_that_runs(engine: str) -> None:
    pods = [
        scheduler(engine, f"{NAME}-a1-x", began="2026-01-01T10:00:00Z"),
        scheduler(engine, f"{NAME}-a1-b", began="2026-01-01T10:05:00Z"),
        scheduler(engine, f"{NAME}-a1-z", "Failed", began="2026-01-01T10:09:00Z"),
    ]
    assert ("pods/portforward", f"{NAME}-a1-b") in granted(planned(engine, *pods))


def as_there(found: Plan, engine: str) -> dict[Any, Body]:
    marks = {"uid": "u", "managedFields": [{"manager": names.MANAGER, "operation": "Update"}]}
    roles = {
        m.ref: {**m.body, "metadata": {**m.body["metadata"], **marks}} for m in found.desired if "Role" in m.ref.kind
    }
    return {**made(engine), **roles}


@pytest.mark.parametrize("engine", ENGINES)
def test_it_stays_while_the_pod_is_away_and_goes_with_a_suspension(engine: str) -> None:
    there = as_there(planned(engine, scheduler(engine, f"{NAME}-a1-x")), engine)
    away = planned(engine, there=there)
    assert not {body["kind"] for body in away.delete} & {"Role", "RoleBinding"}
    assert not {m.ref.kind for m in away.apply} & {"Role", "RoleBinding"}
    suspended = planned(engine, there=there, suspend=True)
    assert {"Secret", "Role", "RoleBinding"} <= {body["kind"] for body in suspended.delete}


@pytest.mark.parametrize("engine", ENGINES)
def test_there_is_none_where_dask_was_begun_without_certificates(engine: str) -> None:
    """There is no Secret of that name then, or it is somebody else's."""
    plain = scheduler(engine, f"{NAME}-a1-x")
    plain["spec"]["containers"] = [{"name": "scheduler", "args": ["dask", "scheduler"], "volumeMounts": []}]
    assert not granted(planned(engine, plain))
