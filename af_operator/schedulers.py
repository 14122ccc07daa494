"""The port to the Dask schedulers of sessions: what their agents say of pools.

A pass never waits for a scheduler: it gets a value (``view``) and leaves a question (``ask``), which is asked again and
again until a pass has none any more. The scheduler runs what users write, so nothing that it answers is trusted: it is
small, of the right shape, and about groups that were asked for; and all that can come of it is that the session's own
workers go or come, within what its spec allows. One that takes its time takes it from the schedulers of its own
namespace only, and first from those that are silent as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Protocol
from weakref import WeakValueDictionary

import aiohttp
import structlog
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from af_operator.model import Key, Session, SessionRef
from af_operator.views import PoolView, Question, SchedulerView

EVERY = 2.0
"""Seconds between two times that one scheduler is asked."""
SOON = 0.25
"""The same while workers are on their way out: somebody waits for them."""
SELDOM = 15.0
"""The same at most, of one that is silent: the pause doubles until then."""
TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
AT_ONCE = 200
"""Schedulers that are asked at the same time."""
OF_NAMESPACE = 10
"""Those of one namespace at the same time, and as many that are silent: no other waits for these."""
MAX_BYTES = 1_048_576
STARTING = timedelta(seconds=20)
"""One that has never answered may still be starting: so long nobody is told of it."""

ERRORS = Counter("af_operator_scheduler_errors", "Talks with Dask schedulers that met an error of our own", ["error"])
log = structlog.get_logger()
Workers = Annotated[frozenset[Annotated[str, Field(max_length=63)]], Field(max_length=2000)]


class _Pool(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    wanted: int = Field(ge=0, le=1_000_000)
    workers: Workers
    retiring: Workers
    retired: Workers
    stuck: Workers


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")
    pools: dict[str, _Pool] = Field(max_length=100)


class Schedulers(Protocol):
    """What passes ask of schedulers."""

    def view(self, session: Session) -> SchedulerView | None:
        """Return what the session's scheduler said last, or None if nothing was asked of it."""

    def ask(self, session: SessionRef, question: Question | None) -> None:
        """Ask this from now on; None: nothing any more."""

    def forget(self, key: Key) -> None:
        """Ask nothing any more of whatever session had this key."""


class NoSchedulers:
    """Where nobody may ask."""

    def view(self, session: Session) -> None:
        """Return None."""

    def ask(self, session: SessionRef, question: Question | None) -> None:
        """Ask nobody."""

    def forget(self, key: Key) -> None:
        """There is nothing to forget."""


