"""The port to JupyterHub's REST API: which servers it shows, and a request to show one more.

A pass never waits for JupyterHub: it gets a value (``view``) that a poll keeps, and leaves a wish (``start``).
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import structlog
from aiohttp import ClientResponse
from yarl import URL

from af_operator.components._shared import untrusted
from af_operator.settings import Settings
from af_operator.views import HubRefusal, HubServer, HubView, activity_at

RETRY = 60.0
"""Seconds until a server that JupyterHub refused, or started and lost, is asked for again."""
STOPPED = 30.0
"""Seconds in which nobody asks for a server that has just stopped: the watch may still have to tell us that its
user suspended the session, and to start the server then would resume it."""
SOON = 5.0
"""Seconds to the next poll after one that failed."""
PAUSE = 0.5
"""Seconds between rounds at least: what many passes want goes into one."""
BATCH = 10
"""Servers that are asked for at once: JupyterHub answers when a server is up, or after ten seconds."""
PAGE = 200
"""Users per page; JupyterHub's own upper limit unless it was changed."""
NOT_STARTED = "JupyterHub does not start its server"
STOPPED_AGAIN = "JupyterHub has stopped its server; if the session goes on, it is asked again within two minutes"
FAILED = re.compile(r"^Spawn failed: (\d{3} \w+(\(reason=[^)]*\))?: )?")
"""What JupyterHub puts before the words of its spawner."""
PAGINATED = "application/jupyterhub-pagination+json"

SCOPES = ("list:users", "read:servers", "start:servers")
"""What the operator's token must be allowed, and nothing else."""

Servers = Mapping[HubServer, datetime | None]
"""Every server that is up or on its way up or down, and when it was last used, as far as JupyterHub knows."""
Changed = Callable[[frozenset[str] | None], None]
"""Told which users' sessions look different now; None is everybody's."""
Runs = Callable[[HubServer], bool]
"""Says whether there is, now, a session that runs and is shown as this server."""

log = structlog.get_logger()


class Hub(Protocol):
    """What passes ask of JupyterHub."""

    def view(self) -> HubView | None:
        """Return what is known of it, or None where the facility has none that the operator knows."""

    def start(self, server: HubServer) -> None:
        """Have it asked to start a server, soon; its spawner adopts the session."""

    def look(self) -> None:
        """Have it looked at, soon: what it shows is about to change."""


class NoHub:
    """A facility without JupyterHub, or with one that shall know nothing of sessions that it did not start."""

    def view(self) -> None:
        """Return None."""

    def start(self, server: HubServer) -> None:
        """Never happens: who sees no JupyterHub asks nothing of it."""

    def look(self) -> None:
        """Never happens either."""


class Away(Exception):
    """JupyterHub cannot be asked; the text is the same as long as the cause is, since it goes into conditions."""


