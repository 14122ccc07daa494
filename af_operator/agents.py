"""The port to the agents inside sessions: programs of ours beside what computes, that know what each worker holds.

A pass never waits for an agent: it gets a value (``views``) and leaves questions (``ask``), one for each component,
which are asked again and again until a pass has none any more. An agent lives beside what users write, so nothing that
it answers is trusted: it is small, of the shape that the component believes (``Question.answer``), and about what
was asked; and all that can come of it is that the session's own workers go or come, within what its spec allows. One
that takes its time takes it from the agents of its own namespace only, and first from those that are silent as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol
from weakref import WeakValueDictionary

import aiohttp
import structlog
from prometheus_client import Counter
from pydantic import ValidationError

from af_operator.model import Key, Session, SessionRef
from af_operator.views import AgentView, Answer, Question

EVERY = 2.0
"""Seconds between two times that one agent is asked, where its component does not say otherwise."""
SOON = 0.25
"""The same while somebody waits for what it says next (``Answer.hurry``)."""
SELDOM = 15.0
"""The same at most, of one that is silent: the pause doubles until then."""
TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
AT_ONCE = 200
"""Agents that are asked at the same time."""
OF_NAMESPACE = 10
"""Those of one namespace at the same time, and as many that are silent: no other waits for these."""
MAX_BYTES = 1_048_576
STARTING = timedelta(seconds=20)
"""One that has never answered may still be starting: so long nobody is told of it."""

ERRORS = Counter("af_operator_agent_errors", "Talks with agents that met an error of our own", ["component", "error"])
log = structlog.get_logger()


class Agents(Protocol):
    """What passes ask of agents."""

    def views(self, session: Session) -> Mapping[str, AgentView]:
        """Return, by component, what its agent said last; nothing of those that were asked nothing."""

    def ask(self, session: SessionRef, questions: Mapping[str, Question]) -> None:
        """Ask these from now on, by component, and nothing else any more."""

    def forget(self, key: Key) -> None:
        """Ask nothing any more of whatever session had this key."""


@dataclass
class _Talk:
    """What is asked of one agent, and what is known of it.

    Attributes
    ----------
    untold
        The view has changed, and whoever waits for that does not know yet.
    failures
        How often in a row it was silent, or asking it failed.
    asked_anew
        Set when the question is another one.
    """

    session: SessionRef
    component: str
    question: Question
    view: AgentView = field(default_factory=AgentView)
    untold: bool = False
    failures: int = 0
    asked_anew: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class AskedByHttp:
    """Asks each agent for itself, over HTTP.

    Parameters
    ----------
    changed
        Called when a view has changed.
    clock
        The only clock.
    """

    def __init__(self, changed: Callable[[SessionRef], None], clock: Callable[[], datetime]) -> None:
        self._changed = changed
        self._clock = clock
        self._talks: dict[Key, dict[str, _Talk]] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # Each is there as long as somebody waits at it: namespaces come and go.
        self._of_namespace: WeakValueDictionary[tuple[str, bool], asyncio.Semaphore] = WeakValueDictionary()
        self._http: aiohttp.ClientSession | None = None

    def views(self, session: Session) -> Mapping[str, AgentView]:
        """See ``Agents.views``."""
        talks = (t for t in self._talks.get(session.key, {}).values() if t.session.uid == session.uid)
        return {talk.component: talk.view for talk in talks if talk.view.answer or talk.view.trouble}

    def ask(self, session: SessionRef, questions: Mapping[str, Question]) -> None:
        """See ``Agents.ask``."""
        key = Key(session.namespace, session.name)
        for component, talk in list(self._talks.get(key, {}).items()):
            if component not in questions or talk.session != session:
                self._end(key, component)
        for component, question in questions.items():
            talks = self._talks.setdefault(key, {})
            if component not in talks:
                talk = talks[component] = _Talk(session, component, question)
                talk.task = asyncio.create_task(self._talk(talk), name=f"{component} agent of {session.name}")
            elif talks[component].question != question:
                talks[component].question = question
                talks[component].asked_anew.set()

    def forget(self, key: Key) -> None:
        """See ``Agents.forget``."""
        for component in list(self._talks.get(key, ())):
            self._end(key, component)

    async def close(self) -> None:
        """End all talks."""
        tasks = [talk.task for talks in self._talks.values() for talk in talks.values() if talk.task]
        for key in list(self._talks):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http:
            await self._http.close()

    def _end(self, key: Key, component: str) -> None:
        talk = self._talks[key].pop(component)
        if not self._talks[key]:
            del self._talks[key]
        if talk.task:
            talk.task.cancel()

    async def _talk(self, talk: _Talk) -> None:
        while True:
            try:
                await self._ask(talk)
            except Exception as error:
                talk.failures += 1
                ERRORS.labels(talk.component, type(error).__name__).inc()
                about = {"namespace": talk.session.namespace, "session": talk.session.name}
                log.exception("asking an agent failed, by a fault of our own", component=talk.component, **about)
            seconds = pause(talk.view, talk.question.every or EVERY, talk.failures, self._clock())
            # Not sooner for another question: what it asks follows from the answers, and they are the user's.
            await asyncio.sleep(min(seconds, EVERY))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds - EVERY):
                    await talk.asked_anew.wait()

    async def _ask(self, talk: _Talk) -> None:
        question, view = None, talk.view
        while question != talk.question:  # or it is an answer to what nobody asks any more
            talk.asked_anew.clear()
            question = talk.question
            view = await self._ask_once(talk.session, question, talk.view)
        talk.failures = talk.failures + 1 if view.trouble else 0
        talk.untold |= view != talk.view
        talk.view = view
        if talk.untold:
            self._changed(talk.session)
            talk.untold = False

    async def _ask_once(self, session: SessionRef, question: Question, before: AgentView) -> AgentView:
        # Its own namespace's turn first: who waits for that must not hold a place of all.
        silent = before.silent_since is not None
        turn = self._of_namespace.setdefault((session.namespace, silent), asyncio.Semaphore(OF_NAMESPACE))
        try:
            async with turn, self._at_once:
                return AgentView(await self._post(question))
        except _Silent as error:
            return self._silent(question, before, str(error))

    async def _post(self, question: Question) -> Answer:
        # By default it has a limit of its own, and who waits for that counts as silent.
        self._http = self._http or aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0))
        try:
            headers, asked = _headers(question), question.asked
            async with self._http.post(question.url, json=asked, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise _Silent(_words_of(response.status))
                text = await _read(response)
            return question.answer.model_validate_json(text).about(question.asked)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Silent(f"it cannot be reached ({type(error).__name__})") from error
        except ValidationError as error:
            raise _Silent("what it answers is not understood") from error

    def _silent(self, question: Question, before: AgentView, trouble: str) -> AgentView:
        now = self._clock()
        since = before.silent_since or now
        if before.answer is None and now - since < STARTING:
            return replace(before, silent_since=since)
        if not before.trouble:
            log.warning("an agent is silent", url=question.url, error=trouble)
        deadline = since + timedelta(seconds=question.patience)
        return replace(before, trouble=trouble, silent_since=since, deadline=deadline, given_up=now >= deadline)


def pause(view: AgentView, every: float, failures: int, now: datetime) -> float:
    """Return the seconds until an agent is asked again that is asked `every` so many, and failed so often in a row."""
    if view.answer and view.answer.hurry and not failures:
        return SOON
    if view.silent_since and not view.trouble:
        return EVERY  # it may still be starting
    if not failures:
        return every
    seconds = min(max(SELDOM, every), EVERY * 2.0 ** min(max(0, failures - 1), 10))
    if view.deadline is None or view.given_up:
        return seconds
    # At the deadline its last chance is due, and not some time after.
    return min(seconds, max(SOON, (view.deadline - now).total_seconds()))


def _headers(question: Question) -> dict[str, str]:
    return {"Authorization": f"Bearer {question.token}"} if question.token else {}


def _words_of(status: int) -> str:
    """Say what a status other than 200 means."""
    if status in (401, 403):
        return f"it answers {status}: it has another token than the session's Secret"
    starting = status == 503  # Spark's agent, while the master beside it reads what it knew
    return f"it answers {status}: " + ("it has just started" if starting else "it was not made by this version")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = b""
    async for chunk in response.content.iter_any():
        text += chunk
        if len(text) > MAX_BYTES:
            raise _Silent("its answer is too long")
    return text


class _Silent(Exception):
    """No answer that could be used."""
