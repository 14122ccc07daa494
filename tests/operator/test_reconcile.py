"""Passes against a fake cluster: what is written, what is not, and that order does not matter."""

from __future__ import annotations

import copy
import random
from datetime import timedelta
from typing import Any

import pytest

from af_operator import names
from af_operator.errors import OurBug, Refused, Unavailable
from af_operator.reconcile import QUIET
from tests.support.bench import NOW, PROFILE, SPEC, UNDER_DASK_KUBERNETES, Bench

ENGINES = pytest.mark.parametrize("profile", [PROFILE, UNDER_DASK_KUBERNETES], ids=["Native", "DaskKubernetes"])
OF_DASK = {"DaskCluster", "DaskWorkerGroup", "Deployment", "Service", "Pod"}
"""Kinds of which nothing is left when the Dask is gone, in a session with a cache beside each pod."""


def children(bench: Bench) -> dict[tuple[str, str], dict[str, Any]]:
    return bench.made


@ENGINES
async def test_a_new_session_is_created_once_and_then_nothing_is_written(profile: dict[str, Any]) -> None:
    bench = Bench(profile=profile)
    await bench.settle()
    created = [key for verb, key in bench.cluster.writes if verb == "create"]
    assert len(created) == len(set(created)), "no child is applied twice"
    of_dask = (
        {"DaskCluster", "DaskWorkerGroup"} if profile is UNDER_DASK_KUBERNETES else {"Deployment", "Service", "Pod"}
    )
    assert {k for k, _ in children(bench)} == of_dask | {"Job", "ConfigMap", "Secret"}
    bench.cluster.writes.clear()
    for _ in range(3):
        bench.now += timedelta(minutes=5)
        await bench.reconcile(bench.key)
    assert bench.cluster.writes == []


async def test_a_second_pass_before_the_watch_echoes_writes_nothing_twice() -> None:
    bench = Bench()
    await bench.reconcile(bench.key)
    first = list(bench.cluster.writes)
    await bench.reconcile(bench.key)
    assert [w for w in bench.cluster.writes[len(first) :] if w[0] in ("create", "apply")] == []


@ENGINES
async def test_a_restarted_operator_writes_nothing(profile: dict[str, Any]) -> None:
    bench = Bench(profile=profile)
    await bench.settle()
    bench.cluster.writes.clear()
    bench.restart()
    bench.now += timedelta(seconds=30)
    await bench.reconcile(bench.key)
    assert bench.cluster.writes == []


@pytest.mark.usefixtures("same_names")
@pytest.mark.parametrize("seed", range(10))
async def test_permuted_events_end_in_the_same_state(seed: int) -> None:
    reference, permuted = Bench(), Bench()
    await reference.settle()
    shuffle = random.Random(seed)
    for _ in range(20):
        await permuted.reconcile(permuted.key)
        permuted.deliver(shuffle)
        permuted.now += timedelta(seconds=2)
    assert children(permuted).keys() == children(reference).keys()

    def states(bench: Bench) -> dict[str, tuple[str, str, str]]:
        return {c["type"]: (c["status"], c["reason"], c["message"]) for c in bench.status["conditions"]}

    assert states(permuted) == states(reference)
    assert permuted.status["phase"] == reference.status["phase"]


@ENGINES
async def test_each_deleted_child_comes_back(profile: dict[str, Any]) -> None:
    bench = Bench(profile=profile)
    await bench.settle()
    for ref, body in list(children(bench).items()):
        bench.cluster.events.append(("DELETED", bench.cluster.objects.pop((ref[0], "physics", ref[1]))))
        bench.deliver()
        await bench.settle()
        if ref[0] == "Pod":  # another one: its name was given once
            assert len([kind for kind, _ in children(bench) if kind == "Pod"]) == 1
        else:
            assert children(bench)[ref]["metadata"]["uid"] != body["metadata"]["uid"], ref


