"""When a session was last used, pass by pass: what it costs, and what is left of it when those who know are away."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from af_operator.reconcile import QUIET
from af_operator.views import AgentView, HubServer, HubView, activity_at
from tests.support.bench import NOW, SPEC, Bench
from tests.support.played_agents import PlayedAgents
from tests.support.played_controllers import come_up

MINUTE = timedelta(minutes=1)
SHOWN = HubServer("alice", "zmumu")
NOTEBOOK: dict[str, Any] = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {}}
DASK = {"profile": "default", "user": "alice", "mode": "Interactive", "dask": SPEC["dask"]}


class PlayedHub:
    """A Hub in which the session is shown, and used when the test says so."""

    def __init__(self) -> None:
        self.now = HubView("http://hub/hub/api", servers=frozenset({SHOWN}))

    def use(self, time: datetime) -> None:
        self.now = replace(self.now, activity={SHOWN: activity_at(time)})

    def leave(self) -> None:
        self.now = replace(self.now, servers=None, trouble="it does not answer")

    def view(self) -> HubView:
        return self.now

    def start(self, server: HubServer) -> None:
        raise AssertionError("it is there")

    def look(self) -> None: ...


@pytest.fixture
async def notebook() -> Bench:
    found = Bench(NOTEBOOK, hub=PlayedHub())
    await found.settle()
    return found


@pytest.fixture
async def dask() -> Bench:
    found = Bench(DASK, agents=PlayedAgents())
    await come_up(found)
    return found


def hub(of: Bench) -> PlayedHub:
    assert isinstance(of.hub, PlayedHub)
    return of.hub


def agents(of: Bench) -> PlayedAgents:
    assert isinstance(of.agents, PlayedAgents)
    return of.agents


async def later(of: Bench, time: timedelta) -> int:
    """Let time go by with a pass each minute; return how many writes that cost."""
    before, end = len(of.cluster.writes), of.now + time
    while of.now < end:
        await of.reconcile(of.key)
        of.deliver()
        of.now += MINUTE
    return len(of.cluster.writes) - before


def said(of: Bench) -> str | None:
    found: str | None = of.status.get("lastActivity")
    return found


async def test_a_session_that_nobody_uses_costs_nothing(notebook: Bench, dask: Bench) -> None:
    hub(notebook).use(notebook.now)
    agents(dask).answer("dask", active=dask.now.timestamp() // 300 * 300)
    for bench in (notebook, dask):
        await bench.settle()
        assert said(bench) == "2026-11-21T12:00:00Z"
        assert await later(bench, timedelta(hours=3)) == 0
        bench.restart()
        assert await later(bench, timedelta(minutes=10)) == 0, "nor where the operator was started anew"


async def test_one_that_is_used_all_the_time_costs_a_write_in_five_minutes(notebook: Bench) -> None:
    writes = 0
    for _ in range(60):
        hub(notebook).use(notebook.now)
        writes += await later(notebook, MINUTE)
    assert 11 <= writes <= 13
    assert said(notebook) == "2026-11-21T12:55:00Z"


async def test_an_agent_that_tells_each_second_costs_no_more(dask: Bench) -> None:
    writes, dask.now = 0, NOW + 5 * MINUTE
    for _ in range(300):
        agents(dask).answer("dask", active=dask.now.timestamp())
        before = len(dask.cluster.writes)
        await dask.reconcile(dask.key)
        dask.deliver()
        writes += len(dask.cluster.writes) - before
        dask.now += timedelta(seconds=6)
    assert 6 <= writes <= 7, "half an hour"
    assert said(dask) == "2026-11-21T12:30:00Z"


async def test_it_waits_for_company(notebook: Bench) -> None:
    before = len(notebook.cluster.writes)
    hub(notebook).use(notebook.now)
    due = await notebook.reconcile(notebook.key)
    assert len(notebook.cluster.writes) == before, "nobody waits to hear of it"
    assert due == notebook.now + QUIET
    notebook.change(suspend=True)
    await notebook.reconcile(notebook.key)
    notebook.deliver()
    statuses = [verb for verb, _ in notebook.cluster.writes[before:] if verb == "status"]
    assert (statuses, said(notebook)) == (["status"], "2026-11-21T12:00:00Z"), "one write tells of both"


async def test_a_hub_that_goes_away_and_forgets_takes_nothing_back(notebook: Bench) -> None:
    notebook.now += 20 * MINUTE
    hub(notebook).use(notebook.now)
    await notebook.settle()
    assert said(notebook) == "2026-11-21T12:20:00Z"
    hub(notebook).leave()
    await notebook.settle()
    assert notebook.condition("HubRegistered")["reason"] == "HubUnavailable"
    assert said(notebook) == "2026-11-21T12:20:00Z"
    assert await later(notebook, timedelta(hours=1)) == 0
    notebook.restart()  # and this one's Hub never answered
    hub(notebook).now = HubView("http://hub/hub/api", trouble="it does not answer")
    assert await later(notebook, timedelta(hours=1)) == 0
    assert said(notebook) == "2026-11-21T12:20:00Z"
    hub(notebook).now = HubView("http://hub/hub/api", servers=frozenset({SHOWN}))  # back, with an empty database
    await notebook.settle()
    assert said(notebook) == "2026-11-21T12:20:00Z"


async def test_what_its_agent_says_moves_it_and_its_silence_does_not(dask: Bench) -> None:
    dask.now = NOW + timedelta(hours=1)
    agents(dask).answer("dask", active=(NOW + 40 * MINUTE).timestamp())
    await dask.settle()
    assert said(dask) == "2026-11-21T12:40:00Z"
    agents(dask).answer("dask", active=(NOW + 45 * MINUTE).timestamp())
    await dask.settle()
    assert said(dask) == "2026-11-21T12:45:00Z"
    agents(dask).say("dask", AgentView(trouble="it cannot be reached", silent_since=dask.now, deadline=dask.now))
    await dask.settle()
    assert said(dask) == "2026-11-21T12:45:00Z"


@pytest.mark.parametrize("active", [0, 4e9, (NOW + timedelta(days=2)).timestamp(), NOW.timestamp() - 86_400, None])
async def test_times_of_an_agent_that_cannot_be_are_not_told(dask: Bench, active: float | None) -> None:
    before = len(dask.cluster.writes)
    agents(dask).answer("dask", active=active)
    await dask.settle()
    assert (said(dask), len(dask.cluster.writes)) == (None, before)


@pytest.mark.parametrize("active", ["now", -1, 1e300, float("inf"), float("nan"), [], {"a": 1}, "\x00"])
async def test_what_is_no_time_is_no_answer(dask: Bench, active: Any) -> None:
    with pytest.raises(ValidationError):  # which the port takes for silence
        agents(dask).answer("dask", active=active)


async def test_what_a_hub_says_that_cannot_be_is_not_told(notebook: Bench) -> None:
    before = len(notebook.cluster.writes)
    for time in (NOW + timedelta(days=400), NOW - timedelta(days=400)):
        hub(notebook).use(time)
        await notebook.settle()
    assert (said(notebook), len(notebook.cluster.writes)) == (None, before)


async def test_what_was_used_before_it_was_suspended_is_known_after_it_is_resumed(dask: Bench) -> None:
    agents(dask).answer("dask", active=dask.now.timestamp())
    await dask.settle()
    for suspend in (True, False):
        dask.change(suspend=suspend)
        await dask.settle()
        assert said(dask) == "2026-11-21T12:00:00Z"
