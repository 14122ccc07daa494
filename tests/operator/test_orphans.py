"""What a session that was deleted without its children leaves: swept by its uid, once nobody can want it any more."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from af_operator import names
from af_operator.orphans import AT_ONCE, Sweep
from tests.support.bench import PROFILE, SPEC, UNDER_DASK_KUBERNETES, Bench

ENGINES = pytest.mark.parametrize("profile", [PROFILE, UNDER_DASK_KUBERNETES], ids=["Native", "DaskKubernetes"])
AFTER = timedelta(minutes=10)


def orphan(bench: Bench, *, stripped: bool) -> None:
    """Delete the session and nothing else; the garbage collector takes the owner out of its children, or is away."""
    bench.cluster.events.append(("DELETED", bench.cluster.objects.pop(("AnalysisSession", *bench.key))))
    for body in list(bench.made.values()) if stripped else ():
        without = copy.deepcopy(body)
        without["metadata"].pop("ownerReferences", None)
        bench.cluster._put("MODIFIED", without)
    bench.deliver()


async def swept(bench: Bench, sweep: Sweep, minutes: Iterable[int]) -> list[int]:
    """Sweep at these times, and return how many objects there were after each."""
    began, left = bench.now, []
    for minute in minutes:
        bench.now = began + timedelta(minutes=minute)
        await sweep()
        bench.deliver()
        left.append(len(bench.made))
    return left


def sweep_of(bench: Bench) -> Sweep:
    return Sweep(bench.world, bench.cluster, lambda: bench.now, AFTER)


@ENGINES
@pytest.mark.parametrize("stripped", [True, False], ids=["orphaned", "not collected"])
async def test_after_ten_minutes_and_not_before_nothing_is_left(stripped: bool, profile: dict[str, Any]) -> None:
    bench = Bench({**SPEC, "xcache": {"placement": "Session"}}, profile)
    await bench.settle()
    number, sweep = len(bench.made), sweep_of(bench)
    assert number > 4
    assert await swept(bench, sweep, (0, 5)) == [number, number]
    orphan(bench, stripped=stripped)
    assert await swept(bench, sweep, (0, 1, 9, 10)) == [number, number, number, 0]


async def test_no_request_where_all_is_as_it_should_be() -> None:
    bench = Bench()
    await bench.settle()
    bench.cluster.writes.clear()
    await swept(bench, sweep_of(bench), range(0, 60, 5))
    assert bench.cluster.writes == []
    assert bench.cluster.reads == []


@pytest.mark.parametrize("change", ["label", "manager", "owner"])
async def test_what_is_not_ours_without_doubt_stays(change: str) -> None:
    bench = Bench()
    await bench.settle()
    orphan(bench, stripped=True)
    kept = copy.deepcopy(bench.made["ConfigMap", "zmumu-source"])
    if change == "label":
        kept["metadata"]["labels"].pop(names.SESSION_UID)
    elif change == "manager":
        kept["metadata"]["managedFields"] = [{"manager": "kubectl", "operation": "Update"}]
    else:
        kept["metadata"]["ownerReferences"] = [{"kind": "Deployment", "uid": "other"}]
    bench.cluster._put("MODIFIED", kept)
    bench.deliver()
    await swept(bench, sweep_of(bench), (0, 11, 12))
    assert list(bench.made) == [("ConfigMap", "zmumu-source")]


async def test_a_session_that_is_there_and_only_not_known_keeps_its_children() -> None:
    """The worst that could be: a store without a session that runs."""
    bench = Bench()
    await bench.settle()
    number = len(bench.made)
    for key in bench.world.sessions:
        bench.world.sessions.drop(key, bench.world.sessions.uid(key) or "", 2**60)
    assert await swept(bench, sweep_of(bench), (0, 11, 30)) == [number] * 3


async def test_nothing_is_swept_while_the_world_is_not_seen() -> None:
    bench = Bench()
    await bench.settle()
    orphan(bench, stripped=True)
    number, sweep, bench.world.unseen = len(bench.made), sweep_of(bench), lambda: "pods"
    assert await swept(bench, sweep, (0, 11)) == [number] * 2
    bench.world.unseen = lambda: None
    assert await swept(bench, sweep, (1,)) == [0]


async def test_the_next_of_its_name_is_not_taken_for_it() -> None:
    bench = Bench()
    await bench.settle()
    session = copy.deepcopy(bench.session)
    orphan(bench, stripped=True)
    session["metadata"]["uid"] = "another"
    bench.cluster.store(session)
    bench.deliver()
    await swept(bench, sweep_of(bench), (0, 11))
    assert bench.made == {}
    await bench.settle()
    assert bench.condition("Accepted")["status"] == "True"
    assert {body["metadata"]["labels"][names.SESSION_UID] for body in bench.made.values()} == {"another"}
    number = len(bench.made)
    assert await swept(bench, sweep_of(bench), (0, 11)) == [number, number]


async def test_many_are_swept_some_at_a_time() -> None:
    bench = Bench()
    await bench.settle()
    orphan(bench, stripped=True)
    one = bench.made["ConfigMap", "zmumu-source"]
    for number in range(2 * AT_ONCE):
        copied = copy.deepcopy(one)
        copied["metadata"] |= {"name": f"c{number}", "uid": f"u{number}"}
        bench.cluster.store(copied)
    bench.deliver()
    there = len(bench.made)
    left = await swept(bench, sweep_of(bench), (0, 11, 12, 13))
    assert left == [there, there - AT_ONCE, there - 2 * AT_ONCE, 0]


async def test_the_models_of_a_session_stay_for_a_person_to_delete() -> None:
    bench = Bench()
    await bench.settle()
    uid = bench.session["metadata"]["uid"]
    labels = {names.SESSION_UID: uid, names.SESSION_NAME: "zmumu", names.COMPONENT: "inference"}
    entry = {"manager": names.MANAGER, "operation": "Apply"}
    metadata = {"name": "zmumu-inference-store", "namespace": "physics", "labels": labels, "managedFields": [entry]}
    bench.cluster.store({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata})
    bench.deliver()
    orphan(bench, stripped=True)
    await swept(bench, sweep_of(bench), (0, 11, 12))
    assert list(bench.made) == [("PersistentVolumeClaim", "zmumu-inference-store")]
