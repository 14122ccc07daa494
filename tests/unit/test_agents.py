"""The port to agents inside sessions, against a server that answers as an agent would, or as an enemy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import Field

from af_operator import agents
from af_operator.agents import AskedByHttp
from af_operator.model import Key, SessionRef
from af_operator.views import AgentView, Answer, PoolAnswer, PoolsAnswer, Question
from tests.support.objects import session

GROUP = "zmumu-cpu-1a2b3c"
EMPTY: dict[str, Any] = {"wanted": 0, "workers": [], "retiring": [], "retired": [], "stuck": []}
REF = SessionRef("physics", "zmumu", session().uid)


def says(**pool: Any) -> AgentView:
    """Return what is known of one that says this of its group."""
    return AgentView(PoolsAnswer(pools={GROUP: PoolAnswer(**pool)}))


class Agent:
    """Answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.used: list[Any] = []
        self.tokens: list[str | None] = []
        self.answer: Callable[[], web.Response] = self.says

    def says(self, **pool: Any) -> web.Response:
        return web.json_response({"pools": {GROUP: EMPTY | pool}})

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        self.tokens.append(request.headers.get("Authorization"))
        return self.answer()

    async def handle_other(self, request: web.Request) -> web.Response:
        self.used.append(await request.json())
        return web.json_response({"used": 7, "said by a newer agent": 1})


class Port(AskedByHttp):
    """The port under test, with a clock that the test moves."""

    def __init__(self, agent: Agent, url: str) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.agent, self.url = agent, url
        self.changes = 0
        super().__init__(self._count, lambda: self.now)

    def _count(self, _: SessionRef) -> None:
        self.changes += 1

    def question(self, keep: int = 1, **more: Any) -> dict[str, Question]:
        asked = {"pools": {GROUP: {"keep": keep}}}
        return {"dask": Question(self.url, asked, PoolsAnswer, patience=60, **more)}

    def view(self) -> AgentView | None:
        return self.views(session()).get("dask")

    async def until(self, said: Callable[[AgentView | None], bool]) -> AgentView | None:
        end = time.monotonic() + 10
        while not said(view := self.view()):
            assert time.monotonic() < end, view
            await asyncio.sleep(0.01)
        return view


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Port]:
    monkeypatch.setattr(agents, "EVERY", 0.01)
    agent = Agent()
    app = web.Application()
    app.router.add_post("/af/v1/pools", agent.handle)
    app.router.add_post("/af/v1/pools/used", agent.handle_other)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found = Port(agent, f"http://127.0.0.1:{runner.addresses[0][1]}/af/v1/pools")
    yield found
    await found.close()
    await runner.cleanup()


async def test_it_asks_again_and_tells_of_changes_only(port: Port) -> None:
    port.ask(REF, port.question())
    assert port.view() is None, "nothing is known yet"
    await port.until(lambda v: v == says())
    asked = len(port.agent.asked)
    port.agent.answer = lambda: port.agent.says(wanted=3, retired=["w"])
    await port.until(lambda v: v == says(wanted=3, retired=frozenset({"w"})))
    assert port.changes == 2
    assert port.agent.asked[0] == {"pools": {GROUP: {"keep": 1}}}
    assert len(port.agent.asked) > asked


async def test_an_agent_hears_the_token_and_nobody_else_does(port: Port, capsys: pytest.CaptureFixture[str]) -> None:
    question = port.question(token="s3cret")["dask"]
    assert "s3cret" not in repr(question)
    port.ask(REF, {"dask": question})
    await port.until(lambda v: v is not None)
    port.agent.answer = lambda: web.Response(status=401)
    view = await port.until(lambda v: v is not None and "401: it has another token" in v.trouble)
    assert set(port.agent.tokens) == {"Bearer s3cret"}
    assert "s3cret" not in repr(view)
    said = capsys.readouterr()
    assert "an agent is silent" in said.out + said.err
    assert "s3cret" not in said.out + said.err


async def test_who_asks_for_no_token_hears_none(port: Port) -> None:
    port.ask(REF, port.question())
    await port.until(lambda v: v is not None)
    assert set(port.agent.tokens) == {None}


async def test_another_question_is_asked_and_none_ends_it(port: Port) -> None:
    port.ask(REF, port.question(1))
    await port.until(lambda v: v is not None)
    port.ask(REF, port.question(2))
    end = time.monotonic() + 10
    while port.agent.asked[-1] != {"pools": {GROUP: {"keep": 2}}}:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    port.ask(REF, {})
    assert port.view() is None
    port.ask(REF, port.question())
    port.forget(Key("physics", "zmumu"))
    assert port.view() is None


