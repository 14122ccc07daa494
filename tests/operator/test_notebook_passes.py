"""Passes over a session with a notebook: its token, its home, and that nothing is written twice."""

from __future__ import annotations

import copy
from datetime import timedelta

from tests.support.bench import PROFILE, Bench

LAB = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {}, "xcache": {}}
WITH_HOME = PROFILE | {"storage": {"home": {"size": "1Gi"}}}
HOME = ("PersistentVolumeClaim", "home-alice")


async def test_a_notebook_is_made_once_with_the_home_of_its_user() -> None:
    bench = Bench(LAB, WITH_HOME)
    await bench.settle()
    applied = [key for verb, key in bench.cluster.writes if verb == "create"]
    assert len(applied) == len(set(applied)), "no child is applied twice"
    assert {kind for kind, _ in bench.made} >= {"StatefulSet", "Service", "Secret", "Role", "RoleBinding", HOME[0]}
    bench.cluster.writes.clear()
    for _ in range(3):
        bench.now += timedelta(minutes=5)
        await bench.reconcile(bench.key)
    assert bench.cluster.writes == [], "nor is there another token in each pass"


async def test_a_notebook_comes_back_with_its_token_and_its_home() -> None:
    bench = Bench(LAB, WITH_HOME)
    await bench.settle()
    before = bench.made
    bench.change(suspend=True)
    await bench.settle()
    assert bench.made.keys() == before.keys()
    assert bench.made["StatefulSet", "zmumu-notebook"]["spec"]["replicas"] == 0
    bench.change(suspend=False)
    await bench.settle()
    after = bench.made
    assert after["StatefulSet", "zmumu-notebook"]["spec"] == before["StatefulSet", "zmumu-notebook"]["spec"]
    assert after["Secret", "zmumu-notebook"]["data"] == before["Secret", "zmumu-notebook"]["data"]
    assert after[HOME] == before[HOME]


async def test_a_bigger_home_in_the_profile_writes_nothing() -> None:
    bench = Bench(LAB, WITH_HOME)
    await bench.settle()
    profile = copy.deepcopy(bench.cluster.objects["AnalysisProfile", "", "default"])
    profile["spec"]["storage"]["home"]["size"] = "5Gi"
    bench.cluster._put("MODIFIED", profile)
    bench.deliver()
    bench.cluster.writes.clear()
    await bench.settle()
    assert bench.cluster.writes == []


async def test_the_home_of_somebody_else_is_refused_and_not_mounted() -> None:
    bench = Bench(LAB, WITH_HOME)
    foreign = bench.cluster.store(
        {"apiVersion": "v1", "kind": HOME[0], "metadata": {"name": HOME[1], "namespace": "physics"}}
    )
    await bench.settle()
    assert bench.cluster.objects[HOME[0], "physics", HOME[1]] == foreign
    assert "StatefulSet" not in {kind for kind, _ in bench.made}
    condition = bench.condition("NotebookReady")
    assert (condition["reason"], "home-alice" in condition["message"]) == ("NameConflict", True)


async def test_a_home_that_another_session_has_just_made_is_taken_as_it_is() -> None:
    """Two passes at once, and neither knows yet what the other one wrote."""
    bench = Bench(LAB, WITH_HOME)
    other = Bench(LAB, WITH_HOME)
    await other.settle()
    made = bench.cluster.store(other.cluster.objects[HOME[0], "physics", HOME[1]])
    bench.cluster.events.clear()
    await bench.settle()
    assert ("apply", (HOME[0], "physics", HOME[1])) not in bench.cluster.writes
    assert bench.cluster.objects[HOME[0], "physics", HOME[1]] == made
    assert "StatefulSet" in {kind for kind, _ in bench.made}
