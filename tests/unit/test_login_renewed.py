"""A command that outlives its token: a file is read again, a plug-in is asked again, and neither more than needed."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_client.transport import Cluster
from af_kube import kubeconfig
from af_kube.request import Request

PLUGIN = """
import json, pathlib, sys
asked = pathlib.Path(__file__).with_name("asked")
number = len(asked.read_text()) if asked.exists() else 0
asked.write_text("x" * (number + 1))
status = {"token": f"token-{number}"} | json.loads(sys.argv[1])
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""
Connect = Callable[[dict[str, Any]], Cluster]


class Clock:
    """Stands for the module `time` of who reads kubeconfigs."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


class Handler(BaseHTTPRequestHandler):
    """Remembers who asks."""

    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(kubeconfig, "time", found)
    return found


@pytest.fixture
def seen() -> list[str | None]:
    return []


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str | None]) -> Iterator[Connect]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Recording", (Handler,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def connected(user: dict[str, Any]) -> Cluster:
        file = tmp_path / "kubeconfig"
        cluster = {"server": f"http://127.0.0.1:{server.server_port}"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "ci",
            "clusters": [{"name": "ci", "cluster": cluster}],
            "users": [{"name": "ci", "user": user}],
            "contexts": [{"name": "ci", "context": {"cluster": "ci", "user": "ci", "namespace": "physics"}}],
        }
        file.write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(file))
        return Cluster()

    yield connected
    server.shutdown()
    server.server_close()
    thread.join()


def plugin(folder: Path, **status: str) -> dict[str, Any]:
    """Return a kubeconfig's user with a plug-in that counts how often it was asked."""
    (folder / "plugin.py").write_text(PLUGIN)
    arguments = [str(folder / "plugin.py"), json.dumps(status)]
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": arguments}}


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ask(cluster: Cluster) -> None:
    cluster.call(Request("GET", "/version"))


def test_a_file_is_read_again_after_a_minute(
    tmp_path: Path, connect: Connect, clock: Clock, seen: list[str | None]
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")  # beside the kubeconfig, and as an editor leaves it
    cluster = connect({"tokenFile": "token"})
    ask(cluster)
    file.write_text("second\n")
    ask(cluster)
    clock.now += kubeconfig.TOKEN_SECONDS + 1
    ask(cluster)
    assert seen == ["Bearer first", "Bearer first", "Bearer second"]


def test_a_websocket_has_the_new_token_too(tmp_path: Path, connect: Connect, clock: Clock) -> None:
    (tmp_path / "token").write_text("first")
    cluster = connect({"tokenFile": "token"})
    ask(cluster)
    (tmp_path / "token").write_text("second")
    clock.now += kubeconfig.TOKEN_SECONDS + 1
    assert cluster.websocket(Request("GET", "/x")).headers["Authorization"] == "Bearer second"


def test_a_plug_in_is_asked_again_shortly_before_the_end(
    tmp_path: Path, connect: Connect, seen: list[str | None]
) -> None:
    cluster = connect(plugin(tmp_path, expirationTimestamp=after(10)))
    ask(cluster)
    ask(cluster)
    assert seen == ["Bearer token-0", "Bearer token-1"]


@pytest.mark.parametrize("status", [{"expirationTimestamp": after(3600)}, {}], ids=["lives", "says nothing"])
def test_a_plug_in_is_not_asked_for_each_request(
    tmp_path: Path, connect: Connect, clock: Clock, seen: list[str | None], status: dict[str, str]
) -> None:
    cluster = connect(plugin(tmp_path, **status))
    ask(cluster)
    clock.now += kubeconfig.TOKEN_SECONDS + 1
    ask(cluster)
    assert seen == ["Bearer token-0", "Bearer token-0"]
