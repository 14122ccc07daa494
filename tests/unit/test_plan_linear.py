"""Ten times the workers are ten times the looks at them: counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from af_operator import names, plan, status
from af_operator.components import shipped
from af_operator.components.dask.dask_kubernetes.replicas import WORKER_GROUP
from af_operator.components.dask.groups import DaskAnswer, group_name
from af_operator.model import Body, ObjectRef, Session, ref_of
from af_operator.observed import Observed
from af_operator.views import AgentView, PoolAnswer
from tests.support.objects import UID, UNSCHEDULABLE, live, of_component, ours, profile, session
from tests.support.objects import pod as pod_of

NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
LOOKS: Counter[int] = Counter()
POOLS = ("one", "two")
PROFILE = profile(nodePools=[{"name": "cpu", "nodeSelector": {"pool": "cpu"}}], limits={"workers": 2000, "gpus": 0})


class Counted(dict[str, Any]):
    """A body that counts how often somebody looks into it."""

    def __getitem__(self, key: str) -> Any:
        LOOKS[id(self)] += 1
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        LOOKS[id(self)] += 1
        return super().get(key, default)


def of_size(most: int) -> Session:
    workers = {"min": most, "max": most}
    return session(
        run={"command": ["true"]},
        dask={"pools": [{"name": name, "nodePool": "cpu", "workers": workers} for name in POOLS]},
        xcache={"placement": "Sidecar", "size": "10Gi"},
    )


def groups(s: Session) -> list[str]:
    assert s.spec.dask
    return [group_name(s, pool) for pool in s.spec.dask.pools]


def native(s: Session, workers: int) -> list[Body]:
    """Return two pools of so many pods, every tenth without a node, all of it made by us."""
    found: list[Body] = []
    for name, pool in zip(groups(s), POOLS, strict=True):
        more = {names.ROLE: "worker", names.WORKER_GROUP: name, names.NODE_POOL: "cpu"}
        for index in range(workers):
            state = NOWHERE if index % 10 == 0 else UP
            found.append(ours(pod_of(worker(name, index), of_component("dask", pool, **more), **state)))
    scheduler = of_component("dask", **{names.ROLE: "scheduler"})
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "scheduler", "image": "i"}]}}}
    deployment = live("apps/v1", "Deployment", "zmumu-scheduler", scheduler, spec=spec)
    return [*found, ours(deployment), pod_of("s", scheduler, **UP)]


def under_dask_kubernetes(s: Session, workers: int) -> list[Body]:
    """Return two groups of so many workers, every tenth without a node; all of it applied by us, as far as one can."""
    found: list[Body] = []
    for name, pool in zip(groups(s), POOLS, strict=True):
        spec = {"worker": {"replicas": workers, "spec": {"containers": [{"resources": {"limits": {}}}]}}}
        found.append(live("kubernetes.dask.org/v1", "DaskWorkerGroup", name, of_component("dask", pool), spec=spec))
        labels = of_component("dask", pool, **{WORKER_GROUP: name})
        for index in range(workers):
            deployment = live("apps/v1", "Deployment", worker(name, index), labels)
            deployment["metadata"]["ownerReferences"] = [{"uid": f"uid-of-{name}", "controller": True}]
            state = NOWHERE if index % 10 == 0 else UP
            found += [deployment, pod_of(f"{worker(name, index)}-5c7-x", labels, **state)]
    scheduler = of_component("dask", **{"dask.org/component": "scheduler"})
    found += [
        live("kubernetes.dask.org/v1", "DaskCluster", "zmumu", of_component("dask")),
        pod_of("s", scheduler, **UP),
    ]
    for body in found:
        body["metadata"].setdefault("ownerReferences", [{"uid": UID, "controller": True}])
        body["metadata"]["managedFields"] = [{"manager": names.MANAGER, "operation": "Apply"}]
    return found


UP: dict[str, Any] = {"ready": True}
NOWHERE: dict[str, Any] = {"conditions": [UNSCHEDULABLE]}
ENGINES = pytest.mark.parametrize("children", [native, under_dask_kubernetes])
Make = Callable[[Session, int], list[Body]]


def worker(group: str, index: int) -> str:
    return f"{group}-worker-{index:010x}"


def retiring(s: Session, workers: int) -> AgentView:
    gone = {name: frozenset(worker(name, i) for i in range(0, workers, 3)) for name in groups(s)}
    return AgentView(DaskAnswer(pools={name: PoolAnswer(retired=those) for name, those in gone.items()}))


def looks(s: Session, bodies: list[Body], view: AgentView | None) -> Counter[ObjectRef]:
    """Return how often a whole pass looks at each child."""
    counted = tuple(Counted(body) for body in bodies)
    LOOKS.clear()
    observed = Observed(children=counted, agents={"dask": view} if view else {}, nonce="0" * 64)
    todo = plan.build(shipped(), s, PROFILE, observed, NOW)
    status.compute(s, todo, [], NOW)
    assert not todo.rejected
    numbers = [LOOKS[id(body)] for body in counted]
    return Counter(dict(zip(map(ref_of, bodies), numbers, strict=True)))


def most(seen: Counter[ObjectRef]) -> int:
    """Return how often the worker is looked at that is looked at most often: its Deployment, or its pod."""
    return max(number for ref, number in seen.items() if ref.kind in ("Deployment", "Pod"))


@ENGINES
@pytest.mark.parametrize(
    ("wanted", "view"),
    [
        pytest.param(1.0, None, id="as many as there are"),
        pytest.param(0.5, retiring, id="half of them, and a third may go"),
        pytest.param(0.5, lambda *_: AgentView(trouble="away", given_up=True), id="half of them, unasked"),
        pytest.param(1.5, None, id="more than there are"),
    ],
)
def test_a_pass_looks_at_each_worker_a_few_times_however_many_there_are(
    wanted: float, view: Any, children: Make
) -> None:
    few, many = 40, 400
    seen = {}
    for number in (few, many):
        s = of_size(int(number * wanted))
        seen[number] = looks(s, children(s, number), view(s, number) if view else None)
    assert seen[many].total() <= 1.02 * (many / few) * seen[few].total()
    assert most(seen[many]) == most(seen[few]), "no worker is looked at for the sake of each other one"


@ENGINES
def test_an_index_outlives_what_else_is_replaced(children: Make) -> None:
    bodies = children(of_size(2), 2)
    observed = Observed(children=tuple(bodies))
    assert observed.children == tuple(bodies)
    assert list(observed.children) == bodies
    calls = []
    later = replace(observed, log_tail="other")

    def count(found: Any) -> int:
        calls.append(found)
        return len(found)

    assert (observed.once(count), later.once(count), later.once(count)) == (len(bodies),) * 3
    assert len(calls) == 1
    assert replace(observed, children=()).once(count) == 0


@ENGINES
def test_what_is_looked_up_is_what_is_there(children: Make) -> None:
    bodies = children(of_size(2), 2)
    observed = Observed(children=tuple(reversed(bodies)))
    for body in bodies:
        assert observed.get(ref_of(body)) is body
    assert observed.get(ref_of(bodies[0])._replace(name="other")) is None
    pods = [b for b in bodies if b["kind"] == "Pod"]
    assert list(observed.pods()) == sorted(pods, key=lambda p: p["metadata"]["name"])
    assert list(observed.pods("dask")) == list(observed.pods())
    assert list(observed.pods("run")) == []
