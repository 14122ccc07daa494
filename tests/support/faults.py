"""What can go wrong with a request to the API server. A fault stands between the client's request and its answer.

>>> proxy.rule(Delay(3), Match("list", "/pods$"), times=1)
>>> proxy.rule(Answer.status(429, headers={"Retry-After": "1"}), Match("write"), seconds=10)

All rules that match a request apply, the first of them outermost.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aiohttp import web

from tests.support.exchange import Call, Exchange

When = Literal["before", "after"]
GoOn = Callable[[], Awaitable[web.StreamResponse]]
JSON = {"Content-Type": "application/json"}


class Fault(Protocol):
    """One thing that goes wrong."""

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        """Return the answer; `go_on` gives the one that there is without this fault."""


@dataclass(frozen=True)
class Match:
    """Which requests; ``page`` is a list that goes on, ``read`` everything but writes."""

    of: Literal["any", "write", "read", "watch", "list", "page", "get", "other"] = "any"
    path: str = ""
    """A regular expression, searched for in the path."""
    verb: str | None = None

    def __call__(self, call: Call) -> bool:
        """Return whether it is one of them."""
        kinds = {"any", call.kind, "page" if call.page else "", "" if call.kind == "write" else "read"}
        return self.of in kinds and self.verb in (None, call.verb) and re.search(self.path, call.path) is not None


@dataclass(frozen=True)
class Delay:
    """The request reaches the server this much later."""

    seconds: float

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        return await go_on()


class Hold:
    """The request reaches the server when it is released."""

    def __init__(self) -> None:
        self._released: Future[None] = Future()

    def release(self) -> None:
        """Let everything through, now and from now on."""
        if not self._released.done():
            self._released.set_result(None)

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        await asyncio.shield(asyncio.wrap_future(self._released))  # one who gives up takes the others' hold along
        return await go_on()


@dataclass(frozen=True)
class Drop:
    """The connection is closed without an answer, before or after the server has done what is asked."""

    when: When

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        if self.when == "after":
            await exchange.carry_out()
        return exchange.hang_up()


@dataclass(frozen=True)
class Repeat:
    """The server gets the request twice; the client hears of the second time."""

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        await exchange.carry_out()
        return await go_on()


@dataclass(frozen=True)
class Answer:
    """An answer that the server has not given, and without its knowledge."""

    code: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def status(cls, code: int, reason: str = "", message: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Return the API server's way to say that something is wrong."""
        return cls(code, json.dumps(status(code, reason, message)).encode(), headers or {})

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        return web.Response(status=self.code, body=self.body, headers={**JSON, **self.headers})


@dataclass(frozen=True)
class Cut:
    """The answer breaks off after so many bytes, and before its end in any case."""

    after: int

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        exchange.budget = self.after
        return await go_on()


@dataclass(frozen=True)
class Silence:
    """The answer begins, says nothing, and does not end."""

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        exchange.silent = True
        return await go_on()


@dataclass(frozen=True)
class Pages:
    """Lists have pages of this size."""

    limit: int

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        exchange.query["limit"] = str(self.limit)
        return await go_on()


@dataclass(frozen=True)
class Trap:
    """What is to happen at one write, after which the client gets no answer."""

    number: int
    when: When
    act: Callable[[], object]
    sprung: threading.Event

    async def __call__(self, exchange: Exchange, go_on: GoOn) -> web.StreamResponse:
        if self.when == "after":
            await exchange.carry_out()
        self.act()
        self.sprung.set()
        return exchange.hang_up()


class Rule:
    """A fault, and when it strikes.

    Attributes
    ----------
    hits
        How often it has struck.
    """

    def __init__(self, fault: Fault, match: Match, times: int | None, seconds: float | None) -> None:
        self.fault, self.hits = fault, 0
        self._match, self._times = match, times
        self._end = None if seconds is None else time.monotonic() + seconds

    def strikes(self, call: Call) -> bool:
        """Return whether it strikes this request, and count it if so."""
        over = self._end is not None and time.monotonic() >= self._end
        if over or self.hits == self._times or not self._match(call):
            return False
        self.hits += 1
        return True

    def remove(self) -> None:
        """Have it strike no more."""
        self._times = self.hits


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """Return an object of kind Status."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**body, "message": message, "reason": reason, "code": code}


def event(code: int, reason: str, message: str) -> bytes:
    """Return the event by which a watch ends with an error, inside of an answer that began with 200."""
    return json.dumps({"type": "ERROR", "object": status(code, reason, message)}).encode() + b"\n"


# In the words of Kubernetes 1.34.
WATCH_EXPIRED = event(410, "Expired", "The resourceVersion for the provided watch is too old.")
WATCH_GONE = Answer(200, WATCH_EXPIRED)
PAGE_GONE = Answer.status(
    410, "Expired", "The provided continue parameter is too old to display a consistent list result."
)


def too_many(seconds: int) -> Answer:
    """Return the answer of a server that has too much to do."""
    message = "Too many requests, please try again later."
    return Answer.status(429, "TooManyRequests", message, {"Retry-After": str(seconds)})
