"""Passes over workers that are pods of a session: what is written, what is refused, and killed at any write."""

from __future__ import annotations

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest

from af_operator import names
from af_operator.errors import Refused, Unavailable
from af_operator.memory import REFUSED_RETRY
from af_operator.reconcile import BATCH
from tests.support.bench import PROFILE, Bench
from tests.support.mortal import Killed, Mortal
from tests.support.played_agents import PlayedAgents
from tests.support.played_controllers import come_up, of_kind, play

MANY = PROFILE | {"limits": {"workers": 5000, "gpus": 0}}
QUOTA = 'pods "{name}" is forbidden: exceeded quota: small, requested: pods=1, used: pods={most}, limited: pods={most}'


def of_size(least: int, most: int | None = None) -> dict[str, Any]:
    workers = {"min": least, "max": least if most is None else most}
    pools = [{"name": "cpu", "nodePool": "cpu", "workers": workers}]
    return {"profile": "default", "user": "alice", "mode": "Interactive", "dask": {"pools": pools}}


def workers(bench: Bench) -> list[dict[str, Any]]:
    return [pod for pod in of_kind(bench, "Pod") if pod["metadata"]["labels"].get(names.ROLE) == "worker"]


class Quota:
    """Lets so many workers be made, and counts who asks for one."""

    def __init__(self, bench: Bench, most: int) -> None:
        self.bench, self.most, self.asked = bench, most, 0
        self._create = bench.cluster.create
        bench.cluster.create = self.create  # type: ignore[method-assign]

    async def create(self, body: Any) -> Any:
        if body["kind"] == "Pod":
            self.asked += 1
            await asyncio.sleep(0)  # those beside it are under way
            if len(workers(self.bench)) >= self.most:
                raise Refused(QUOTA.format(name=body["metadata"]["name"], most=self.most))
        return await self._create(body)


async def until_told(bench: Bench) -> None:
    """Let passes go on until the status is written, well within the time in which nothing is asked again."""
    for _ in range(6):
        await bench.reconcile(bench.key)
        bench.deliver()
        play(bench)
        bench.now += timedelta(seconds=4)


async def test_a_quota_is_asked_few_times_and_told_in_its_own_words() -> None:
    bench = Bench(of_size(200), MANY)
    quota = Quota(bench, 5)
    await until_told(bench)
    assert len(workers(bench)) == 5
    assert quota.asked == 7, "one, two, four: and none once one was refused"
    found = bench.condition("DaskReady")
    assert (found["status"], found["reason"]) == ("False", "QuotaExceeded")
    assert "5 of at least 200 workers ready: exceeded quota: small" in found["message"]
    assert "-worker-" not in found["message"], "the name is another one in each try, and would be a write each time"


async def test_after_a_refusal_there_is_no_request_for_a_while_and_then_one() -> None:
    bench = Bench(of_size(200), MANY)
    quota = Quota(bench, 5)
    refused_at = bench.now
    await until_told(bench)
    again = await bench.reconcile(bench.key)
    assert (quota.asked, again) == (7, refused_at + REFUSED_RETRY)
    written = len(bench.cluster.writes)
    bench.now = refused_at + REFUSED_RETRY
    await bench.reconcile(bench.key)
    assert quota.asked == 8
    assert len(bench.cluster.writes) == written, "that it is still so is not told again"
    bench.now += REFUSED_RETRY
    quota.most = 1000
    await bench.reconcile(bench.key)
    assert len(workers(bench)) == 200


async def test_a_pool_above_its_minimum_is_ready_and_says_what_keeps_it_from_more() -> None:
    agents = PlayedAgents()
    bench = Bench(of_size(2, 8), PROFILE, agents=agents)
    Quota(bench, 3)
    await come_up(bench)
    [group] = agents.asked["dask"].asked["pools"]
    agents.answer("dask", pools={group: {"wanted": 8}})
    await until_told(bench)
    found = bench.condition("DaskReady")
    assert found["status"] == "True"
    assert found["message"].startswith("pool cpu: 3 of 8 workers (exceeded quota: small")


async def test_what_was_made_beside_it_does_not_hide_a_worker_that_was_refused() -> None:
    bench = Bench(of_size(7), MANY)
    create, asked = bench.cluster.create, 0

    async def refusing_the_fourth(body: Any) -> Any:
        nonlocal asked
        asked += body["kind"] == "Pod"
        fourth = body["kind"] == "Pod" and asked == 4
        await asyncio.sleep(0)  # those beside it are under way
        if fourth:
            raise Refused("exceeded quota: small")
        return await create(body)

    bench.cluster.create = refusing_the_fourth  # type: ignore[method-assign]
    refused_at = bench.now
    again = await bench.reconcile(bench.key)
    assert len(workers(bench)) == 6, "one, two, and three of four at once"
    assert again == refused_at + REFUSED_RETRY
    found = bench.condition("DaskReady")
    assert found["reason"] == "QuotaExceeded"
    bench.now = refused_at + REFUSED_RETRY
    again = await bench.reconcile(bench.key)
    assert len(workers(bench)) == 7
    assert again != bench.now + REFUSED_RETRY, "once all of it was made nothing is waited for"


