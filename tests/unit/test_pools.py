"""Pools apart from any component: how many workers there should be, who goes, and what the agent is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from af_operator.api.pools import Pool
from af_operator.components._shared import pools
from af_operator.components._shared.budget import Demand
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.errors import InvalidSession
from af_operator.model import Body
from af_operator.views import AgentView, PoolAnswer, PoolsAnswer
from tests.support.objects import UNSCHEDULABLE, live, pod, profile

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pool(least: int = 2, most: int = 2, **more: Any) -> Pool:
    workers = {"min": least, "max": most}
    return Pool.model_validate({"name": "p", "nodePool": "cpu", "workers": workers} | more)


def bodies(*numbers: int, group: str = "g") -> tuple[Body, ...]:
    return tuple(live("v1", "Pod", f"{group}{number}") for number in numbers)


def group(number: int, **more: Any) -> WorkerGroup:
    workers = bodies(*range(number))
    given: dict[str, Any] = {"expected": number, "node_pool": "cpu"}
    return WorkerGroup("g", "p", workers, **given | more)


def said(**answer: Any) -> AgentView:
    return AgentView(PoolsAnswer(pools={"g": PoolAnswer(**answer)}))


def test_the_shape_of_a_pool_that_says_nothing_more_is_what_it_always_was() -> None:
    """It is in the names of groups: with another one an upgrade would replace every worker that runs."""
    assert pools.shape(pool()) == "3d12bf4da5993ae8"
    said: list[dict[str, Any]] = [{}, {"threadsPerWorker": 1}, {"memoryPercent": 90}, {"threadsPerWorker": 2}]
    assert len({pools.shape(pool(**more)) for more in said}) == len(said)


def names_of(found: Resized) -> list[str]:
    return [body["metadata"]["name"] for body in found.to_delete]


@pytest.mark.parametrize(
    ("least", "most", "there", "wanted", "size"),
    [
        (3, 3, None, None, 3),
        (3, 3, 9, 0, 3),  # a fixed size is no matter of demand
        (1, 8, None, None, 1),
        (1, 8, 5, None, 5),  # nobody knows yet: as it is
        (1, 8, 9, None, 8),
        (1, 8, 0, None, 1),
        (1, 8, 5, 0, 1),
        (1, 8, 5, 6, 6),
        (1, 8, 5, 60, 8),
        (0, 8, 5, 0, 0),
    ],
)
def test_size(least: int, most: int, there: int | None, wanted: int | None, size: int) -> None:
    there_is = None if there is None else group(there)
    assert pools.size(pool(least, most), there_is, None if wanted is None else PoolAnswer(wanted=wanted)) == size


@pytest.mark.parametrize(
    ("view", "leaving"),
    [
        (None, []),
        (said(), []),
        (said(retiring=frozenset({"g0"})), []),
        (said(retired=frozenset({"g1"})), ["g1"]),
        (said(retired=frozenset({"g0", "g1", "g2", "g3"})), ["g0", "g1"]),
        (said(retired=frozenset({"other"})), []),
        (AgentView(PoolsAnswer(pools={"h": PoolAnswer(retired=frozenset({"g1"}))})), []),
        (AgentView(trouble="away"), []),
        (AgentView(trouble="away", given_up=True), ["g3", "g2"]),
    ],
)
def test_who_leaves_a_pool_with_two_too_many(view: AgentView | None, leaving: list[str]) -> None:
    [found] = pools.resized({"g": pool()}, {"g": group(4)}, {"p": 2}, view)
    assert (found.surplus, names_of(found)) == (2, leaving)


def test_nobody_leaves_a_pool_of_its_size() -> None:
    everybody = said(retired=frozenset({"g0", "g1"}))
    [found] = pools.resized({"g": pool()}, {"g": group(2)}, {"p": 2}, everybody)
    assert (found.surplus, found.to_delete) == (0, ())


def test_those_that_never_ran_leave_before_those_that_are_retired() -> None:
    there = {"g": group(4, never_ran=frozenset({"g2"}))}
    view = said(retired=frozenset({"g0", "g2"}))
    [two] = pools.resized({"g": pool()}, there, {"p": 2}, view)
    assert names_of(two) == ["g2", "g0"]
    [one] = pools.resized({"g": pool()}, there, {"p": 3}, view)
    assert names_of(one) == ["g2"]


READY, NOWHERE = {"ready": True}, {"conditions": [UNSCHEDULABLE]}


@pytest.mark.parametrize(
    ("of_heir", "share", "stay"),
    [
        ([], 3, 3),  # new before old
        ([READY], 3, 2),
        ([READY] * 3, 3, 0),
        ([], 1, 1),  # the budget lets one come: the others have to go before
        ([], 0, 0),
        ([NOWHERE] * 2, 3, 1),  # no node takes them: room is made
        ([READY, NOWHERE], 3, 1),
    ],
)
def test_how_many_of_another_shape_may_stay(of_heir: list[dict[str, Any]], share: int, stay: int) -> None:
    up = tuple(pod(f"h{index}", {}, **state) for index, state in enumerate(of_heir))
    there = {"g": group(3), "h": WorkerGroup("h", "p", up, up, expected=len(up))}
    heir, old = pools.resized({"h": pool(3, 3, size="medium")}, there, {"p": share}, None)
    assert (heir.target, old.pool, old.target) == (share, None, stay)


def test_a_pool_that_is_not_asked_for_any_more_has_no_heir() -> None:
    [old] = pools.resized({}, {"g": group(3)}, {}, None)
    assert (old.pool, old.target, old.surplus) == (None, 0, 3)


def test_what_groups_ask_of_the_budget() -> None:
    gpus = pool(1, 4, nodePool="gpu", gpusPerWorker=2)
    there = {"g": group(3, expected=4), "old": WorkerGroup("old", "p", expected=2, gpus=1, node_pool="cpu")}
    found = list(pools.demands({"g": gpus}, there, said(wanted=9)))
    assert found == [Demand("p", "gpu", 4, 4, gpus=2), Demand("p", "cpu", 0, 2, gpus=1, outgoing=True)]


def test_what_is_asked_of_the_agent() -> None:
    catalogue = profile(scaling={"drainSeconds": 8, "quietSeconds": 9})
    fixed = Resized(group(4), pool(), 2, ())
    elastic = Resized(WorkerGroup("e", "e"), pool(0, 3, name="e", nodePool="gpu", gpusPerWorker=2), 0, ())
    old = Resized(WorkerGroup("o", "p", bodies(1)), None, 0, ())
    asked = pools.asked([fixed, elastic, old], catalogue, "SLOT")
    common = {"drain": 8, "quiet": 9, "threads": 1}
    assert asked == {
        "g": {**common, "keep": 2, "resources": {}},
        "e": {**common, "pool": "e", "most": 3, "resources": {"SLOT": 2}},
        "o": {"keep": 0, "drain": 8, "leaving": True},
    }


@pytest.mark.parametrize(
    ("of", "view", "calm"),
    [
        (Resized(group(2), pool(), 2, ()), None, True),
        (Resized(group(1), pool(), 2, ()), None, True),  # the agent has no part in it
        (Resized(group(3), pool(), 2, ()), None, False),
        (Resized(group(2), pool(1, 3), 2, ()), None, False),
        (Resized(group(2), pool(), 2, ()), AgentView(trouble="away", silent_since=NOON), False),
    ],
)
def test_when_the_agent_has_nothing_to_do(of: Resized, view: AgentView | None, calm: bool) -> None:
    assert pools.is_calm([of], view) is calm


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pool(), None),
        (pool(nodePool="tape"), "UnknownNodePool"),
        (pool(size="huge"), "UnknownSize"),
        (pool(gpusPerWorker=1), "NoGPUs"),
        (pool(nodePool="gpu"), "NodePoolForGPUs"),
        (pool(nodePool="gpu", gpusPerWorker=1), None),
    ],
)
def test_what_fits_the_catalogue(given: Pool, reason: str | None) -> None:
    if reason is None:
        pools.check("spark pool 'p'", given, profile())
        return
    with pytest.raises(InvalidSession) as caught:
        pools.check("spark pool 'p'", given, profile())
    assert caught.value.reason == reason


def test_a_shape_is_what_cannot_be_edited_in_a_worker_that_runs() -> None:
    alike = [pool(), pool(0, 9), pool(name="other")]
    others = [pool(size="medium"), pool(nodePool="gpu"), pool(gpusPerWorker=1)]
    assert len({pools.shape(each) for each in alike}) == 1
    assert len({pools.shape(each) for each in [*alike, *others]}) == 4
