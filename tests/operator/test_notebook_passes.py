"""Passes over a session with a notebook: its token, its home, and that nothing is written twice."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest

from af_operator import names
from af_operator.errors import Unavailable
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


OF_THE_SERVER = {(kind, "zmumu-notebook") for kind in ("Secret", "Role", "RoleBinding")}


async def test_a_notebook_comes_back_with_its_home_and_another_token() -> None:
    bench = Bench(LAB, WITH_HOME)
    await bench.settle()
    before = bench.made
    bench.change(suspend=True)
    await bench.settle()
    # Whoever had the Secret's name while it is free would be read by the session's user, if the Role stayed.
    assert before.keys() - bench.made.keys() == OF_THE_SERVER
    assert bench.made["StatefulSet", "zmumu-notebook"]["spec"]["replicas"] == 0
    bench.cluster.writes.clear()
    await bench.reconcile(bench.key)
    assert bench.cluster.writes == []
    bench.change(suspend=False)
    await bench.settle()
    after = bench.made
    assert after["StatefulSet", "zmumu-notebook"]["spec"] == before["StatefulSet", "zmumu-notebook"]["spec"]
    assert after["Secret", "zmumu-notebook"]["data"] != before["Secret", "zmumu-notebook"]["data"]
    assert after[HOME] == before[HOME]


def written_by_the_hub(bench: Bench, token: str) -> None:
    owner = {"kind": "AnalysisSession", "uid": bench.session["metadata"]["uid"], "controller": True}
    marks = {"labels": {names.SESSION_UID: owner["uid"]}, "ownerReferences": [owner]}
    metadata = {"name": "zmumu-hub", "namespace": "physics", **marks}
    bench.cluster.store(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"JUPYTERHUB_API_TOKEN": token}}
    )
    bench.deliver()


async def test_what_the_hub_wrote_for_a_server_ends_with_it() -> None:
    bench = Bench({**LAB, "suspend": True}, WITH_HOME)
    await bench.settle()
    written_by_the_hub(bench, "first")
    await bench.settle()
    assert ("Secret", "zmumu-hub") in bench.made, "it waits for the server to start"
    bench.change(suspend=False)
    await bench.settle()
    assert ("Secret", "zmumu-hub") in bench.made, "a container that starts again reads it"
    bench.change(suspend=True)
    await bench.settle()
    assert ("Secret", "zmumu-hub") not in bench.made, "no server is to take it over"


async def test_what_the_hub_has_written_for_the_next_server_stays() -> None:
    """The Hub stops and starts a server at once, and the operator sees that late, or half of it."""
    bench = Bench({**LAB, "suspend": True}, WITH_HOME)
    written_by_the_hub(bench, "first")
    bench.change(suspend=False)
    await bench.settle()
    bench.change(suspend=True)
    unseen = bench.cluster.objects["Secret", "physics", "zmumu-hub"]
    bench.cluster._put("MODIFIED", {**unseen, "data": {"JUPYTERHUB_API_TOKEN": "second"}})
    bench.cluster.events, late = [], bench.cluster.events
    with pytest.raises(Unavailable):  # asked again, with what is known by then
        await bench.reconcile(bench.key)
    assert bench.cluster.objects["StatefulSet", "physics", "zmumu-notebook"]["spec"]["replicas"] == 1
    bench.cluster.events = late
    bench.deliver()
    await bench.settle()
    assert bench.made["Secret", "zmumu-hub"]["data"] == {"JUPYTERHUB_API_TOKEN": "second"}
    assert bench.made["StatefulSet", "zmumu-notebook"]["spec"]["replicas"] == 0


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