async def test_a_drifted_child_is_put_right_once() -> None:
    bench = Bench(profile=UNDER_DASK_KUBERNETES)
    await bench.settle()
    group = next(b for (kind, _), b in children(bench).items() if kind == "DaskWorkerGroup")
    drifted = copy.deepcopy(group)
    drifted["spec"]["worker"]["replicas"] += 5
    bench.cluster._put("MODIFIED", drifted)
    bench.deliver()
    bench.cluster.writes.clear()
    await bench.settle()
    applies = [key for verb, key in bench.cluster.writes if verb == "apply"]
    assert applies == [("DaskWorkerGroup", "physics", group["metadata"]["name"])]


async def test_a_pool_that_is_no_longer_asked_for_is_deleted_and_nothing_else() -> None:
    bench = Bench(profile=UNDER_DASK_KUBERNETES)
    await bench.settle()
    bench.change(dask={"pools": SPEC["dask"]["pools"][:1]})
    bench.cluster.writes.clear()
    await bench.settle()
    deleted = [key for verb, key in bench.cluster.writes if verb == "delete"]
    assert [kind for kind, _, _ in deleted] == ["DaskWorkerGroup"]
    assert "gpu" in deleted[0][2]


async def test_an_object_of_somebody_else_is_never_adopted() -> None:
    bench = Bench()
    squatter = bench.cluster.store(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "zmumu-source", "namespace": "physics"},
            "data": {"precious": "yes"},
        }
    )
    await bench.settle()
    assert bench.cluster.objects["ConfigMap", "physics", "zmumu-source"] == squatter
    assert bench.condition("RunReady")["reason"] == "NameConflict"
    assert "zmumu-source" in bench.condition("RunReady")["message"]
    assert bench.condition("Ready")["status"] == "False"


async def test_what_carries_our_labels_but_is_not_ours_is_left_alone() -> None:
    bench = Bench()
    await bench.settle()
    forged = bench.cluster.store(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "forged",
                "namespace": "physics",
                "labels": {names.SESSION_UID: bench.session["metadata"]["uid"]},
                "ownerReferences": [{"uid": bench.session["metadata"]["uid"], "controller": True}],
            },
        }
    )
    bench.deliver()
    await bench.settle()
    assert bench.cluster.objects["ConfigMap", "physics", "forged"] == forged


@pytest.mark.parametrize(
    ("spec", "reason", "said"),
    [
        ({"profile": "other"}, "ProfileNotFound", "choose one of those that the cluster has"),
        ({"image": "nope"}, "UnknownImage", "choose one of: analysis"),
        (
            {"dask": {"pools": [{"name": "a", "nodePool": "tpu", "workers": {"max": 1}}]}},
            "UnknownNodePool",
            "tpu",
        ),
        (
            {"dask": {"pools": [{"name": "a", "nodePool": "cpu", "size": "huge", "workers": {"max": 1}}]}},
            "UnknownSize",
            "huge",
        ),
        ({"dask": {"pools": [{"name": "a", "nodePool": "cpu", "workers": {"max": 11}}]}}, "LimitExceeded", "10"),
        (
            {"dask": {"pools": [{"name": "a", "nodePool": "gpu", "gpusPerWorker": 1, "workers": {"max": 3}}]}},
            "LimitExceeded",
            "2",
        ),
    ],
)
async def test_what_does_not_fit_the_profile_is_said_and_nothing_is_created(
    spec: dict[str, Any], reason: str, said: str
) -> None:
    bench = Bench({**SPEC, **spec})
    await bench.settle()
    assert children(bench) == {}
    accepted = bench.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", reason)
    assert said in accepted["message"]
    assert bench.status["phase"] == "Refused"
    assert [n.reason for n in bench.cluster.notices] == [reason]


async def test_a_profile_edited_by_mistake_stops_no_running_session() -> None:
    bench = Bench()
    await bench.settle()
    before = children(bench)
    profile = copy.deepcopy(bench.cluster.objects["AnalysisProfile", "", "default"])
    profile["spec"]["images"] = [{"name": "other", "image": "x"}]
    bench.change(image="analysis")
    bench.cluster._put("MODIFIED", profile)
    bench.deliver()
    await bench.settle()
    assert bench.condition("Accepted")["status"] == "False"
    assert children(bench).keys() == before.keys()


