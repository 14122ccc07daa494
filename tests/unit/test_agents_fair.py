"""Agents that hang, and faults of our own: nobody else's turn is taken, and no talk ends."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from af_operator import agents
from af_operator.agents import EVERY, OF_NAMESPACE, SELDOM, SOON, AskedByHttp, pause
from af_operator.model import Key, SessionRef
from af_operator.views import AgentView, PoolAnswer, PoolsAnswer, Question

EMPTY: dict[str, Any] = {"wanted": 0, "workers": [], "retiring": [], "retired": [], "stuck": []}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Site:
    """A server that answers under each name, and one that takes every question and answers none."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.held = self.most_held = 0
        self.healthy = self.hanging = ""
        self.ports: list[AskedByHttp] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.match_info["name"]] += 1
        return web.json_response({"pools": {"group": EMPTY}})

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        try:
            first = await reader.readline()
            self.asked[first.split()[1].decode().strip("/")] += 1
            await reader.read()  # until the client gives up
        finally:
            self.held -= 1
            writer.close()

    def port(self, changed: Callable[[SessionRef], None] = lambda _: None) -> AskedByHttp:
        self.ports.append(AskedByHttp(changed, lambda: datetime.now(UTC)))
        return self.ports[-1]

    async def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not true():
            assert time.monotonic() < end, self.asked
            await asyncio.sleep(0.01)

    def hanging_ones(self) -> list[str]:
        return [name for name in self.asked if name.startswith("hanging")]


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(agents, "EVERY", 0.02)
    monkeypatch.setattr(agents, "SELDOM", 0.3)
    monkeypatch.setattr(agents, "STARTING", timedelta(0))
    monkeypatch.setattr(agents, "TIMEOUT", aiohttp.ClientTimeout(total=0.3))
    found = Site()
    app = web.Application()
    app.router.add_post("/{name}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    holding = await asyncio.start_server(found.hold, "127.0.0.1", 0, backlog=300)
    found.healthy = f"http://127.0.0.1:{runner.addresses[0][1]}"
    found.hanging = f"http://127.0.0.1:{holding.sockets[0].getsockname()[1]}"
    yield found
    for port in found.ports:
        await port.close()
    holding.close()
    await found.until(lambda: found.held == 0)
    await runner.cleanup()


def ref(namespace: str, name: str) -> SessionRef:
    return SessionRef(namespace, name, f"uid-of-{name}")


def question(base: str, name: str) -> dict[str, Question]:
    return {"dask": Question(f"{base}/{name}", {"pools": {"group": {"keep": 1}}}, PoolsAnswer, patience=600)}


async def test_schedulers_that_hang_take_no_turn_of_another_namespace(site: Site) -> None:
    beside, alone = site.port(), site.port()
    for index in range(200):
        beside.ask(ref("theirs", f"hanging-{index}"), question(site.hanging, f"hanging-{index}"))
    await site.until(lambda: site.held >= OF_NAMESPACE)
    beside.ask(ref("ours", "beside"), question(site.healthy, "beside"))
    alone.ask(ref("ours", "alone"), question(site.healthy, "alone"))
    await site.until(lambda: site.asked["alone"] >= 50)
    assert site.asked["beside"] >= 25, "it is asked as one that has the port for itself"
    assert site.most_held <= 2 * OF_NAMESPACE
    assert len(site.hanging_ones()) > 2 * OF_NAMESPACE, "they have their turns too"


async def test_those_that_are_known_to_be_silent_take_no_turn_of_their_own_namespace(site: Site) -> None:
    beside, alone = site.port(), site.port()
    for index in range(40):
        beside.ask(ref("ours", f"hanging-{index}"), question(site.hanging, f"hanging-{index}"))
    await site.until(lambda: len(site.hanging_ones()) == 40)
    beside.ask(ref("ours", "beside"), question(site.healthy, "beside"))
    await site.until(lambda: site.asked["beside"] > 0)
    alone.ask(ref("ours", "alone"), question(site.healthy, "alone"))
    before, again = site.asked["beside"], sum(site.asked[name] for name in site.hanging_ones())
    await site.until(lambda: site.asked["alone"] >= 50)
    assert site.asked["beside"] - before >= 25
    assert sum(site.asked[name] for name in site.hanging_ones()) > again, "they are asked all the while"


async def test_of_namespaces_that_are_gone_nothing_is_kept(site: Site) -> None:
    port = site.port()
    for index in range(20):
        port.ask(ref(f"n{index}", "healthy"), question(site.healthy, f"s{index}"))
        port.ask(ref(f"n{index}", "hanging"), question(site.hanging, f"hanging-{index}"))
    await site.until(lambda: len(site.asked) == 40 and len(port._of_namespace) > 0)
    for index in range(20):
        port.forget(Key(f"n{index}", "healthy"))
        port.ask(ref(f"n{index}", "hanging"), {})

    def nothing() -> bool:
        gc.collect()
        return not port._talks and not port._of_namespace

    await site.until(nothing)


def errors(kind: str) -> float:
    labels = {"component": "dask", "error": kind}
    return REGISTRY.get_sample_value("af_operator_agent_errors_total", labels) or 0.0


async def test_a_fault_of_whoever_waits_for_changes_ends_no_talk_and_loses_no_change(site: Site) -> None:
    told: list[SessionRef] = []

    def changed(session: SessionRef) -> None:
        told.append(session)
        if len(told) < 3:
            raise LookupError("unforeseen")

    before = errors("LookupError")
    with capture_logs() as logs:
        site.port(changed).ask(ref("ours", "it"), question(site.healthy, "it"))
        await site.until(lambda: site.asked["it"] > 5)
    assert told == [ref("ours", "it")] * 3, "told again until it is heard, though nothing has changed since"
    assert errors("LookupError") - before == 2
    faults = [(entry["log_level"], entry["namespace"], entry["session"]) for entry in logs if "fault" in entry["event"]]
    assert faults == [("error", "ours", "it")] * 2


async def test_a_fault_in_reading_an_answer_ends_no_talk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(_: Any) -> None:
        raise RecursionError("unforeseen")

    before = errors("RecursionError")
    port = site.port()
    with monkeypatch.context() as broken, capture_logs():
        broken.setattr(PoolsAnswer, "model_validate_json", deep)
        port.ask(ref("ours", "it"), question(site.healthy, "it"))
        await site.until(lambda: errors("RecursionError") - before >= 3)
    asked = site.asked["it"]
    await site.until(lambda: site.asked["it"] > asked + 3)
    talk = port._talks[Key("ours", "it")]["dask"]
    assert (talk.failures, talk.view) == (0, AgentView(SAID))


async def test_another_question_does_not_wait_until_a_silent_scheduler_is_asked_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "pause", lambda *_: 600.0)
    port = site.port()
    port.ask(ref("ours", "it"), question(site.healthy, "first"))
    await site.until(lambda: site.asked["first"] == 1)
    port.ask(ref("ours", "it"), question(site.healthy, "first"))
    port.ask(ref("ours", "it"), question(site.healthy, "second"))
    await site.until(lambda: site.asked["second"] == 1)
    assert site.asked["first"] == 1


