"""An HTTP proxy between one client and the API server: it counts, acts at the client's k-th write, and goes wrong.

>>> with ApiProxy(server, token, ca) as proxy:
...     process = start_operator(proxy.kubeconfig(path))
...     proxy.at(3, "after", process.kill)
...     proxy.rule(Delay(3), Match("list", "/pods$"))

"Before" is before the API server hears of the write, which it then never does; "after" is when it has carried the
write out and the client has not heard of it. Those two are all that a crash between two writes can look like.
What else can go wrong is in ``faults.py``.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from af_operator.enforcement import CONFIG_MAP
from tests.support.exchange import Call, Exchange, Upstream
from tests.support.faults import WATCH_EXPIRED, Fault, Match, Rule, Trap, When
from tests.support.web_server import WebServer

EVERYTHING, WATCHES = Match(), Match("watch")


def counted(call: Call) -> bool:
    """Return whether a request belongs to the work: by the clock the Lease is renewed, and the network's state read."""
    return "/leases" not in call.path and not call.path.endswith(f"/configmaps/{CONFIG_MAP}")


class ApiProxy:
    """Forwards to one server with one bearer token; listens on loopback, without encryption.

    Parameters
    ----------
    server
        URL of the API server.
    token
        Whose rights the client has.
    ca
        PEM file that vouches for the server; None for a server without encryption.
    count
        Which writes count, beginning with 1.
    """

    def __init__(
        self, server: str, token: str, ca: Path | None = None, count: Callable[[Call], bool] = counted
    ) -> None:
        self._server, self._token, self._count = server.rstrip("/"), token, count
        self._ssl = ssl.create_default_context(cafile=str(ca)) if ca else None
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        self._written = 0
        self._trap: Trap | None = None
        self._rules: list[Rule] = []
        self._open: dict[Exchange, None] = {}
        self._away = False
        app = web.Application(client_max_size=8 * 1024**2)
        app.router.add_route("*", "/{path:.*}", self._forward)
        app.cleanup_ctx.append(self._connected)
        self._site = WebServer(app)
        self.sprung = threading.Event()
        """Set when what `at` asked for has happened."""

    def __enter__(self) -> ApiProxy:
        self._site.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._site.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._site.url

    @property
    def calls(self) -> list[Call]:
        """Every request so far, in order."""
        with self._changed:
            return list(self._calls)

    @property
    def writes(self) -> list[Call]:
        """Every write that counts so far, in order."""
        return [call for call in self.calls if call.kind == "write" and self._count(call)]

    def at(self, number: int, when: When, act: Callable[[], object]) -> None:
        """Call `act` once, in another thread's time, at the `number`-th write from the beginning."""
        with self._changed:
            self.sprung.clear()
            self._trap = Trap(number, when, act, self.sprung)

    def rule(
        self, fault: Fault, match: Match = EVERYTHING, times: int | None = None, seconds: float | None = None
    ) -> Rule:
        """Have a fault strike the requests that match, so many of them at most, for so long at most."""
        found = Rule(fault, match, times, seconds)
        with self._changed:
            self._rules.append(found)
        return found

    def cut(self, match: Match = WATCHES) -> int:
        """Close the connections of answers that are open; return how many there were."""
        return self._strike(match, Exchange.hang_up)

    def silence(self, match: Match = WATCHES) -> int:
        """Have open answers say nothing any more, and not end; return how many there were."""
        return self._strike(match, lambda exchange: setattr(exchange, "silent", True))

    def end(self, match: Match = WATCHES, words: bytes = WATCH_EXPIRED) -> int:
        """Have open answers say one more line, and end; return how many there were."""
        return self._strike(match, lambda exchange: exchange.end(words))

    def go_away(self) -> None:
        """Be an API server that is not there: close what is open, and refuse what comes."""
        self._away = True
        self.cut(EVERYTHING)

    def come_back(self) -> None:
        """Let requests through again."""
        self._away = False

    def under_way(self, match: Match = WATCHES) -> int:
        """Return how many requests have no answer yet, or one that has not ended."""
        with self._changed:
            return sum(match(exchange.call) for exchange in self._open)

    def until(self, check: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Wait until something is true of the requests; it is looked at when one comes, is answered or ends."""
        with self._changed:
            if not self._changed.wait_for(check, seconds):
                last = "\n  ".join(map(str, self._calls[-15:]))
                raise AssertionError(f"not within {seconds} s: {what}; the last requests:\n  {last}")

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here, and return its path."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    async def _connected(self, _: web.Application) -> AsyncIterator[None]:
        connector = TCPConnector(ssl=self._ssl if self._ssl else False, limit=0)
        timeout = ClientTimeout(total=None)
        async with ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as client:
            self._upstream = Upstream(client, self._server, self._token)
            yield

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        with self._noted(request) as (exchange, faults):
            if self._away:
                return exchange.hang_up()
            go_on = exchange.pass_on
            for fault in reversed(faults):
                go_on = partial(fault, exchange, go_on)
            try:
                return await go_on()
            except (ClientError, ConnectionResetError):
                return exchange.hang_up()

    @contextmanager
    def _noted(self, request: web.Request) -> Iterator[tuple[Exchange, list[Fault]]]:
        call = Call(request.method, request.path, query=dict(request.query))
        with self._changed:
            number = len(self._calls)
            exchange = Exchange(request, call, self._upstream, partial(self._answered, number))
            self._calls.append(call)
            self._open[exchange] = None
            faults = [*self._springs(call), *(rule.fault for rule in self._rules if rule.strikes(call))]
            self._changed.notify_all()
        try:
            yield exchange, faults
        finally:
            with self._changed:
                del self._open[exchange]
                self._changed.notify_all()

    def _answered(self, number: int, status: int) -> None:
        with self._changed:
            self._calls[number] = replace(self._calls[number], status=status)
            self._changed.notify_all()

    def _springs(self, call: Call) -> list[Trap]:
        """Return the trap if this is its write, which it is only once."""
        if call.kind != "write" or not self._count(call):
            return []
        self._written += 1
        if self._trap is None or self._trap.number != self._written:
            return []
        trap, self._trap = self._trap, None
        return [trap]

    def _strike(self, match: Match, what: Callable[[Exchange], object]) -> int:
        async def strike() -> int:
            with self._changed:
                struck = [exchange for exchange in self._open if match(exchange.call)]
            for exchange in struck:
                what(exchange)
            return len(struck)

        return self._site.run(strike())
