"""The real server in a process of its own, on ports of loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKEN = "t0ken-of-the-tests"
PACKAGE = Path(__file__).parents[3] / "images/inference"
_WAIT_SECONDS = 30


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes
    ----------
    http, grpc
        Ports.
    """

    process: subprocess.Popen[bytes]
    http: int
    grpc: int
    log: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request with the token, and return what comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def until_ready(self) -> None:
        """Wait until all models have answered."""
        self.until(lambda: self.ask("GET", "/v2/health/ready").status == 200)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, as long as the server runs."""
        end = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(ConnectionError):
                if holds():
                    return
            time.sleep(0.02)
        raise AssertionError(f"the server said: {self.log.read_text()}")

    def post(self, path: str, body: Any) -> Answer:
        """Send JSON."""
        return self.ask("POST", path, json.dumps(body).encode())


@dataclass(frozen=True)
class Answer:
    """A whole answer of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def config(folder: Path, **settings: Any) -> Path:
    """Write a configuration, with a token, and return its file."""
    (folder / "token").write_text(f"{TOKEN}\n")
    ports = {"http": free_port(), "grpc": free_port()}
    body = {"host": "127.0.0.1", "token": str(folder / "token"), **ports, **settings}
    file = folder / "config.json"
    file.write_text(json.dumps(body))
    return file


@contextlib.contextmanager
def serving(file: Path, wait: bool = True) -> Iterator[Running]:
    """Run the server of a configuration, ready if that is waited for; at the end it must go by itself on SIGTERM."""
    said = {"http": 0, "grpc": 0, **json.loads(file.read_text())}
    log = file.with_name("server.log")
    env = {**os.environ, "AF_INFERENCE_CONFIG": str(file), "PYTHONPATH": str(PACKAGE)}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "af_inference"], env=env, stderr=out, stdout=out)
    try:
        running = Running(process, said["http"], said["grpc"], log)
        path = said.get("base", "") + ("/v2/health/ready" if wait else "/v2/health/live")
        running.until(lambda: running.ask("GET", path).status == 200)
        yield running
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