async def test_a_refusal_is_in_the_servers_words_and_not_repeated_at_once() -> None:
    bench = Bench(profile=UNDER_DASK_KUBERNETES)
    bench.cluster.errors["DaskCluster"] = Refused("exceeded quota: count/daskclusters")
    await bench.reconcile(bench.key)
    bench.deliver()
    assert bench.condition("DaskReady")["reason"] == "Refused"
    assert "exceeded quota" in bench.condition("DaskReady")["message"]
    del bench.cluster.errors["DaskCluster"]
    await bench.reconcile(bench.key)
    assert ("DaskCluster", "zmumu") not in children(bench), "asked again too early"
    bench.now += timedelta(seconds=31)
    await bench.settle()
    assert ("DaskCluster", "zmumu") in children(bench)


async def test_our_own_bug_is_a_condition_too() -> None:
    bench = Bench()
    bench.cluster.errors["Job"] = OurBug(".spec.foo: field not declared in schema")
    await bench.settle()
    assert bench.condition("RunReady")["reason"] == "InternalError"


async def test_an_unavailable_server_leaves_the_status_untouched() -> None:
    bench = Bench()
    await bench.settle()
    before = copy.deepcopy(bench.status)
    bench.cluster.errors["ConfigMap"] = Unavailable("503")
    source = bench.cluster.objects.pop(("ConfigMap", "physics", "zmumu-source"))
    bench.cluster.events.append(("DELETED", source))
    bench.deliver()
    with pytest.raises(Unavailable):
        await bench.reconcile(bench.key)
    assert bench.status == before


@ENGINES
async def test_suspend_takes_the_compute_and_resume_brings_it_back(profile: dict[str, Any]) -> None:
    bench = Bench(profile=profile)
    await bench.settle()
    running = sorted((kind, name) for kind, name in children(bench) if kind != "Pod")
    bench.change(suspend=True)
    await bench.settle()
    assert not {k for k, _ in children(bench)} & OF_DASK
    assert bench.status["phase"] == "Suspended"
    assert bench.condition("Suspended")["status"] == "True"
    bench.change(suspend=False)
    await bench.settle()
    assert sorted((kind, name) for kind, name in children(bench) if kind != "Pod") == running
    assert bench.condition("Suspended")["status"] == "False"


@ENGINES
async def test_lifetime_and_ttl(profile: dict[str, Any]) -> None:
    bench = Bench({**SPEC, "lifetimeSeconds": 600, "ttlSecondsAfterFinished": 100}, profile)
    again = await bench.reconcile(bench.key)
    assert again is not None
    assert again <= NOW + timedelta(seconds=600)
    bench.deliver()
    bench.now = NOW + timedelta(seconds=601)
    await bench.settle()
    assert bench.condition("RunComplete")["reason"] == "LifetimeExceeded"
    assert not {k for k, _ in children(bench)} & OF_DASK
    bench.now = NOW + timedelta(seconds=701)
    await bench.reconcile(bench.key)
    assert bench.cluster.writes[-1] == ("delete", ("AnalysisSession", "physics", "zmumu"))
    bench.deliver()
    assert await bench.reconcile(bench.key) is None


async def test_a_session_of_the_same_name_is_not_harmed_by_the_ttl_of_its_predecessor() -> None:
    bench = Bench({**SPEC, "lifetimeSeconds": 10, "ttlSecondsAfterFinished": 0})
    newer = copy.deepcopy(bench.session)
    newer["metadata"]["uid"] = "another"
    bench.cluster.objects["AnalysisSession", "physics", "zmumu"] = newer
    bench.now = NOW + timedelta(seconds=60)
    with pytest.raises(Unavailable):
        await bench.reconcile(bench.key)
    assert bench.session["metadata"]["uid"] == "another"


async def test_a_stored_session_that_does_not_parse_says_so_once() -> None:
    bench = Bench({**SPEC, "mode": "Sideways"})
    await bench.reconcile(bench.key)
    bench.deliver()
    assert bench.condition("Accepted")["reason"] == "InvalidSpec"
    written = len(bench.cluster.writes)
    await bench.reconcile(bench.key)
    assert len(bench.cluster.writes) == written


async def test_transition_times_change_only_on_a_flip() -> None:
    bench = Bench()
    await bench.settle()
    before = bench.condition("Accepted")
    bench.now += timedelta(hours=1)
    bench.change(lifetimeSeconds=7200)
    await bench.settle()
    after = bench.condition("Accepted")
    assert after["observedGeneration"] == 2
    assert after["lastTransitionTime"] == before["lastTransitionTime"]