async def test_a_session_of_the_same_name_is_another_one(port: Port) -> None:
    port.ask(REF._replace(uid="earlier"), port.question())
    await asyncio.sleep(0.1)
    assert port.view() is None
    port.ask(REF, port.question())
    await port.until(lambda v: v is not None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: web.Response(status=404), "answers 404: it was not made by this version"),
        (lambda: web.Response(status=503), "answers 503: it has just started"),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "answers 302"),
        (lambda: web.Response(text="<html>"), "not understood"),
        (lambda: web.json_response({"pools": {GROUP: {"wanted": -1}}}), "not understood"),
        (lambda: web.json_response({"pools": {GROUP: EMPTY | {"wanted": 10**9}}}), "not understood"),
        (lambda: web.json_response({"pools": {GROUP: EMPTY | {"retired": ["x" * 64]}}}), "not understood"),
        (lambda: web.Response(text=json.dumps({"pools": {GROUP: EMPTY}}) + " " * 2_000_000), "too long"),
    ],
)
async def test_what_is_no_answer_is_silence(port: Port, answer: Any, words: str) -> None:
    port.ask(REF, port.question())
    await port.until(lambda v: v is not None)
    port.agent.answer = answer
    view = await port.until(lambda v: bool(v and v.trouble))
    assert view
    assert words in view.trouble


async def test_one_that_never_answered_may_still_be_starting(port: Port) -> None:
    port.agent.answer = lambda: web.Response(status=404)
    port.ask(REF, port.question())
    await port.until(lambda _: len(port.agent.asked) > 3)
    assert port.view() is None
    port.now += agents.STARTING
    view = await port.until(lambda v: v is not None)
    assert view
    assert "answers 404" in view.trouble


async def test_groups_that_nobody_asked_about_are_not_heard(port: Port) -> None:
    port.agent.answer = lambda: web.json_response({"pools": {GROUP: EMPTY, "other": EMPTY}})
    port.ask(REF, port.question())
    view = await port.until(lambda v: v is not None)
    assert view
    assert set(view.pools) == {GROUP}


async def test_silence_is_timed_and_keeps_what_was_said(port: Port) -> None:
    port.agent.answer = lambda: port.agent.says(wanted=2)
    port.ask(REF, port.question())
    await port.until(lambda v: v is not None)
    port.agent.answer = lambda: web.Response(status=500)
    view = await port.until(lambda v: bool(v and v.trouble))
    assert view
    assert (view.pools[GROUP].wanted, view.given_up) == (2, False)
    assert view.deadline == port.now + timedelta(seconds=60)
    port.now += timedelta(seconds=61)
    await port.until(lambda v: bool(v and v.given_up))
    port.agent.answer = port.agent.says
    await port.until(lambda v: v == says())


class Used(Answer):
    """What the agent of another component says."""

    used: int = Field(ge=0)


def of_another(port: Port, **more: Any) -> Question:
    return Question(f"{port.url}/used", {"since": 1}, Used, patience=60, **more)


async def test_two_components_of_a_session_are_asked_and_heard_apart(port: Port) -> None:
    port.ask(REF, {**port.question(), "other": of_another(port)})
    await port.until(lambda _: len(port.views(session())) == 2)
    views = port.views(session())
    assert views == {"dask": says(), "other": AgentView(Used(used=7))}
    assert views["other"].pools == {}, "it was asked for something else"
    port.agent.answer = lambda: web.Response(status=500)
    await port.until(lambda v: bool(v and v.trouble))
    assert port.views(session())["other"] == AgentView(Used(used=7)), "the trouble of one is not the other's"


async def test_one_of_two_components_is_forgotten_apart_and_the_session_with_both(port: Port) -> None:
    port.ask(REF, {**port.question(), "other": of_another(port)})
    await port.until(lambda _: len(port.views(session())) == 2)
    talk = port._talks[Key("physics", "zmumu")]["other"]
    port.ask(REF, {"other": of_another(port)})
    assert set(port.views(session())) == {"other"}
    assert port._talks[Key("physics", "zmumu")] == {"other": talk}, "and it goes on with what it was told"
    port.forget(Key("physics", "zmumu"))
    assert port.views(session()) == {}
    assert port._talks == {}


async def test_each_is_asked_as_often_as_its_component_says(port: Port) -> None:
    port.ask(REF, {**port.question(), "other": of_another(port, every=600.0)})
    await port.until(lambda _: len(port.agent.asked) > 20)
    assert port.agent.used == [{"since": 1}]


async def test_another_question_ends_a_long_pause(port: Port) -> None:
    port.ask(REF, port.question(1, every=600.0))
    await port.until(lambda v: v is not None)
    asked = len(port.agent.asked)
    port.ask(REF, port.question(2, every=600.0))
    await port.until(lambda _: len(port.agent.asked) > asked)
    assert port.agent.asked[-1] == {"pools": {GROUP: {"keep": 2}}}
