"""What the Dask operator is told: how many workers each group should have, and who may go. Tables of worlds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components import dask
from af_operator.components._shared import budget
from af_operator.components._shared import pools as worker_pools
from af_operator.components.dask import groups
from af_operator.components.dask.dask_kubernetes.replicas import HANDLED, WORKER_GROUP, GroupScale, scale_of
from af_operator.components.dask.dask_kubernetes.replicas import groups as live_groups
from af_operator.components.dask.groups import DaskAnswer
from af_operator.model import Body, Profile, Session
from af_operator.observed import Children, Settled, Terms
from af_operator.views import AgentView, PoolAnswer, Question
from tests.support.objects import UNSCHEDULABLE, live, of_component, pod, profile, session, world


def pool(name: str = "cpu", least: int = 2, most: int = 2, **more: Any) -> dict[str, Any]:
    return {"name": name, "nodePool": name, "workers": {"min": least, "max": most}, **more}


def group_of(s: Session, index: int = 0) -> str:
    assert s.spec.dask
    return groups.group_name(s, s.spec.dask.pools[index])


def of_pools(*given: dict[str, Any]) -> Session:
    return session(dask={"pools": list(given)})


def group(name: str, replicas: int, pool_name: str = "cpu", gpus: int = 0) -> Body:
    limits = {"memory": "1Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    spec = {"worker": {"replicas": replicas, "spec": {"containers": [{"resources": {"limits": limits}}]}}}
    return live("kubernetes.dask.org/v1", "DaskWorkerGroup", name, of_component("dask", pool_name), spec=spec)


def workers(name: str, number: int, *, owner: str | None = None) -> list[Body]:
    found: list[Body] = []
    for index in range(number):
        body = live("apps/v1", "Deployment", worker(name, index), of_component("dask", **{WORKER_GROUP: name}))
        body["metadata"]["creationTimestamp"] = f"2026-01-01T10:00:{index:02}Z"
        body["metadata"]["ownerReferences"] = [{"uid": owner or f"uid-of-{name}", "controller": True}]
        found.append(body)
    return found


def worker(name: str, index: int) -> str:
    return f"{name}-worker-{index:010x}"


def pods(name: str, ready: int, nowhere: int = 0) -> list[Body]:
    labels = of_component("dask", "cpu", **{WORKER_GROUP: name})
    found = [pod(f"{name}-{index}", labels, ready=True) for index in range(ready)]
    return found + [pod(f"{name}-n{index}", labels, conditions=[UNSCHEDULABLE]) for index in range(nowhere)]


def terms(s: Session, catalogue: Profile, observed: Settled) -> Terms:
    return Terms(workers=budget.shares(catalogue, {"dask": dask.demands(s, catalogue, observed)})["dask"])


def all_of(s: Session, catalogue: Profile, observed: Settled) -> list[GroupScale]:
    there, granted = live_groups(s, observed), terms(s, catalogue, observed)
    return [scale_of(each, observed) for each in groups.resized(s, there, observed, granted)]


def first(s: Session, observed: Settled, **limits: Any) -> GroupScale:
    return all_of(s, limited(**limits), observed)[0]


def limited(**limits: Any) -> Any:
    return profile(limits={"workers": 100, "gpus": 8} | limits)


def said(name: str, **view: Any) -> AgentView:
    return AgentView(DaskAnswer(pools={name: PoolAnswer(**view)}))


@pytest.mark.parametrize(
    ("least", "most", "replicas", "wanted", "target"),
    [
        (3, 3, None, None, 3),
        (3, 3, 3, 0, 3),  # a fixed size is no matter of demand
        (1, 8, None, None, 1),
        (0, 8, None, None, 0),
        (1, 8, 5, None, 5),  # nothing is known yet: as it is
        (1, 8, 9, None, 8),
        (1, 8, 5, 0, 1),
        (1, 8, 5, 6, 6),
        (1, 8, 5, 60, 8),
    ],
)
def test_size(least: int, most: int, replicas: int | None, wanted: int | None, target: int) -> None:
    s = of_pools(pool(least=least, most=most))
    name = group_of(s)
    there = [] if replicas is None else [group(name, replicas)]
    view = None if wanted is None else said(name, wanted=wanted)
    assert first(s, world(*there, dask=view)).resized.target == target


def test_nobody_goes_without_the_schedulers_word() -> None:
    s = of_pools(pool(least=1, most=1))
    name = group_of(s)
    there = [group(name, 3), *workers(name, 3)]
    assert first(s, world(*there)).to_delete == ()
    found = first(s, world(*there, dask=said(name, retiring=frozenset({worker(name, 2)}))))
    assert (found.resized.surplus, found.to_delete) == (2, ())


def test_who_is_retired_goes_and_no_more_than_are_too_many() -> None:
    s = of_pools(pool(least=2, most=2))
    name = group_of(s)
    there = [group(name, 3), *workers(name, 3)]
    everybody = frozenset(worker(name, index) for index in range(3))
    one = first(s, world(*there, dask=said(name, retired=frozenset({worker(name, 1)}))))
    assert [w["metadata"]["name"] for w in one.to_delete] == [worker(name, 1)]
    # What users write answers here: it cannot have more taken away than the spec says.
    assert len(first(s, world(*there, dask=said(name, retired=everybody))).to_delete) == 1
    assert first(of_pools(pool(least=3, most=3)), world(*there, dask=said(name, retired=everybody))).to_delete == ()


def test_who_finds_no_node_or_no_quota_goes_first_and_unasked() -> None:
    s = of_pools(pool(least=1, most=1))
    name = group_of(s)
    there = workers(name, 4)
    there[2]["status"] = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}
    labels = of_component("dask", "cpu", **{WORKER_GROUP: name})
    up = pod(f"{worker(name, 0)}-5c7-x", labels, ready=True)
    nowhere = pod(f"{worker(name, 1)}-5c7-x", labels, conditions=[UNSCHEDULABLE])
    found = first(s, world(group(name, 4), *there, up, nowhere))
    assert [w["metadata"]["name"] for w in found.to_delete] == [worker(name, 1), worker(name, 2)], (
        "3 may be about to start"
    )
    assert found.replicas(4) == 2
    fewer = first(of_pools(pool(least=3, most=3)), world(group(name, 4), *there, up, nowhere))
    assert [w["metadata"]["name"] for w in fewer.to_delete] == [worker(name, 1)], "no more than are too many"


def test_whose_pod_it_is_says_its_replica_set_where_the_pods_own_name_is_cut() -> None:
    s = of_pools(pool(least=0, most=0))
    name = group_of(s)
    there = workers(name, 1)
    there[0]["metadata"]["name"] = f"{'g' * 45}-worker-0123456789"
    cut = pod(f"{there[0]['metadata']['name'][:58]}abcde", of_component("dask", "cpu"), conditions=[UNSCHEDULABLE])
    assert first(s, world(group(name, 1), *there, cut)).to_delete == ()
    owner = {"kind": "ReplicaSet", "name": f"{there[0]['metadata']['name']}-5c7", "uid": "r", "controller": True}
    cut["metadata"]["ownerReferences"] = [owner]
    assert first(s, world(group(name, 1), *there, cut)).to_delete == tuple(there)


def test_only_what_this_very_group_made_goes() -> None:
    s = of_pools(pool(least=1, most=1))
    name = group_of(s)
    there = [group(name, 2), *workers(name, 2, owner="another")]
    everybody = frozenset(worker(name, index) for index in range(2))
    assert first(s, world(*there, dask=said(name, retired=everybody))).to_delete == ()


def test_after_long_silence_the_newest_go_without_a_word() -> None:
    s = of_pools(pool(least=1, most=1))
    name = group_of(s)
    there = [group(name, 3), *workers(name, 3)]
    assert first(s, world(*there, dask=AgentView(trouble="away"))).to_delete == ()
    gone = first(s, world(*there, dask=AgentView(trouble="away", given_up=True))).to_delete
    assert [w["metadata"]["name"] for w in gone] == [worker(name, 2), worker(name, 1)]


def replicas_of(number: int) -> str:
    """Return what kopf remembers of a group."""
    return json.dumps({"spec": {"worker": {"replicas": number}}})


def asked(s: Session, replicas: int, there: int, *, made: int | None = None, retired: int = 0) -> tuple[int, int]:
    """Return the number that the Dask operator is told, and how many workers are deleted before."""
    name = group_of(s)
    its_group = group(name, replicas)
    if made is not None:
        its_group["metadata"]["annotations"] = {HANDLED: replicas_of(made)}
    gone = frozenset(worker(name, index) for index in range(retired))
    found = first(s, world(its_group, *workers(name, there), dask=said(name, retired=gone)))
    return found.replicas(replicas), len(found.to_delete)


@pytest.mark.parametrize("given", [{}, {"made": 3}])
def test_the_dask_operator_is_told_of_each_worker_that_is_deleted_and_of_no_other(given: dict[str, int]) -> None:
    fewer = of_pools(pool(least=1, most=1))
    assert asked(fewer, 3, 3, **given) == (3, 0)
    assert asked(fewer, 3, 3, retired=1, **given) == (2, 1)
    assert asked(fewer, 3, 3, retired=2, **given) == (1, 2)
    assert asked(of_pools(pool(least=4, most=4)), 3, 3, retired=1, **given) == (4, 0)


def test_a_number_that_the_dask_operator_has_not_acted_upon_stays() -> None:
    fewer, more = of_pools(pool(least=2, most=2)), of_pools(pool(least=5, most=5))
    assert asked(fewer, 3, 2, made=2) == (3, 0), "it is about to make the third, and would then remove one"
    assert asked(fewer, 3, 3, made=2, retired=1) == (3, 0), "it may not have counted yet, and would make another"
    assert asked(more, 3, 2, made=2) == (3, 0)
    assert asked(more, 3, 3, made=3) == (5, 0)
    assert asked(fewer, 3, 2, made=3) == (2, 0), "the operator died when it had deleted one"
    assert asked(fewer, 3, 1) == (3, 0), "a new group: its workers come"


@pytest.mark.parametrize(
    ("least", "replicas", "handled", "there", "missing"),
    [
        (4, 4, replicas_of(4), 3, True),  # by hand; or the operator died when it had deleted one, and more are asked
        (4, 4, replicas_of(4), 4, False),
        (4, 4, replicas_of(3), 3, False),  # it is about to make it
        (4, 4, "null", 3, False),  # told already
        (4, 4, None, 3, False),
        (4, 4, "{", 3, False),
        (4, 4, "[]", 3, False),
        (5, 4, replicas_of(4), 3, False),  # another number makes it look
        (3, 4, replicas_of(4), 2, False),
    ],
)
def test_workers_that_somebody_deleted_are_missing(
    least: int, replicas: int, handled: str | None, there: int, missing: bool
) -> None:
    s = of_pools(pool(least=least, most=least))
    its_group = group(group_of(s), replicas)
    its_group["metadata"]["annotations"] = {HANDLED: handled} if handled else {}
    assert first(s, world(its_group, *workers(group_of(s), there))).missing == missing


def test_workers_that_are_on_their_way_out_are_waited_for() -> None:
    s = of_pools(pool(least=2, most=2))
    its_group, both = group(group_of(s), 2), workers(group_of(s), 2)
    its_group["metadata"]["annotations"] = {HANDLED: replicas_of(2)}
    both[1]["metadata"]["deletionTimestamp"] = "now"
    assert not first(s, world(its_group, *both)).missing, "the Dask operator would count it"


def test_a_removed_pool_goes_to_its_last_worker() -> None:
    s = of_pools(pool())
    there = [
        group(group_of(s), 2),
        *workers(group_of(s), 2),
        group("zmumu-old-1", 2, "old"),
        *workers("zmumu-old-1", 2),
    ]
    kept, old = all_of(s, limited(), world(*there))
    assert (kept.resized.target, old.pool, old.resized.target, old.resized.surplus) == (2, None, 0, 2)


@pytest.mark.parametrize(
    ("ready", "nowhere", "limit", "new", "left"),
    [
        (0, 0, 100, 3, 3),  # new before old
        (1, 0, 100, 3, 2),
        (3, 0, 100, 3, 0),
        (0, 0, 3, 0, 0),  # no room beside the old ones: they go first
        (0, 0, 4, 1, 1),
        (0, 2, 100, 3, 1),  # two find no node: two make room
    ],
)
def test_another_shape(ready: int, nowhere: int, limit: int, new: int, left: int) -> None:
    s, before = of_pools(pool(least=3, most=3, size="medium")), of_pools(pool(least=3, most=3))
    old = group_of(before)
    up = pods(group_of(s), ready, nowhere)
    there = [group(old, 3), *workers(old, 3), *([group(group_of(s), 3)] if up else []), *up]
    made, leaving = all_of(s, limited(workers=limit), world(*there))
    assert (made.resized.target, leaving.resized.target) == (new, left)


def test_gpus_that_are_still_held_are_not_given_again() -> None:
    s = of_pools(pool("gpu", 2, 2, gpusPerWorker=1, size="medium"))
    old = group_of(of_pools(pool("gpu", 2, 2, gpusPerWorker=1)))
    there = [group(old, 2, "gpu", gpus=1), *workers(old, 2)]
    made, leaving = all_of(s, limited(gpus=2), world(*there))
    assert (made.resized.target, leaving.resized.target) == (0, 0)
    assert [g.resized.target for g in all_of(s, limited(gpus=4), world(*there))] == [2, 2]


def test_one_pool_waits_for_the_workers_that_another_has_to_give() -> None:
    s = of_pools(pool(least=1, most=1), pool("gpu", 3, 3))
    there = [group(group_of(s), 4), *workers(group_of(s), 4), group(group_of(s, 1), 0, "gpu")]
    cpu, gpu = all_of(s, limited(workers=4), world(*there))
    assert (cpu.resized.target, cpu.resized.surplus, gpu.resized.target) == (1, 3, 0)


def asks(s: Session, catalogue: Profile, observed: Settled) -> Question:
    found = dask.question(s, catalogue, running(observed), terms(s, catalogue, observed))
    assert found
    return found


def running(observed: Settled) -> Settled:
    """Add a scheduler that runs: before any pod has, nobody is asked."""
    scheduler = pod("zmumu-scheduler-0", of_component("dask"))
    return replace(observed, children=Children((*observed.children, scheduler)))


def test_nobody_is_asked_before_any_pod_has_run() -> None:
    s = of_pools(pool(least=0, most=4))
    assert dask.question(s, profile(), world(), terms(s, profile(), world())) is None
    assert asks(s, profile(), world())


def test_where_nothing_can_change_it_is_asked_only_now_and_then_whether_it_is_used() -> None:
    s = of_pools(pool())
    there = [group(group_of(s), 2), *workers(group_of(s), 2)]
    assert asks(s, limited(), world(*there)).every == worker_pools.CALM
    assert asks(s, limited(), world(*there, *workers(group_of(s), 3)[2:])).every is None, "one is too many"
    assert asks(of_pools(pool(most=3)), limited(), world(*there)).every is None, "it is elastic"


def test_what_is_asked() -> None:
    s = of_pools(pool(least=1, most=1, size="medium"), pool("gpu", 0, 2, gpusPerWorker=1))
    cpu, gpu = group_of(s), group_of(s, 1)
    there = [group(cpu, 3), *workers(cpu, 3), group("zmumu-old-1", 1, "old"), *workers("zmumu-old-1", 1)]
    patient = profile(scaling={"silenceSeconds": 7, "drainSeconds": 8, "quietSeconds": 9})
    found = asks(s, patient, world(*there))
    asked_of = found.asked["pools"]
    assert found.url == names.dask_agent_url(s)
    assert found.patience == 7
    assert {name: asked.get("keep") for name, asked in asked_of.items()} == {cpu: 1, gpu: None, "zmumu-old-1": 0}
    assert asked_of[gpu]["resources"] == {"GPU": 1}
    assert asked_of["zmumu-old-1"]["leaving"]
    assert {asked["drain"] for asked in asked_of.values()} == {8}
    assert asked_of[gpu]["quiet"] == 9
    assert (asked_of[gpu]["pool"], asked_of[gpu]["most"]) == ("gpu", 2)


def test_a_shape_is_what_cannot_be_edited() -> None:
    s = session()
    one, other = (Pool.model_validate(pool(least=1, most=number)) for number in (2, 3))
    assert groups.group_name(s, one) == groups.group_name(s, other)
    assert groups.group_name(s, one) != groups.group_name(s, one.model_copy(update={"size": "medium"}))