async def test_what_changes_within_a_quiet_time_is_told_once() -> None:
    bench = Bench(profile=UNDER_DASK_KUBERNETES)
    await bench.reconcile(bench.key)
    bench.deliver()
    bench.cluster.writes.clear()
    cluster = next(b for (kind, _), b in children(bench).items() if kind == "DaskCluster")
    for phase in ("Created", "Error"):
        bench.cluster._put("MODIFIED", {**cluster, "status": {"phase": phase}})
        bench.deliver()
        again = await bench.reconcile(bench.key)
        assert bench.cluster.writes == []
    assert again == bench.now + QUIET
    bench.now = again
    await bench.reconcile(bench.key)
    assert [verb for verb, _ in bench.cluster.writes] == ["status"]
    assert bench.condition("DaskReady")["reason"] == "DaskClusterError"


async def test_the_answer_to_an_edit_is_told_at_once() -> None:
    bench = Bench()
    await bench.reconcile(bench.key)
    bench.deliver()
    bench.change(suspend=True)
    await bench.reconcile(bench.key)
    assert bench.condition("Suspended")["status"] == "True"


async def test_an_event_that_is_refused_stops_no_pass() -> None:
    bench = Bench(spec=SPEC | {"profile": "there-is-none"})
    bench.cluster.errors["record"] = Refused("unable to create new content: the namespace is being terminated")
    await bench.settle()
    assert bench.condition("Accepted")["status"] == "False"
    assert bench.cluster.notices == []


@pytest.mark.parametrize("refused", [False, True])
async def test_what_was_added_to_a_list_is_taken_away(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server-side apply keeps another's entry of a list, or is refused because of it."""
    bench = Bench(spec=SPEC | {"xcache": {"placement": "Session"}})
    await bench.settle()
    service = next(b for (kind, _), b in children(bench).items() if kind == "Service")
    drifted = copy.deepcopy(service)
    drifted["spec"]["ports"].append({"name": "added", "port": 4242})
    bench.cluster._put("MODIFIED", drifted)
    bench.deliver()

    async def apply(body: dict[str, Any]) -> dict[str, Any]:
        assert (body["kind"], body["metadata"]["uid"]) == ("Service", service["metadata"]["uid"])
        if refused:
            raise Refused("Duplicate value")
        return drifted

    async def overwrite(body: dict[str, Any]) -> dict[str, Any]:
        assert body["metadata"]["uid"] == service["metadata"]["uid"]
        return bench.cluster._put("MODIFIED", {**drifted, "spec": body["spec"]})

    monkeypatch.setattr(bench.cluster, "apply", apply)
    monkeypatch.setattr(bench.cluster, "overwrite", overwrite)
    await bench.settle()
    assert bench.cluster.objects["Service", "physics", service["metadata"]["name"]]["spec"] == service["spec"]


async def test_a_profile_that_goes_stops_nothing_and_forgets_no_end() -> None:
    bench = Bench()
    await bench.settle()
    before = children(bench)
    bench.change(dask={"pools": [{"name": "a", "nodePool": "tpu", "workers": {"max": 1}}]})
    await bench.settle()
    assert children(bench) == before
    assert bench.condition("Accepted")["reason"] == bench.condition("Ready")["reason"] == "UnknownNodePool"
    assert bench.condition("DaskReady")
    assert bench.status["phase"] == "Starting"

    job = copy.deepcopy(next(b for (kind, _), b in before.items() if kind == "Job"))
    time = "2026-11-21T12:00:00Z"
    job["status"] = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": time}]}
    bench.cluster._put("MODIFIED", job)
    bench.cluster.events.append(("DELETED", bench.cluster.objects.pop(("AnalysisProfile", "", "default"))))
    bench.deliver()
    await bench.settle()
    assert bench.status["phase"] == "Succeeded"
    assert bench.condition("RunComplete")["reason"] == "Succeeded"
    assert {kind for kind, _ in children(bench)} == {"Job", "ConfigMap", "Role", "RoleBinding"}