class JupyterHub:
    """Polls JupyterHub, and starts servers in it.

    Parameters
    ----------
    config
        Where it is; the token's file is read for each request.
    changed
        Called when the view has changed.
    runs
        Asked before a server is started: a session that was suspended or deleted meanwhile must not come back.
    """

    def __init__(self, config: Settings, changed: Changed, runs: Runs) -> None:
        self.polled = asyncio.Event()
        """Set after the first poll: before it, every session would look as if JupyterHub were away."""
        self._config = config
        self._changed = changed
        self._runs = runs
        self._wanted: dict[HubServer, None] = {}
        self._refused: dict[HubServer, _Refused] = {}
        self._wake = asyncio.Event()
        self._failures = 0
        trouble = "JupyterHub has not been asked yet"
        self._view = HubView(config.hub_api_url, config.hub_base_url, config.hub_account, trouble=trouble)

    def view(self) -> HubView:
        """Return what the last poll found."""
        return self._view

    def start(self, server: HubServer) -> None:
        """Start a server in the next round."""
        self._wanted[server] = None
        self._wake.set()

    def look(self) -> None:
        """Poll in the next round."""
        self._wake.set()

    async def run(self) -> None:
        """Poll and start for ever."""
        timeout = aiohttp.ClientTimeout(total=10, connect=3)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            api = Api(http, self._config)
            while True:
                self._wake.clear()
                if await self._round(api):
                    self._wake.set()
                self.polled.set()
                await asyncio.sleep(PAUSE)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._pause())

    async def _round(self, api: Api) -> bool:
        """Poll, ask for some of the servers that are wanted, poll again; return whether there are more."""
        # Polled before: what the Hub itself began to start since the last poll needs no word of ours.
        if not await self._poll(api):
            return False
        missing = [s for s in self._wanted if s not in (self._view.servers or ()) and s not in self._refused]
        batch = [s for s in missing[:BATCH] if self._runs(s)]
        self._wanted = dict.fromkeys(missing[BATCH:])
        if batch:
            await asyncio.gather(*(self._ask(api, server) for server in batch))
            await self._poll(api)
        return bool(self._wanted)

    async def _ask(self, api: Api, server: HubServer) -> None:
        """Start a server, and remember what is to be said of it should it not be there afterwards."""
        try:
            refusal = await api.start(server)
        except Away as error:
            refusal = HubRefusal("Refused", str(error))
        # Somebody who never logs in is no news each minute; the condition says it.
        log_request = log.debug if refusal and refusal.reason == "UnknownUser" else log.info
        log_request(
            "asked JupyterHub for a server", user=server.user, server=server.server, refused=refusal and refusal.message
        )
        refusal = refusal or HubRefusal("Stopped", STOPPED_AGAIN)
        self._refused[server] = _Refused(refusal, time.monotonic() + RETRY)

    async def _poll(self, api: Api) -> bool:
        try:
            servers = await api.servers()
        except Away as error:
            self._failures += 1
            # One request that is lost is no reason to tell everybody; what is wrong at the start is.
            if self._failures > 1 or self._view.servers is None:
                self._refused.clear()  # a Hub that comes back may have forgotten all, and knows new users
                self._publish(replace(self._view, servers=None, trouble=str(error)))
            return False
        self._failures = 0
        await asyncio.gather(
            *(self._remember_lost(api, s) for s in (self._view.servers or frozenset()) - servers.keys())
        )
        activity = {server: time for server, time in servers.items() if time}
        self._publish(replace(self._view, servers=frozenset(servers), activity=activity, trouble=""))
        return True

    async def _remember_lost(self, api: Api, server: HubServer) -> None:
        """Leave a server alone that is there no more, and find out why."""
        if not self._runs(server):
            return  # known to be suspended: once it is resumed, it may be asked for at once
        failure = await api.failure(server)
        refusal = (
            HubRefusal("Refused", f"{NOT_STARTED}: {failure}") if failure else HubRefusal("Stopped", STOPPED_AGAIN)
        )
        previous = self._refused.get(server)
        until = time.monotonic() + STOPPED
        self._refused[server] = _Refused(refusal, max(until, previous.time) if previous else until)

    def _publish(self, view: HubView) -> None:
        now = time.monotonic()
        self._refused = {s: r for s, r in self._refused.items() if now < r.time}
        refused = {s: r.refusal for s, r in self._refused.items() if s not in (view.servers or ())}
        previous, self._view = self._view, replace(view, refused=refused)
        if previous.trouble != view.trouble:
            log.warning("JupyterHub is away", error=view.trouble) if view.trouble else log.info("JupyterHub answers")
        if previous != self._view:
            self._changed(_concerned(previous, self._view))

    def _pause(self) -> float:
        poll_seconds = self._config.hub_poll_seconds
        return (min(SOON, poll_seconds) if self._failures == 1 else poll_seconds) * random.uniform(0.9, 1.1)  # noqa: S311 - jitter


@dataclass(frozen=True)
class _Refused:
    refusal: HubRefusal
    time: float


def _concerned(previous: HubView, current: HubView) -> frozenset[str] | None:
    if previous.servers is None or current.servers is None:
        return None
    changed = _differing(previous.refused, current.refused) | _differing(previous.activity, current.activity)
    return frozenset(s.user for s in (previous.servers ^ current.servers) | changed)


def _differing(before: Mapping[HubServer, Any], after: Mapping[HubServer, Any]) -> set[HubServer]:
    return {server for server in {*before, *after} if before.get(server) != after.get(server)}


