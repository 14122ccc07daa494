"""Notebook servers as processes on loopback, with the environment that the operator gives."""

from __future__ import annotations

import http.cookiejar
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, Request, build_opener

from local_cluster.settings import CHECKOUT
from tests.support.hubs import free_port

START_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What came back: the status, and the page."""

    status: int
    body: str


class Browser:
    """Keeps cookies, follows redirects, asks no proxy."""

    def __init__(self) -> None:
        self.cookies = http.cookiejar.CookieJar()
        self._opener: OpenerDirector = build_opener(ProxyHandler({}), HTTPCookieProcessor(self.cookies))

    def get(self, url: str, token: str = "", data: bytes | None = None, **headers: str) -> Answer:
        """Ask, with a token in the header where one is given."""
        given = {**headers, **({"Authorization": f"token {token}"} if token else {})}
        try:
            with self._opener.open(Request(url, data, given), timeout=20) as answer:  # noqa: S310 - ours, on loopback
                return Answer(answer.status, answer.read().decode())
        except HTTPError as error:
            return Answer(error.code, error.read().decode())

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, empty where there is none of that name."""
        return next((c.value or "" for c in self.cookies if c.name == name), "")


@dataclass(frozen=True)
class NotebookServer:
    """A server that answers.

    Attributes
    ----------
    url
        With its path, without a slash at the end.
    token
        The session's own.
    """

    url: str
    token: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def notebook_server(folder: Path, path: str, environment: Mapping[str, str]) -> Iterator[NotebookServer]:
    """Run af-notebook until the end of the block; its home is `folder`."""
    port, log = free_port(), folder / "notebook.log"
    given = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AF_BASE_URL": path,
        "PYTHONPATH": str(CHECKOUT),  # the code beside these tests, also where another checkout is installed
        **environment,
    }
    program = str(Path(sys.executable).with_name("af-notebook"))
    argv = [program, f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1"]
    # Where the tests run as root, as in a container of their own, Jupyter asks for this.
    argv += ["--allow-root"]
    with log.open("ab") as output:
        process = subprocess.Popen(argv, cwd=folder, env=given, stdout=output, stderr=output, start_new_session=True)
    url = f"http://127.0.0.1:{port}{path.rstrip('/')}"
    server = NotebookServer(url, environment["JUPYTER_TOKEN"], log, process)
    try:
        _await_answer(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


def _await_answer(server: NotebookServer) -> None:
    browser, end = Browser(), time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if browser.get(f"{server.url}/api").status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"af-notebook does not answer:\n{server.log.read_text()}")
