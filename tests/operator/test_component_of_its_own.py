"""A component that is a folder of the tests, beside those of the operator: nothing else knows of it."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import af_operator
from af_operator import names
from af_operator.api import SessionStatus
from af_operator.components import Component, child_kinds, in_package, shipped
from af_operator.components.dask.groups import DaskAnswer
from af_operator.crdgen import CHILD, operator_rules
from af_operator.errors import Refused
from tests.support import components
from tests.support.components import relay as folder
from tests.support.components.relay.broker import DISRUPTION_BUDGET
from tests.support.components.relay.spec import RelayAnswer
from tests.support.played_controllers import UP, come_up, lose, of_kind, play, say
from tests.support.relayed import (
    BESIDE_DASK,
    INTERACTIVE,
    agents,
    bench,
    everything,
    group,
    pods,
    pool,
    relay,
    retire,
    up,
    workers,
)


def children_of(of: Any, component: str) -> set[tuple[str, str]]:
    return {key for key, body in of.made.items() if body["metadata"]["labels"].get(names.COMPONENT) == component}


def test_it_is_found_by_its_folder_and_nothing_else_knows_of_it() -> None:
    assert in_package(components) == (folder,)
    assert isinstance(folder, Component)
    assert DISRUPTION_BUDGET in child_kinds(everything())
    assert DISRUPTION_BUDGET not in child_kinds(shipped())
    modules = Path(af_operator.__file__).parent.rglob("*.py")
    assert [path.name for path in modules if "relay" in path.read_text().lower()] == []


def test_its_rights_follow_from_its_kinds() -> None:
    def rights(kinds: Any) -> set[tuple[str, str, str]]:
        rules = operator_rules(kinds)
        return {
            (group, r, v)
            for rule in rules
            for group in rule["apiGroups"]
            for r in rule["resources"]
            for v in rule["verbs"]
        }

    before = rights(kind for each in shipped() for kind in each.KINDS)
    after = rights(kind for each in everything() for kind in each.KINDS)
    assert after - before == {("policy", "poddisruptionbudgets", verb) for verb in CHILD}


async def test_a_session_that_does_not_ask_for_it_has_none() -> None:
    found = await up({**BESIDE_DASK, "env": []})
    assert children_of(found, "relay") == set()
    assert "relay" not in found.status["components"]
    assert set(agents(found).asked) == {"dask"}


async def test_it_comes_up_beside_dask_and_the_run_waits_for_it() -> None:
    found = bench()
    await found.settle()
    assert found.condition("RelayReady")["message"] == "the broker is not ready yet"
    play(found)  # makes the pods of Deployments
    play(found)  # and runs them
    [broker] = [pod for pod in of_kind(found, "Pod") if pod["metadata"]["labels"][names.ROLE] == "broker"]
    say(found, broker, phase="Running", conditions=[{"type": "Ready", "status": "False"}])
    await found.settle()
    assert found.condition("DaskReady")["status"] == "True"
    assert of_kind(found, "Job")[0]["spec"]["suspend"] is True
    say(found, broker, **UP)
    await come_up(found)
    assert of_kind(found, "Job")[0]["spec"]["suspend"] is False
    assert found.condition("Ready")["status"] == "True"
    assert {kind for kind, _ in children_of(found, "relay")} == {kind.kind for kind in folder.KINDS}


async def test_its_workers_are_not_taken_for_those_of_dask() -> None:
    found = bench(dask={"engine": "DaskKubernetes"})
    found.cluster.errors["DaskCluster"] = Refused("exceeded quota")
    await found.settle()
    assert workers(found, "relay"), "they are there before anything of Dask is"
    found.cluster.errors.clear()
    found.now += timedelta(minutes=1)
    await found.settle()
    assert len(of_kind(found, "DaskCluster")) == 1
    assert workers(found, "dask") == [], "and do not make it another engine's"


async def test_its_part_of_the_status() -> None:
    found = await up()
    SessionStatus.model_validate(found.status)
    url = "http://zmumu-relay.physics.svc:7000"
    told = dict(found.status["components"]["relay"])
    assert sorted(told.pop("pods")) == ["broker", "cpu", "gpu"], "of these, `af logs` shows what they say"
    assert told == {
        "pools": {"cpu": {"ready": 1, "desired": 1}, "gpu": {"ready": 1, "desired": 1}},
        "endpoints": {"relay": url},
    }
    assert set(found.status["components"]["dask"]["endpoints"]) == {"dask", "dashboard"}
    assert "relay" not in found.status["endpoints"], "no others are added there"
    assert found.condition("RelayReady")["message"] == "pool cpu: 1 of 1 workers; pool gpu: 1 of 1 workers"


async def test_a_pool_in_trouble_is_told_in_its_condition_and_no_other() -> None:
    found = await up()
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    nowhere = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    [gpu] = pods(found, "relay", "gpu")
    say(found, gpu, phase="Pending", conditions=[nowhere])
    await found.settle()
    assert found.condition("RelayReady")["reason"] == "Unschedulable"
    assert (
        "pool gpu: 0 of at least 1 workers ready: asks for 1 more nvidia.com/gpu"
        in found.condition("RelayReady")["message"]
    )
    assert found.condition("Ready")["message"].startswith("Relay: pool gpu")
    assert found.condition("DaskReady")["status"] == "True"


async def test_each_is_asked_its_own_question_and_answers_apart() -> None:
    found = await up()
    asked = agents(found).asked
    assert {name: question.answer for name, question in asked.items()} == {"dask": DaskAnswer, "relay": RelayAnswer}
    assert asked["relay"].url == "http://zmumu-relay.physics.svc:7000/v1/pools"
    assert not asked["relay"].asked["pools"].keys() & asked["dask"].asked["pools"].keys(), "pools of one name are two"
    mine, other = group(found, "relay", "cpu"), group(found, "dask", "cpu")
    believed = agents(found).answer("relay", pools={mine: {"wanted": 3}, other: {"wanted": 9}}, queued=7)
    assert isinstance(believed, RelayAnswer)
    assert set(believed.pools) == {mine}, "what it was not asked about is left out"
    agents(found).answer("dask", pools={mine: {"wanted": 9}})
    await come_up(found)
    assert (len(workers(found, "relay", "cpu")), len(workers(found, "dask", "cpu"))) == (3, 1)
    assert "messages that wait: 7" in found.condition("RelayReady")["message"]
    assert "messages" not in found.condition("DaskReady")["message"]


@pytest.mark.parametrize(
    "said", [{"queued": -1}, {"queued": "x"}, {"pools": {"a": {"wanted": 10**9}}}, {"used": "now"}]
)
async def test_what_it_does_not_believe_is_no_answer(said: dict[str, Any]) -> None:
    found = await up()
    with pytest.raises(ValidationError):
        agents(found).answer("relay", **said)


async def test_when_it_was_used_is_when_the_session_was() -> None:
    found = await up()
    agents(found).answer("relay", used=found.now.timestamp())
    await come_up(found)
    assert found.status["lastActivity"] == "2026-11-21T12:00:00Z"


async def test_it_grows_as_its_agent_asks_and_shrinks_by_who_is_retired() -> None:
    found = await up()
    dask = workers(found, "dask")
    agents(found).answer("relay", pools={group(found, "relay", "cpu"): {"wanted": 3}})
    await come_up(found)
    there = workers(found, "relay", "cpu")
    assert len(there) == 3
    mine = group(found, "relay", "cpu")
    agents(found).answer("relay", pools={mine: {"wanted": 1, "workers": there, "retiring": there[:2]}})
    await come_up(found)
    assert agents(found).asked["relay"].asked["pools"][mine]["keep"] == 1
    assert workers(found, "relay", "cpu") == there, "who still has something stays"
    assert "copy their results away before they go: 2" in found.condition("RelayReady")["message"]
    agents(found).answer("relay", pools={mine: {"wanted": 1, "workers": there, "retired": [there[1]]}})
    await come_up(found)
    assert workers(found, "relay", "cpu") == [there[0], there[2]]
    agents(found).answer("relay", pools={mine: {"wanted": 1, "workers": [there[0], there[2]], "retired": [there[0]]}})
    await come_up(found)
    assert workers(found, "relay", "cpu") == [there[2]]
    assert workers(found, "dask") == dask, "the other engine's are let be"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"limits": {"workers": 6, "gpus": 2}}, "7 workers over all pools"),
        ({"limits": {"workers": 10, "gpus": 1}}, "2 GPUs over all pools"),
        (
            {"nodePools": [{"name": "cpu", "maxWorkers": 4}, {"name": "gpu", "gpuResource": "nvidia.com/gpu"}]},
            "5 workers on node pool 'cpu'",
        ),
    ],
)
async def test_one_budget_bounds_what_both_may_ask_for(profile: dict[str, Any], said: str) -> None:
    found = bench(**profile)
    await found.settle()
    assert found.condition("Accepted")["reason"] == "LimitExceeded"
    assert said in found.condition("Accepted")["message"]
    assert found.made == {}


@pytest.mark.parametrize(
    ("env", "reason"), [("{", "InvalidRelay"), ("[]", "InvalidRelay"), ('[{"name": "a"}]', "InvalidRelay")]
)
async def test_what_it_asks_for_that_cannot_be_is_said(env: str, reason: str) -> None:
    found = bench({**BESIDE_DASK, "env": [{"name": "RELAY", "value": env}]})
    await found.settle()
    assert (found.condition("Accepted")["reason"], found.made) == (reason, {})
    found = bench({**BESIDE_DASK, "env": relay(pool("a", 1, 1, nodePool="none"))})
    await found.settle()
    assert found.condition("Accepted")["reason"] == "UnknownNodePool"


async def test_workers_of_another_shape_replace_the_first_within_the_budget_of_both() -> None:
    fixed = {**INTERACTIVE, "dask": {"pools": [pool("cpu", 2, 2)]}, "env": relay(pool("cpu", 2, 2))}
    found = await up(fixed, limits={"workers": 4, "gpus": 0})
    dask, before, most = workers(found, "dask"), workers(found, "relay"), 0
    found.change(env=relay(pool("cpu", 2, 2, size="big")))
    for _ in range(10):
        await found.settle()
        most = max(most, len(workers(found, "dask")) + len(workers(found, "relay")))
        retire(found, "relay")
        play(found)
    assert most == 4, "at no time are there more than the profile allows to all pools of the session"
    after = workers(found, "relay")
    assert len(after) == 2
    assert not set(after) & set(before)
    assert workers(found, "dask") == dask


async def test_what_is_free_is_given_to_one_of_them_and_not_to_both() -> None:
    spec = {**INTERACTIVE, "dask": {"pools": [pool("cpu", 2, 2)]}, "env": relay(pool("cpu", 2, 2))}
    found = await up(spec, limits={"workers": 5, "gpus": 0})
    found.change(env=relay(pool("cpu", 2, 2, size="big")), dask={"pools": [pool("cpu", 2, 2, size="big")]})
    await found.settle()
    assert (len(workers(found, "dask")), len(workers(found, "relay"))) == (3, 2)


async def test_a_budget_that_is_free_lets_new_workers_come_before_the_old_go() -> None:
    found = await up({**INTERACTIVE, "dask": {"pools": [pool("cpu", 2, 2)]}, "env": relay(pool("cpu", 2, 2))})
    found.change(env=relay(pool("cpu", 2, 2, size="big")))
    await found.settle()
    assert len(workers(found, "relay")) == 4


async def test_suspended_it_goes_and_resumed_it_comes_back_with_another_token() -> None:
    found = await up()
    [before] = [s for s in of_kind(found, "Secret") if s["metadata"]["name"] == "zmumu-relay"]
    found.change(suspend=True)
    await come_up(found)
    assert children_of(found, "relay") == children_of(found, "dask") == set()
    assert found.condition("RelayReady")["reason"] == "Suspended"
    assert agents(found).asked == {}
    found.change(suspend=False)
    await come_up(found)
    assert found.condition("RelayReady")["status"] == "True"
    [after] = [s for s in of_kind(found, "Secret") if s["metadata"]["name"] == "zmumu-relay"]
    assert before["data"] != after["data"]


async def test_it_goes_with_the_end_of_the_run() -> None:
    found = await up()
    [job] = of_kind(found, "Job")
    ended = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-21T12:01:00Z"}
    found.cluster._put("MODIFIED", {**job, "status": {"conditions": [ended], "succeeded": 1}})
    found.deliver()
    await come_up(found)
    assert found.status["phase"] == "Succeeded"
    assert children_of(found, "relay") == set()
    assert (found.condition("RelayReady")["status"], found.condition("RelayReady")["reason"]) == ("False", "Finished")


async def test_users_pods_have_its_address_and_token_and_workers_have_not() -> None:
    found = await up({**INTERACTIVE, "notebook": {}})
    [notebook] = of_kind(found, "StatefulSet")
    given = {e["name"]: e for e in notebook["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given["RELAY_URL"]["value"] == "http://zmumu-relay.physics.svc:7000"
    assert given["RELAY_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "zmumu-relay", "key": "token"}
    assert given["DASK_SCHEDULER_ADDRESS"]["value"], "beside what the other has to say"
    of_workers = [*pods(found, "dask"), *pods(found, "relay")]
    assert len(of_workers) == 3
    for pod in of_workers:
        assert "RELAY_TOKEN" not in json.dumps(pod)
    for pod in pods(found, "dask"):
        assert "RELAY_URL" not in json.dumps(pod)
    run = await up()
    [job] = of_kind(run, "Job")
    assert "RELAY_TOKEN" in json.dumps(job["spec"])


async def test_its_secret_is_not_the_notebooks() -> None:
    found = await up({**INTERACTIVE, "notebook": {}})
    data = [value for secret in of_kind(found, "Secret") for value in secret["data"].values()]
    assert len(data) == len(set(data)), "those of Dask and of the cache are others, too"
    assert sum(len(base64.b64decode(value)) == 64 for value in data) == 4


async def test_a_restart_and_time_cost_nothing() -> None:
    found = await up()
    found.cluster.writes.clear()
    found.restart()
    await found.settle()
    found.restart()
    await found.settle(seconds=1000)
    assert found.cluster.writes == []


@pytest.mark.parametrize("seed", range(3))
async def test_order_of_events_does_not_matter(seed: int) -> None:
    found, shuffle = bench(), random.Random(seed)
    for _ in range(12):
        await found.reconcile(found.key)
        found.deliver(shuffle)
        found.now += timedelta(seconds=2)
    await come_up(found)
    assert found.condition("Ready")["status"] == "True"
    assert len(workers(found, "relay")) == 2


async def test_each_child_that_is_deleted_comes_back() -> None:
    found = await up()
    mine = children_of(found, "relay")
    assert len(mine) == 5 + 1 + 2, "its objects, the broker's pod, and a worker of each pool"
    for kind, name in sorted(mine):
        lose(found, found.made[kind, name])
        found.deliver()
        await come_up(found)
        assert found.condition("Ready")["status"] == "True", (kind, name)
        assert Counter(each for each, _ in children_of(found, "relay")) == Counter(each for each, _ in mine), (
            kind,
            name,
        )


async def test_a_worker_that_fails_or_is_evicted_is_replaced() -> None:
    found = await up()
    [gpu] = workers(found, "relay", "gpu")
    [pod] = pods(found, "relay", "gpu")
    say(found, pod, phase="Failed", reason="Evicted", containerStatuses=[{"name": "worker", "state": {}}])
    await come_up(found)
    [after] = workers(found, "relay", "gpu")
    assert after != gpu
    assert found.condition("RelayReady")["status"] == "True"


async def test_a_worker_that_a_node_would_not_start_is_made_anew_after_a_while() -> None:
    found = await up()
    [pod] = pods(found, "relay", "gpu")
    metadata = {**pod["metadata"], "creationTimestamp": f"{found.now:%Y-%m-%dT%H:%M:%SZ}"}
    say(found, {**pod, "metadata": metadata}, phase="Failed", reason="OutOfcpu")
    found.now += timedelta(seconds=10)  # what is told of it is told by now
    await found.reconcile(found.key)
    found.deliver()
    found.now += timedelta(seconds=10)
    due = await found.reconcile(found.key)
    found.deliver()
    assert workers(found, "relay", "gpu") == [pod["metadata"]["name"]]
    assert due is not None
    assert found.now < due <= found.now + timedelta(seconds=10)
    found.now = due
    await come_up(found)
    [after] = workers(found, "relay", "gpu")
    assert after != pod["metadata"]["name"]