SAID = PoolsAnswer(pools={"group": PoolAnswer()})
RETIRING = PoolsAnswer(pools={"group": PoolAnswer(retiring=frozenset({"w"}))})


@pytest.mark.parametrize(
    ("view", "failures", "seconds"),
    [
        pytest.param(AgentView(SAID), 0, EVERY, id="it answers"),
        pytest.param(AgentView(RETIRING), 0, SOON, id="workers are on their way out"),
        pytest.param(AgentView(RETIRING), 1, EVERY, id="and telling of it failed"),
        pytest.param(AgentView(silent_since=NOW), 0, EVERY, id="it may be starting"),
        pytest.param(AgentView(SAID, "away", NOW), 1, EVERY, id="silent once"),
        pytest.param(AgentView(RETIRING, "away", NOW), 1, EVERY, id="silent, workers on their way out"),
        pytest.param(AgentView(SAID, "away", NOW), 2, 2 * EVERY, id="twice"),
        pytest.param(AgentView(SAID, "away", NOW), 3, 4 * EVERY, id="three times"),
        pytest.param(AgentView(SAID, "away", NOW), 4, SELDOM, id="four times"),
        pytest.param(AgentView(SAID, "away", NOW), 10**6, SELDOM, id="for days"),
        pytest.param(AgentView(SAID), 10**6, SELDOM, id="a fault of ours"),
        pytest.param(AgentView(SAID, "away", NOW, NOW + timedelta(seconds=60)), 9, SELDOM, id="long before"),
        pytest.param(AgentView(SAID, "away", NOW, NOW + timedelta(seconds=7)), 9, 7.0, id="until the deadline"),
        pytest.param(AgentView(SAID, "away", NOW, NOW + timedelta(seconds=0.1)), 9, SOON, id="just before it"),
        pytest.param(AgentView(SAID, "away", NOW, NOW - timedelta(seconds=7)), 9, SOON, id="overdue"),
        pytest.param(AgentView(SAID, "away", NOW, NOW, given_up=True), 9, SELDOM, id="given up"),
    ],
)
def test_how_long_until_it_is_asked_again(view: AgentView, failures: int, seconds: float) -> None:
    assert pause(view, EVERY, failures, NOW) == seconds
