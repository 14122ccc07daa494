"""An API server with sessions, over HTTP, for `af` as a process of its own: who made what, and what is left."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

RUNNING = {
    "observedGeneration": 1,
    "phase": "Running",
    "conditions": [{"type": "RunReady", "status": "True", "reason": "Running", "message": ""}],
    "run": {"pod": "p1"},
}


class SessionServer(ThreadingHTTPServer):
    """Sessions run for ever; their log is `log`, and then nothing more comes.

    Attributes
    ----------
    create_seconds
        A create is answered so much later; it is stored at once.
    lose
        Creates are stored and not answered: the connection breaks.
    foreign
        What is stored is another's, of that name.
    delete_seconds
        A delete takes so long.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sessions: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.log: Iterator[str] | list[str] = ["first line"]
        self.create_seconds = self.delete_seconds = 0.0
        self.lose = self.foreign = False
        self.deletes_refused = 0
        self.over = threading.Event()

    def kubeconfig(self, path: Path, **user: Any) -> Path:
        """Write the kubeconfig of somebody who is known here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "alice", "namespace": "physics"}}],
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{self.server_address[1]}"}}],
            "users": [{"name": "alice", "user": user or {"token": "alice"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path


@contextmanager
def session_server() -> Iterator[SessionServer]:
    """Serve until the context ends."""
    with SessionServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: SessionServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else None

    def _answer(self, body: Any, code: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, code: int, reason: str, message: str = "") -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        details = {"name": name, "kind": "analysissessions"}
        self._answer({"reason": reason, "message": message or reason, "details": details}, code)

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("selfsubjectreviews"):
            return self._answer({"status": {"userInfo": {"username": "alice"}}})
        name = body["metadata"]["name"]
        self.server.requests.append(f"POST {name}")
        meta = body["metadata"] | {"uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
        self.server.sessions[name] = body | {"metadata": meta, "status": RUNNING}
        if self.server.foreign:
            meta["annotations"] = {}
        if self.server.lose:
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        time.sleep(self.server.create_seconds)
        return self._answer(self.server.sessions[name], 201)

    def do_DELETE(self) -> None:
        self._body()
        name = self.path.rpartition("/")[2]
        self.server.requests.append(f"DELETE {name}")
        if self.server.deletes_refused:
            self.server.deletes_refused -= 1
            return self._refuse(503, "ServiceUnavailable")
        time.sleep(self.server.delete_seconds)
        found = self.server.sessions.pop(name, None)
        return self._answer(found) if found else self._refuse(404, "NotFound")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.endswith("/log"):
            return self._stream(
                f"2026-01-01T00:00:00.{number:09}Z {line}" for number, line in enumerate(self.server.log)
            )
        if "watch=true" in self.path:
            return self._stream([])
        if name == "analysissessions":
            return self._answer({"items": list(self.server.sessions.values())})
        found = self.server.sessions.get(name)
        return self._answer(found) if found else self._refuse(404, "NotFound")

    def _stream(self, lines: Any) -> None:
        """Send lines, then say nothing until all is over."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for line in lines:
                data = line.encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            self.server.over.wait()
        except OSError:
            pass  # who has asked is gone
