"""The benchmark of Dask's engines: whose requests count, what is compared with what, and beside which goal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from af_operator.components import dask
from af_operator.components.dask import programs
from benchmarks import _report, _simulated_report
from benchmarks._engines import DASK_KUBERNETES, NATIVE, OWN_WAY, Shape
from benchmarks._eyes import Settled
from benchmarks._ground import Spent
from benchmarks._loss import Loss
from benchmarks._report import Found, Step
from benchmarks._requests import AF, BARE, CONTROLLERS, DASK, NODES, SCHEDULER, Asked, Requests, counted
from benchmarks._sessions import Cost, Sessions, cost
from benchmarks._simulated import Growth
from benchmarks._tables import Numbers, Target, markdown, targets
from benchmarks._ways import Names
from tests.support.audit import Call
from tests.support.objects import DASK as ASKED
from tests.support.objects import profile, session, world

NOW = datetime(2026, 11, 26, 10, tzinfo=UTC)
NO_LOSS = Loss(Settled(0.3, 5.0), 0, 0, 0, 0, 0, 0, left=5, asked=5, others_left=5, others_asked=5)


def event(verb: str, namespace: str | None = "here", resource: str = "pods") -> dict[str, Any]:
    ref = {"resource": resource} | ({"namespace": namespace} if namespace else {})
    return {"verb": verb, "objectRef": ref, "requestReceivedTimestamp": NOW.isoformat()}


PROBE = {"verb": "get", "requestReceivedTimestamp": NOW.isoformat()}


def test_reads_writes_and_probes_are_counted_for_each_client() -> None:
    events = [(AF, event("create")), (AF, event("patch")), (DASK, event("list")), (DASK, PROBE)]
    found = counted(events, "here")
    assert (found.of(AF), found.of(DASK)) == (Asked(writes=2), Asked(reads=1, probes=1))
    assert (found.operators, found.all.total, found.last) == (Asked(1, 1, 2), 4, NOW)


@pytest.mark.parametrize(
    "nothing",
    [
        (AF, event("watch", None)),
        (AF, event("update", "af-system", "leases")),
        (CONTROLLERS, PROBE),
        (CONTROLLERS, event("create", "elsewhere")),
    ],
)
def test_what_is_of_no_session_does_not_count(nothing: tuple[str, Mapping[str, Any]]) -> None:
    assert counted([nothing], "here") == Requests({})


def test_operators_that_work_for_others_are_noticed() -> None:
    assert counted([(AF, event("create", "elsewhere"))], "here").elsewhere == 1
    assert counted([(AF, event("create", "elsewhere"))], None).of(AF) == Asked(writes=1)


def test_requests_of_two_times_add_up() -> None:
    first, then = counted([(AF, event("create"))], "here"), counted([(AF, PROBE), (DASK, PROBE)], "here")
    both = first + then
    assert (both.of(AF), both.of(DASK), both.last) == (Asked(probes=1, writes=1), Asked(probes=1), NOW)
    assert both.body()[AF] == {"reads": 0, "probes": 1, "writes": 1}


@pytest.mark.parametrize(
    ("cluster", "worker", "pool"),
    [
        ("session", "session-cpu-0a1b2c-worker-0123456789", "cpu"),
        ("session", "session-other-0a1b2c-worker-0123456789-7d9f8b6c5-x2x4z", "other"),
        ("plain", "plain-cpu-worker-0123456789", "cpu"),
        ("plain", "session-cpu-0a1b2c-worker-0123456789", ""),
        ("plain", "plain-default-worker-0123456789", ""),
    ],
)
def test_a_worker_says_by_its_name_of_which_pool_it_is(cluster: str, worker: str, pool: str) -> None:
    assert Names(cluster, "role", deployments=True).pool_of(worker) == pool


def test_the_plain_cluster_has_the_same_pods_without_what_is_ours() -> None:
    observed, asked = world(), session(dask=ASKED)
    pod = programs.scheduler_pod(asked, profile(), observed)
    worker = programs.worker(asked, profile(), dask.pools(asked)[0], programs.worker_patch(asked, observed))
    volumes = [*pod["volumes"], {"name": "tmp"}]
    group = {"cluster": "session", "worker": {"replicas": 20, "spec": {"containers": [worker], "volumes": volumes}}}
    shape = Shape({"scheduler": {"spec": pod, "service": {"selector": {}}}}, group)
    made = shape.plain_cluster("plain")["scheduler"]
    assert made["service"]["selector"] == {"dask.org/cluster-name": "plain"}
    assert "--preload" not in made["spec"]["containers"][0]["args"]
    assert made["spec"]["volumes"] == []
    plain = shape.plain_group("plain")
    assert (plain["cluster"], plain["worker"]["replicas"]) == ("plain", 0)
    assert plain["worker"]["spec"]["volumes"] == [{"name": "tmp"}]
    for spec in (made["spec"], plain["worker"]["spec"]):
        assert not re.search(r"tls|/af/|agent|guard", json.dumps(spec).lower())
    assert shape.worker_pod()["containers"] == [worker]
    assert group["worker"]["replicas"] == 20, "what it was made of has changed"


def requests(af: int, dask: int, controllers: int) -> Requests:
    return Requests({AF: Asked(writes=af), DASK: Asked(writes=dask), CONTROLLERS: Asked(writes=controllers)})


def ways(native: float, loss: Loss = NO_LOSS) -> list[Found]:
    def found(title: str, seconds: float, asked: Requests) -> Found:
        return Found(title, [Step(0, 20, seconds, seconds, 20, asked), Step(20, 5, 0.6, 5.0, 0, asked)], loss)

    return [
        found(NATIVE, native, requests(20, 0, 0)),
        found(DASK_KUBERNETES, 22.0, requests(4, 40, 200)),
        found(OWN_WAY, 20.0, requests(0, 40, 160)),
    ]


def rows(table: Numbers) -> dict[str, list[str]]:
    return {cells[0]: list(cells[1:]) for cells in table.rows}


def test_each_way_is_compared_with_dask_kubernetes_own() -> None:
    found = list(_report.ratio_rows(ways(15.0)))
    assert [row[:2] for row in found[:2]] == [("0 → 20", NATIVE), ("0 → 20", DASK_KUBERNETES)]
    assert found[0][2:] == ("0.75", "0.75", "0.50", "0.10")
    assert found[1][2:] == ("1.10", "1.10", "1.10", "1.22")


def test_the_native_engine_has_goals_and_they_are_met_or_missed() -> None:
    good = targets("", _report.goals(ways(18.0)))
    assert [row[-1] for row in good.rows] == ["met"] * 4
    slow = targets("", _report.goals(ways(18.1, replace(NO_LOSS, lost=1))))
    assert [row[-1] for row in slow.rows] == ["missed", "met", "met", "missed"]


def test_what_was_not_measured_has_no_goal_and_what_never_came_misses_it() -> None:
    native, other, own = ways(18.0)
    assert list(_report.goals([other, own])) == []
    steps = [replace(step, after=step.after + 1) for step in native.steps]
    assert len(list(_report.goals([replace(native, steps=steps), own]))) == 1
    never = replace(native, steps=[replace(native.steps[0], scheduler=None)])
    first = next(iter(_report.goals([never, own])))
    assert (first.value, first.met) == (None, False)


def test_every_row_has_as_many_cells_as_its_head() -> None:
    tables = [*_report.tables(ways(15.0)), *_simulated_report.growth_tables(growths())]
    assert {len(row) == len(each.head) for each in tables for row in each.rows} == {True}
    assert markdown(tables).count("\n**") == len(tables)


def growths() -> list[Growth]:
    own = {DASK: Asked(2, 1003, 1000), CONTROLLERS: Asked(writes=9000), SCHEDULER: Asked(writes=2000)}
    bare = {BARE: Asked(writes=1000), NODES: Asked(writes=1000)}
    return [
        Growth(OWN_WAY, 1000, 50.0, Requests(own), {DASK: Spent(10.0, 5.0)}),
        Growth(BARE, 1000, 5.0, Requests(bare), {}),
    ]


def test_growth_is_told_beside_the_bare_client() -> None:
    (table,) = _simulated_report.growth_tables(growths())
    assert rows(table)[OWN_WAY] == ["50.0 s", "20", "2,005", "9,000", "2,000", "10.0 s", "1.00", "1.00", "1.00"]
    assert rows(table)[BARE] == ["5.00 s", "200", "0", "0", "1,000", "0.00 s", "0.10", "0.00", "0.15"]
    assert growths()[0].body()["spent"] == {DASK: {"cpu": 10.0, "memory": 5.0}}


def call(verb: str, resource: str, code: int) -> Call:
    return Call("af-operator", verb, resource, "here", "x", code, "", NOW)


def test_the_cost_of_a_session_is_that_of_all_by_their_number() -> None:
    created = [call("create", "pods", 201), call("patch", "services", 201), call("create", "events", 201)]
    changed = [call("patch", "analysissessions/status", 200), call("create", "pods", 409)]
    assert cost([*created, *changed], 6, Spent(3.0, 1.0), 2) == Cost(1.0, 0.5, 3.0, 1.5, 0.5)


def test_a_session_may_cost_its_objects_and_two_statuses() -> None:
    cheap = Sessions(NATIVE, 100, {AF: Cost(6.0, 2.0, 8.0, 0.05, 0.1)})
    assert [target.met for target in _simulated_report.goals(cheap)] == [True] * 3
    dear = Sessions(NATIVE, 100, {AF: Cost(6.0, 2.0, 8.01, 0.051, 0.11)})
    assert [target.met for target in _simulated_report.goals(dear)] == [False] * 3


def test_sessions_are_told_for_each_operator() -> None:
    both = {AF: Cost(4.0, 2.0, 8.0, 0.1, 0.1), DASK: Cost(6.0, 0.0, 65.0, 0.4, 1.6)}
    native = Sessions(NATIVE, 100, {AF: Cost(6.0, 2.0, 8.0, 0.05, 0.1)})
    table, goals = _simulated_report.session_tables([native, Sessions(DASK_KUBERNETES, 100, both)])
    assert [row[:2] for row in table.rows] == [(NATIVE, AF), (DASK_KUBERNETES, AF), (DASK_KUBERNETES, DASK)]
    assert table.rows[2][2:] == ("6.00", "0.00", "65.00", "0.400 s", "1.60 MiB")
    assert len(goals.rows) == 3


def test_a_target_of_nothing_is_met_by_nothing() -> None:
    assert Target("loss", 0, 0).row() == ("loss", "0", "0", "met")
    assert Target("loss", 1, 0).row()[-1] == "missed"
    assert Target("time", 0.914, 0.9).row() == ("time", "0.914", "≤ 0.9", "missed")
