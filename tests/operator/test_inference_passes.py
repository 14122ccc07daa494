"""Passes over a model service: what is written, what stays, and killed at any write."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest

from tests.support.bench import PROFILE, Bench
from tests.support.mortal import Killed, Mortal
from tests.support.played_controllers import come_up, of_kind

MODEL = {"name": "topjet", "version": "1", "source": {"volumeClaim": {"claimName": "models"}}}
OFFERED = {"image": "registry.test/inference:1", "models": [MODEL], "upload": True}
CATALOGUE = PROFILE | {"inference": OFFERED}
SERVICE = {"models": [{"name": "topjet"}], "upload": True, "replicas": 2}
SPEC = {"profile": "default", "user": "alice", "mode": "Interactive", "inference": SERVICE}
STORE = ("PersistentVolumeClaim", "zmumu-inference-store")
KINDS = ("ConfigMap", "PersistentVolumeClaim", "Pod", "Pod", "Role", "RoleBinding", "Secret", "Service")


def catalogue(bench: Bench, **inference: Any) -> None:
    """Edit the catalogue as its admin would."""
    body = copy.deepcopy(bench.cluster.objects["AnalysisProfile", "", "default"])
    body["spec"]["inference"] |= inference
    bench.cluster._put("MODIFIED", body)
    bench.deliver()


def kinds(bench: Bench) -> list[str]:
    return sorted(kind for kind, _ in bench.made)


async def test_it_comes_up_and_costs_nothing_more() -> None:
    bench = Bench(SPEC, CATALOGUE)
    await come_up(bench)
    assert kinds(bench) == sorted(KINDS)
    assert bench.condition("InferenceReady")["message"] == "2 of 2 replicas ready"
    verbs = Counter(verb for verb, (kind, _, _) in bench.cluster.writes if kind in KINDS)
    assert verbs == {"create": len(KINDS)}
    bench.cluster.writes.clear()
    bench.restart()
    await come_up(bench)
    assert bench.cluster.writes == [], "neither does another operator write"


async def test_what_serves_is_not_touched_by_an_edit_of_the_catalogue() -> None:
    bench = Bench(SPEC, CATALOGUE)
    await come_up(bench)
    before = {name: copy.deepcopy(body) for name, body in bench.made.items() if name[0] in ("Pod", STORE[0])}
    catalogue(bench, image="registry.test/inference:2", store={"size": "9Gi"}, models=[MODEL, MODEL | {"version": "2"}])
    await come_up(bench)
    assert {name: body for name, body in bench.made.items() if name[0] in ("Pod", STORE[0])} == before
    assert bench.status["components"]["inference"]["models"] == {"topjet": "1"}


async def test_a_service_that_never_came_up_follows_the_catalogue() -> None:
    bench = Bench(SPEC, CATALOGUE)
    await bench.settle()  # its pods do not run
    catalogue(bench, image="registry.test/inference:2", models=[MODEL, MODEL | {"version": "2"}])
    await come_up(bench)
    images = {container["image"] for pod in of_kind(bench, "Pod") for container in pod["spec"]["containers"]}
    assert images == {"registry.test/inference:2"}
    assert bench.status["components"]["inference"]["models"] == {"topjet": "2"}


async def test_a_suspension_takes_all_but_the_store_which_is_found_again() -> None:
    bench = Bench(SPEC, CATALOGUE)
    await come_up(bench)
    store = copy.deepcopy(bench.made[STORE])
    bench.change(suspend=True)
    await come_up(bench)
    assert list(bench.made) == [STORE]
    bench.change(suspend=False)
    await come_up(bench)
    assert kinds(bench) == sorted(KINDS)
    assert bench.made[STORE] == store
    assert [verb for verb, (kind, _, _) in bench.cluster.writes if kind == STORE[0]] == ["create"]


@pytest.mark.parametrize("heard", [False, True], ids=["not sent", "answer lost"])
@pytest.mark.parametrize("change", [{}, {"replicas": 4}, {"replicas": 1}], ids=["begin", "more", "fewer"])
async def test_killed_at_any_write_it_ends_in_the_same_state_and_nothing_is_made_twice(
    change: dict[str, int], heard: bool
) -> None:
    for last in range(50):
        bench = Bench(SPEC, CATALOGUE)
        if change:
            await come_up(bench)
            bench.cluster.writes.clear()
            bench.change(inference=SERVICE | change)
        mortal = Mortal(bench.cluster, last, heard=heard)
        bench.reconcile._cluster = mortal
        try:
            await come_up(bench)
        except Killed:
            bench.restart()
            await come_up(bench)
        asked = change.get("replicas", 2)
        assert [pod["metadata"]["name"] for pod in of_kind(bench, "Pod")] == [
            f"zmumu-inference-r{number}" for number in range(asked)
        ]
        assert set(kinds(bench)) == set(KINDS)
        created = Counter(ref for verb, ref in bench.cluster.writes if verb == "create")
        assert set(created.values()) <= {1}, last
        assert bench.condition("InferenceReady")["message"] == f"{asked} of {asked} replicas ready"
        if mortal.alive:
            assert last > 0
            return
    raise AssertionError("it never came to its end unharmed")
