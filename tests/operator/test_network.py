"""The policy of a session's network, pass by pass, against a fake cluster."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from af_operator import plan
from af_operator.errors import Refused
from af_operator.model import Key
from af_operator.views import ClusterNetwork
from tests.support.bench import PROFILE, SPEC, Bench
from tests.support.networks import NETWORK

POLICY = ("NetworkPolicy", "zmumu")
SESSIONS = 200
Body = dict[str, Any]


class Closed(Bench):
    """A session on a facility that says what its network is."""

    def _begin(self) -> None:
        super()._begin()
        self.world.network = ClusterNetwork.model_validate(NETWORK)

    @property
    def policy(self) -> Body:
        return self.made[POLICY]

    def put(self, body: Body) -> None:
        self.cluster._put("MODIFIED", body)
        self.deliver()

    def edit_profile(self, **network: Any) -> None:
        body = copy.deepcopy(self.cluster.objects["AnalysisProfile", "", "default"])
        self.put({**body, "spec": body["spec"] | {"network": network}})

    def written(self) -> list[tuple[str, str]]:
        """Return what was written since the last time, as (verb, kind or name)."""
        found, self.cluster.writes[:] = list(self.cluster.writes), []
        return [(verb, str(what)) for verb, what in found]


async def test_it_is_there_before_all_that_runs_pods() -> None:
    """Its create takes its time; what else is made meanwhile runs nothing."""
    bench = Closed(spec=SPEC | {"dask": None, "xcache": None, "run": {"command": ["true"]}})
    create, order = bench.cluster.create, list[str]()

    async def slow(body: Body) -> Body:
        order.append(f"{body['kind']} begins")
        await asyncio.sleep(0.02 if body["kind"] == "NetworkPolicy" else 0)
        made = await create(body)
        order.append(f"{body['kind']} is there")
        return made

    bench.cluster.create = slow  # type: ignore[method-assign]
    await bench.settle()
    assert order == ["NetworkPolicy begins", "NetworkPolicy is there", "Job begins", "Job is there"]
    uid = bench.session["metadata"]["uid"]
    assert bench.policy["spec"]["podSelector"] == {"matchLabels": {"analysisfacility.io/session-uid": uid}}


async def test_while_it_is_refused_nothing_runs_and_the_status_says_so() -> None:
    bench = Closed()
    create = bench.cluster.create

    async def refusing(body: Body) -> Body:
        if body["kind"] == "NetworkPolicy":
            raise Refused("exceeded quota: count/networkpolicies.networking.k8s.io=1")
        return await create(body)

    bench.cluster.create = refusing  # type: ignore[method-assign]
    await bench.reconcile(bench.key)
    bench.deliver()
    assert not {"Job", "Pod", "Deployment", "StatefulSet", "DaskCluster"} & {kind for kind, _ in bench.made}
    assert bench.condition("NetworkReady")["status"] == "False"
    assert "exceeded quota" in bench.condition("NetworkReady")["message"]
    assert bench.condition("Ready")["message"].startswith("Network: NetworkPolicy zmumu: exceeded quota")


async def test_it_has_nothing_to_tell_while_all_is_well() -> None:
    bench = Closed()
    await bench.settle()
    assert "network" not in bench.status["components"]
    assert not [c for c in bench.status["conditions"] if c["type"].startswith("Network")]


async def test_an_edit_of_the_profile_is_one_write_and_one_that_changes_nothing_is_none() -> None:
    bench = Closed()
    await bench.settle()
    bench.written()
    bench.edit_profile(egress="Closed", allow=[{"cidr": "192.0.2.0/24", "ports": [443]}])
    await bench.settle()
    assert [verb for verb, _ in bench.written()] == ["apply"]
    assert bench.policy["spec"]["egress"][-1]["to"] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    bench.edit_profile(egress="Closed", allow=[{"cidr": "192.0.2.0/24", "ports": [443]}])
    await bench.settle()
    bench.restart()
    await bench.settle()
    assert bench.written() == []


async def test_an_edit_of_a_profile_with_many_sessions_is_one_write_for_each() -> None:
    bench = Closed(spec={"profile": "default", "user": "alice", "mode": "Headless", "run": {"command": ["true"]}})
    for number in range(SESSIONS):
        body = copy.deepcopy(bench.session)
        stamps = ("uid", "resourceVersion")
        kept = {key: value for key, value in body["metadata"].items() if key not in stamps}
        body["metadata"] = {**kept, "name": f"s{number}"}
        bench.cluster.store(body)
    bench.deliver()
    keys = bench.world.sessions_of_profile("default")
    await passes(bench, keys)
    bench.written()
    bench.edit_profile(egress="Closed")
    await passes(bench, keys)
    assert [verb for verb, _ in bench.written()] == ["apply"] * (SESSIONS + 1)


async def passes(bench: Bench, keys: list[Key]) -> None:
    for _ in range(3):
        for key in keys:
            await bench.reconcile(key)
        bench.deliver()


HARM: dict[str, Body] = {
    "a way in": {"ingress": [{}]},
    "a port more": {"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 1, "protocol": "TCP"}]}]},
    "nothing to hold": {"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}},
    "one direction": {"policyTypes": ["Ingress"]},
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
async def test_what_somebody_changed_is_set_right(harm: Body) -> None:
    bench = Closed()
    await bench.settle()
    right = copy.deepcopy(bench.policy["spec"])
    bench.put({**bench.policy, "spec": right | harm})
    await bench.settle()
    assert bench.policy["spec"] == right


async def test_what_somebody_added_to_what_is_right_goes() -> None:
    """Nothing that we say is missing: a range of ports instead of one, fewer pods that are held, all namespaces."""
    bench = Closed()
    await bench.settle()
    right = bench.policy["spec"]
    for step in ("podSelector", "ingress"):
        added = copy.deepcopy(right)
        if step == "podSelector":
            added[step]["matchExpressions"] = [{"key": "x", "operator": "Exists"}]
        else:
            added[step][1]["ports"][0]["endPort"] = 65_535
        bench.put({**bench.policy, "spec": added})
        await bench.settle()
        assert bench.policy["spec"] == right


async def test_one_that_is_deleted_comes_back_and_it_stays_over_a_suspension_and_the_end() -> None:
    bench = Closed()
    await bench.settle()
    await bench.cluster.delete(bench.policy)
    bench.deliver()
    await bench.settle()
    assert POLICY in bench.made
    before = bench.policy
    bench.change(suspend=True)
    await bench.settle()
    assert bench.policy == before
    bench.change(suspend=False, lifetimeSeconds=1)
    await bench.settle()
    assert bench.status["phase"] == "Failed"
    assert bench.policy == before


async def test_a_session_of_an_earlier_version_gets_one_and_nothing_else_changes() -> None:
    bench = Bench()
    await bench.settle()
    before = copy.deepcopy(bench.made)
    bench.cluster.writes.clear()
    bench.world.network = ClusterNetwork.model_validate(NETWORK)
    await bench.settle()
    assert [verb for verb, _ in bench.cluster.writes] == ["create"]
    assert {key: body for key, body in bench.made.items() if key != POLICY} == before


async def test_it_goes_where_the_facility_turns_policies_off() -> None:
    bench = Closed()
    await bench.settle()
    bench.world.network = None
    await bench.settle()
    assert POLICY not in bench.made


async def test_where_the_catalogue_is_gone_what_stops_is_not_opened() -> None:
    bench = Closed(profile=PROFILE | {"network": {"egress": "Closed"}})
    await bench.settle()
    assert plan.NOTHING.network.egress == "Closed"
    body = bench.cluster.objects["AnalysisProfile", "", "default"]
    bench.cluster.objects.pop(("AnalysisProfile", "", "default"))
    bench._tell("DELETED", body)
    bench.change(suspend=True)
    await bench.settle()
    rules = bench.policy["spec"]["egress"]
    assert not [to for rule in rules for to in rule["to"] if "ipBlock" in to]