async def test_a_pool_that_is_refused_keeps_no_other_waiting() -> None:
    spec = of_size(2)
    spec["dask"]["pools"].append({"name": "other", "nodePool": "cpu", "workers": {"min": 2, "max": 2}})
    bench = Bench(spec)
    create = bench.cluster.create

    async def refusing(body: Any) -> Any:
        if body["metadata"].get("labels", {}).get(names.POOL) == "cpu":
            raise Refused("exceeded quota: small")
        return await create(body)

    bench.cluster.create = refusing  # type: ignore[method-assign]
    await until_told(bench)
    assert [w["metadata"]["labels"][names.POOL] for w in workers(bench)] == ["other", "other"]


async def test_a_bounded_number_of_workers_is_made_at_the_same_time() -> None:
    bench = Bench(of_size(300), MANY)
    create, under_way, most = bench.cluster.create, 0, []

    async def counted(body: Any) -> Any:
        nonlocal under_way
        under_way += body["kind"] == "Pod"
        most.append(under_way)
        try:
            return await create(body)
        finally:
            under_way -= body["kind"] == "Pod"

    bench.cluster.create = counted  # type: ignore[method-assign]
    await bench.reconcile(bench.key)
    assert len(workers(bench)) == 300
    assert max(most) <= BATCH


async def test_a_pass_over_a_thousand_workers_that_are_as_they_should_be_writes_nothing() -> None:
    bench = Bench(of_size(1000), MANY)
    await come_up(bench)
    assert bench.condition("Ready")["status"] == "True"
    assert len(workers(bench)) == 1000
    bench.cluster.writes.clear()
    bench.restart()
    for _ in range(3):
        bench.now += timedelta(minutes=10)
        await bench.reconcile(bench.key)
    assert bench.cluster.writes == []


async def test_an_answer_that_is_lost_makes_no_second_worker() -> None:
    bench = Bench(of_size(4))
    create = bench.cluster.create
    lost: list[str] = []

    async def losing(body: Any) -> Any:
        answer = await create(body)
        if body["kind"] == "Pod" and len(lost) < 3:
            lost.append(body["metadata"]["name"])
            raise Unavailable("the connection was lost")
        return answer

    bench.cluster.create = losing  # type: ignore[method-assign]
    for _ in range(3):  # the watch tells of nothing meanwhile
        with pytest.raises(Unavailable):
            await bench.reconcile(bench.key)
    await come_up(bench)
    assert len(workers(bench)) == 4
    assert len({name for verb, (kind, _, name) in bench.cluster.writes if (verb, kind) == ("create", "Pod")}) == 4
    assert [key for verb, key in bench.cluster.writes if verb == "delete"] == []


def retire(bench: Bench, agents: PlayedAgents) -> None:
    """Have the agent let those go that are too many, the oldest first."""
    if "dask" not in agents.asked:
        return
    pools = {}
    for group, asked in agents.asked["dask"].asked["pools"].items():
        there = [w["metadata"]["name"] for w in workers(bench) if w["metadata"]["name"].startswith(f"{group}-")]
        keep = asked.get("keep", len(there))
        pools[group] = {"workers": there, "retired": there[: len(there) - keep]}
    agents.answer("dask", pools=pools)


async def go_on(bench: Bench, agents: PlayedAgents) -> None:
    """Let operator, agent and controllers have their turns until none has anything to do."""
    for _ in range(10):
        before = len(bench.cluster.writes)
        await come_up(bench)
        retire(bench, agents)
        await come_up(bench)
        if len(bench.cluster.writes) == before:
            return
    raise AssertionError(f"still writing: {bench.cluster.writes[-5:]}")


@pytest.mark.parametrize("heard", [False, True], ids=["not sent", "answer lost"])
@pytest.mark.parametrize(("before", "after"), [(1, 6), (6, 1)], ids=["growing", "shrinking"])
async def test_killed_at_any_write_it_ends_in_the_same_state_and_nothing_is_made_twice(
    before: int, after: int, heard: bool
) -> None:
    for last in range(50):
        agents = PlayedAgents()
        bench = Bench(of_size(before), agents=agents)
        await go_on(bench, agents)
        kept = {w["metadata"]["uid"] for w in workers(bench)}
        bench.cluster.writes.clear()
        bench.change(dask=of_size(after)["dask"])
        mortal = Mortal(bench.cluster, last, heard=heard)
        bench.reconcile._cluster = mortal
        try:
            await go_on(bench, agents)
        except Killed:
            bench.restart()
            await go_on(bench, agents)
        there = {w["metadata"]["uid"] for w in workers(bench)}
        verbs = [verb for verb, (kind, _, _) in bench.cluster.writes if kind == "Pod"]
        assert len(there) == after, last
        assert there >= kept or there <= kept, "those that may stay do"
        assert verbs == ["create" if after > before else "delete"] * abs(after - before), last
        assert bench.condition("DaskReady")["message"] == f"pool cpu: {after} of {after} workers"
        if mortal.alive:
            assert last > abs(after - before)
            return
    raise AssertionError("it never came to its end unharmed")


async def test_what_runs_is_not_touched_by_an_edit_of_the_catalogue() -> None:
    bench = Bench(of_size(3))
    await come_up(bench)
    before = copy.deepcopy(bench.made)
    catalogue = copy.deepcopy(bench.cluster.objects["AnalysisProfile", "", "default"])
    catalogue["spec"]["images"][0]["image"] = "registry.test/analysis:2"
    catalogue["spec"]["dask"] = {"engine": "DaskKubernetes"}
    bench.cluster._put("MODIFIED", catalogue)
    bench.deliver()
    await come_up(bench)
    assert bench.made == before
