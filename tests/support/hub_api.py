"""JupyterHub's REST API as one of its users has it, and the notebook server behind it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
import websocket
from websocket import WebSocket

from tests.support.tenant import Body, poll

SECONDS = 30
"""Longest time that one answer may take."""


@dataclass(frozen=True)
class HubUser:
    """Somebody who has logged in.

    Attributes
    ----------
    base
        URL of the Hub, without a slash at its end.
    token
        With all that the user may do.
    browser
        The session of the login: with cookies, as a browser has them, and no token.
    """

    base: str
    name: str
    token: str
    browser: requests.Session

    @classmethod
    def login(cls, base: str, name: str, password: str) -> HubUser:
        """Log in by the form, which is what makes the Hub know the user; then get a token."""
        base, browser = base.rstrip("/"), requests.Session()
        browser.get(f"{base}/hub/login", timeout=SECONDS).raise_for_status()
        form = {"username": name, "password": password, "_xsrf": browser.cookies["_xsrf"]}
        answer = browser.post(f"{base}/hub/login", data=form, timeout=SECONDS, allow_redirects=False)
        assert answer.status_code == 302, f"{name!r} cannot log in: {answer.status_code} {answer.text[-2000:]}"
        asked = {"auth": {"username": name, "password": password}, "note": "end-to-end test", "expires_in": 3600}
        answer = requests.post(f"{base}/hub/api/users/{quoted(name)}/tokens", json=asked, timeout=SECONDS)
        answer.raise_for_status()
        return cls(base, name, answer.json()["token"], browser)

    def hub(self, method: str, path: str, **more: Any) -> requests.Response:
        """Ask the Hub's API, below ``/hub/api/users/<name>``."""
        return self.ask(method, f"/hub/api/users/{quoted(self.name)}{path}", **more)

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Ask anything of the Hub or of a server behind it, with the user's token."""
        more = {
            "headers": {"Authorization": f"token {self.token}"},
            "timeout": SECONDS,
            "allow_redirects": False,
        } | more
        return requests.request(method, self.base + path, **more)  # noqa: S113 (it is in `more`)

    def server(self, name: str) -> Body:
        """Return what the Hub says of a server, running or not; empty if it knows none of this name."""
        answer = self.hub("GET", "?include_stopped_servers")
        answer.raise_for_status()
        found: Body = answer.json()["servers"].get(name, {})
        return found

    def launch(self, server: str, options: Body | None = None) -> None:
        """Ask for a server; it is pending afterwards, or already ready."""
        answer = self.hub("POST", f"/servers/{server}", json=options)
        assert answer.status_code in (201, 202), f"{answer.status_code} {answer.text}"

    def ready(self, server: str, seconds: float = 120) -> Body:
        """Wait until the Hub says that a server is ready."""

        def settled() -> Body:
            found = self.server(server)
            return found if found.get("ready") or (found and not found.get("pending")) else {}

        found = poll(settled, f"server {self.name}/{server} is ready: {self.server(server)}", seconds)
        assert found["ready"], f"server {self.name}/{server} has not started: {found}"
        return found

    def progress(self, server: str, seconds: float = 60) -> Iterator[Body]:
        """Yield what the page of a starting server is told, until it is up or has failed."""
        path = f"/servers/{server}/progress"
        with self.hub("GET", path, stream=True, timeout=seconds, headers=self._headers("text/event-stream")) as answer:
            for line in answer.iter_lines():
                if line.startswith(b"data:"):
                    yield json.loads(line.removeprefix(b"data:"))

    def stop(self, server: str) -> None:
        """Stop a server, and wait until the Hub says so."""
        self.hub("DELETE", f"/servers/{server}").raise_for_status()
        poll(lambda: self.server(server).get("stopped", True), f"server {server} has stopped")

    def delete(self, server: str) -> None:
        """Remove a server from the user's list, and with it the session."""
        self.hub("DELETE", f"/servers/{server}", json={"remove": True}).raise_for_status()
        poll(lambda: not self.server(server), f"server {server} is gone")

    def forget_servers(self) -> None:
        """Remove every named server from the user's list, in whatever state; the default one cannot be removed."""

        def left() -> list[str]:
            servers = self.hub("GET", "?include_stopped_servers").json()["servers"]
            return [name for name in servers if name]

        def empty() -> bool:
            for name in (names := left()):
                # 400 while it is about to start or to stop: asked again
                self.hub("DELETE", f"/servers/{name}", json={"remove": True})
            return not names

        poll(empty, f"the list of servers of {self.name} is empty")

    def path(self, server: str, *more: str) -> str:
        """Return the path of something on a server: ``/user/alice/zmumu/api/status``."""
        return "/" + "/".join(part for part in ("user", quoted(self.name), server, *more) if part)

    def notebook(self, method: str, server: str, path: str, **more: Any) -> Any:
        """Ask a notebook server, through the proxy; return its answer's JSON."""
        answer = self.ask(method, self.path(server, path), **more)
        assert answer.ok, f"{method} {path} of {server}: {answer.status_code} {answer.text[-500:]}"
        return answer.json() if answer.content else None

    def kernel(self, server: str) -> str:
        """Start a kernel and return its id."""
        return str(self.notebook("POST", server, "api/kernels", json={"name": "python3"})["id"])

    def run(self, server: str, kernel: str, code: str, seconds: float = 60) -> str:
        """Run code in a kernel and return what it prints; fails where the code does."""
        with self._channels(server, kernel, seconds) as channels:
            message = uuid.uuid4().hex
            header = {"msg_id": message, "msg_type": "execute_request", "username": "", "session": message}
            content = {"code": code, "silent": False, "store_history": False, "stop_on_error": True}
            sent = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
            channels.send(json.dumps(sent))
            return _printed(channels, message)

    @contextmanager
    def _channels(self, server: str, kernel: str, seconds: float) -> Iterator[WebSocket]:
        url = self.base.replace("http", "ws", 1) + self.path(server, "api/kernels", kernel, "channels")
        channels = websocket.create_connection(url, header=[f"Authorization: token {self.token}"], timeout=seconds)
        try:
            yield channels
        finally:
            channels.close()

    def _headers(self, accept: str) -> dict[str, str]:
        return {"Authorization": f"token {self.token}", "Accept": accept}


def quoted(name: str) -> str:
    """Return a user's name as JupyterHub writes it in a path."""
    return quote(name, safe="@~")


def _printed(channels: WebSocket, message: str) -> str:
    printed = ""
    while True:
        answer = json.loads(channels.recv())
        if answer["parent_header"].get("msg_id") != message:
            continue
        content = answer["content"]
        if answer["msg_type"] == "stream":
            printed += content["text"]
        elif answer["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))
        elif answer["msg_type"] == "status" and content["execution_state"] == "idle":
            return printed