@dataclass
class _Talk:
    """What is asked of one scheduler, and what is known of it.

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
    question: Question
    view: SchedulerView = field(default_factory=SchedulerView)
    untold: bool = False
    failures: int = 0
    asked_anew: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class AskedByHttp:
    """Asks each scheduler for itself, over HTTP.

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
        self._talks: dict[Key, _Talk] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # Each is there as long as somebody waits at it: namespaces come and go.
        self._of_namespace: WeakValueDictionary[tuple[str, bool], asyncio.Semaphore] = WeakValueDictionary()
        self._http: aiohttp.ClientSession | None = None

    def view(self, session: Session) -> SchedulerView | None:
        """See ``Schedulers.view``."""
        talk = self._talks.get(session.key)
        same = talk is not None and talk.session.uid == session.uid
        return talk.view if talk and same and (talk.view.groups or talk.view.trouble) else None

    def ask(self, session: SessionRef, question: Question | None) -> None:
        """See ``Schedulers.ask``."""
        key = Key(session.namespace, session.name)
        talk = self._talks.get(key)
        if talk and (question is None or talk.session != session):
            self.forget(key)
            talk = None
        if talk and question and talk.question != question:
            talk.question = question
            talk.asked_anew.set()
        elif question and not talk:
            talk = _Talk(session, question)
            talk.task = asyncio.create_task(self._talk(talk), name=f"scheduler of {session.name}")
            self._talks[key] = talk

    def forget(self, key: Key) -> None:
        """See ``Schedulers.forget``."""
        talk = self._talks.pop(key, None)
        if talk and talk.task:
            talk.task.cancel()

    async def close(self) -> None:
        """End all talks."""
        tasks = [talk.task for talk in self._talks.values() if talk.task]
        for key in list(self._talks):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http:
            await self._http.close()

    async def _talk(self, talk: _Talk) -> None:
        while True:
            try:
                await self._turn(talk)
            except Exception as error:
                talk.failures += 1
                ERRORS.labels(type(error).__name__).inc()
                about = {"namespace": talk.session.namespace, "session": talk.session.name}
                log.exception("asking a session's Dask scheduler failed, by a fault of our own", **about)
            seconds = pause(talk.view, talk.failures, self._clock())
            # Not sooner for another question: what it asks follows from the answers, and they are the user's.
            await asyncio.sleep(min(seconds, EVERY))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds - EVERY):
                    await talk.asked_anew.wait()

    async def _turn(self, talk: _Talk) -> None:
        asked, view = None, talk.view
        while asked != talk.question:  # or it is an answer to what nobody asks any more
            talk.asked_anew.clear()
            asked = talk.question
            view = await self._one(talk.session, asked, talk.view)
        talk.failures = talk.failures + 1 if view.trouble else 0
        talk.untold |= view != talk.view
        talk.view = view
        if talk.untold:
            self._changed(talk.session)
            talk.untold = False

    async def _one(self, session: SessionRef, question: Question, before: SchedulerView) -> SchedulerView:
        # Its own namespace's turn first: who waits for that must not hold a place of all.
        silent = before.silent_since is not None
        turn = self._of_namespace.setdefault((session.namespace, silent), asyncio.Semaphore(OF_NAMESPACE))
        try:
            async with turn, self._at_once:
                groups = await self._post(question)
        except _Silent as error:
            return self._silent(question, before, str(error))
        return SchedulerView(groups)

    async def _post(self, question: Question) -> dict[str, PoolView]:
        # By default it has a limit of its own, and who waits for that counts as silent.
        self._http = self._http or aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0))
        try:
            async with self._http.post(question.url, json={"pools": question.pools}, allow_redirects=False) as response:
                if response.status != 200:
                    raise _Silent(f"it answers {response.status}: its Dask was not made by this version")
                text = await _read(response)
            answer = _Answer.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Silent(f"it cannot be reached ({type(error).__name__})") from error
        except ValidationError as error:
            raise _Silent("what it answers is not understood") from error
        return {name: PoolView(**dict(answer.pools[name])) for name in question.pools if name in answer.pools}

    def _silent(self, question: Question, before: SchedulerView, trouble: str) -> SchedulerView:
        now = self._clock()
        since = before.silent_since or now
        if not before.groups and now - since < STARTING:
            return replace(before, silent_since=since)
        if not before.trouble:
            log.warning("a session's Dask scheduler is silent", url=question.url, error=trouble)
        deadline = since + timedelta(seconds=question.patience)
        return replace(before, trouble=trouble, silent_since=since, deadline=deadline, given_up=now >= deadline)


def pause(view: SchedulerView, failures: int, now: datetime) -> float:
    """Return the seconds until a scheduler is asked again that was so often asked in vain."""
    if any(group.retiring for group in view.groups.values()) and not failures:
        return min(SOON, EVERY)
    if view.silent_since and not view.trouble:
        return EVERY  # it may still be starting
    seconds = min(SELDOM, EVERY * 2.0 ** min(max(0, failures - 1), 10))
    if view.deadline is None or view.given_up:
        return seconds
    # At the deadline its last chance is due, and not some time after.
    return min(seconds, max(SOON, (view.deadline - now).total_seconds()))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = b""
    async for chunk in response.content.iter_any():
        text += chunk
        if len(text) > MAX_BYTES:
            raise _Silent("its answer is too long")
    return text


class _Silent(Exception):
    """No answer that could be used."""