class Api:
    """The requests, with the token of the moment."""

    def __init__(self, http: aiohttp.ClientSession, config: Settings) -> None:
        self._http = http
        self._url = config.hub_api_url.rstrip("/")
        self._file = config.hub_token_file

    async def servers(self) -> Servers:
        """Return every server that is up or on its way up or down, and when it was last used.

        Raises
        ------
        Away
            With words for a condition.
        """
        servers: dict[HubServer, datetime | None] = {}
        offset: int | None = 0
        while offset is not None:
            status, body = await self._request("GET", f"/users?state=active&offset={offset}&limit={PAGE}")
            if status != 200:
                raise Away(self._unexpected(status, body))
            try:
                servers |= dict(_active(body["items"]))
                next_page = body["_pagination"]["next"]
                offset = next_page and max(offset + 1, int(next_page["offset"]))
            except (KeyError, TypeError, AttributeError):
                raise Away(self._not_the_api()) from None
        return servers

    async def start(self, server: HubServer) -> HubRefusal | None:
        """Start a server; return None if it is started, starting or up, else why it is not.

        Without a body: the spawner finds the session by its name, so there is no option to be forged.
        """
        timeout = aiohttp.ClientTimeout(total=30, connect=3)
        status, body = await self._request("POST", _path(server), timeout=timeout)
        message = _message(body)
        if status in (201, 202) or (status == 400 and re.search(r" is (already running|pending \w+)$", message)):
            return None
        if status == 404:
            return HubRefusal(
                "UnknownUser",
                f"JupyterHub does not know a user {server.user!r}: they must have logged in there once, and spec.user "
                "must be their name there",
            )
        return HubRefusal("Refused", f"{NOT_STARTED}: {message or status}{_hint(status, message)}")

    async def failure(self, server: HubServer) -> str:
        """Return why a start that was answered before its end has failed, or nothing if it did not."""
        timeout = aiohttp.ClientTimeout(total=3, connect=3)
        try:
            async with self._ask("GET", f"{_path(server)}/progress", "text/event-stream", timeout=timeout) as response:
                # Of a start that is over there is one event, and of one that goes on the first is no failure.
                event = json.loads((await response.content.readline()).removeprefix(b"data:"))
            return FAILED.sub("", str(event["message"])) if event.get("failed") else ""
        except (Away, aiohttp.ClientError, TimeoutError, ValueError, KeyError, AttributeError):
            return ""  # not to know it is no trouble: the condition then says that the server has stopped

    async def _request(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        try:
            async with self._ask(method, path, PAGINATED, **more) as response:
                with suppress(ValueError, aiohttp.ContentTypeError):
                    return response.status, await response.json(content_type=None)
                return response.status, None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("no answer from JupyterHub", error=type(error).__name__)
            raise Away(f"JupyterHub's API at {self._url} does not answer") from None

    def _ask(self, method: str, path: str, accept: str, **more: Any) -> AbstractAsyncContextManager[ClientResponse]:
        headers = {"Authorization": f"token {self._token()}", "Accept": accept}
        url = URL(self._url + path, encoded=True)  # what is quoted stays quoted: a user may be called ../admin
        # Never after a redirect: the token is for the Hub alone.
        return self._http.request(method, url, headers=headers, allow_redirects=False, **more)

    def _token(self) -> str:
        # At each use: a Secret that is changed reaches the file, and needs no restart.
        try:
            token = self._file.read_text().strip() if self._file else ""
        except OSError as error:
            raise Away(f"the operator cannot read its token for JupyterHub: {error.strerror}") from None
        if not token or not token.isprintable():
            raise Away("the operator's token for JupyterHub is empty or not a token")
        return token

    def _unexpected(self, status: int, body: Any) -> str:
        if status in (401, 403):
            message = _message(body)
            return f"JupyterHub does not accept the operator's token: {message or status}{_hint(status, message)}"
        return f"JupyterHub's API at {self._url} answers {status}" if body else self._not_the_api()

    def _not_the_api(self) -> str:
        return f"what answers at {self._url} is not JupyterHub's API"


def _path(server: HubServer) -> str:
    user, name = quote(server.user, safe=""), quote(server.server, safe="")
    return f"/users/{user}/servers/{name}" if name else f"/users/{user}/server"


def _active(users: list[dict[str, Any]]) -> Iterator[tuple[HubServer, datetime | None]]:
    for user in users:
        if "servers" not in user:
            # Without it every server would look as if it were missing.
            raise Away(f"JupyterHub does not show servers to the operator{_hint(403, 'scopes')}")
        for name, server in user["servers"].items():
            if server["ready"] or server["pending"]:
                yield HubServer(user["name"], name), _last_used(server)


def _last_used(server: Mapping[str, Any]) -> datetime | None:
    used = untrusted.time_of(server.get("last_activity"))
    # JupyterHub begins with the start, which we may have asked for: nobody has used the server by that.
    return activity_at(used) if used and server["last_activity"] != server.get("started") else None


def _message(body: Any) -> str:
    return str(body.get("message", "")) if isinstance(body, dict) else ""


def _hint(status: int, message: str) -> str:
    return f" (its role needs the scopes {', '.join(SCOPES)})" if status == 403 and "scope" in message else ""
