"""Listens: ``python -m agent``."""

from __future__ import annotations

import hmac
import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .agent import Agent
from .spark_api import Spark, Unready

PORT = 8790
MAX_ASKED = 1_048_576


class Handler(BaseHTTPRequestHandler):
    """Answers 401 to who does not show the token, 400 to what is not understood, 503 while the master is not ready."""

    timeout = 5.0
    agent: Agent
    token: str

    def do_GET(self) -> None:
        """``GET /health``, for everybody."""
        if self.path == "/health":
            self._answer(200, {})
        elif self._is_known():
            self._answer(404, {})

    def do_POST(self) -> None:
        """``POST /af/v1/pools`` and ``POST /af/v1/scale``."""
        if not self._is_known():
            return
        route = {"/af/v1/pools": self.agent.pools, "/af/v1/scale": self.agent.scale}.get(self.path)
        try:
            length = min(int(self.headers["Content-Length"]), MAX_ASKED)
            self._answer(*((200, route(json.loads(self.rfile.read(length)))) if route else (404, {})))
        except Unready as error:
            self._answer(503, {"error": str(error)})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._answer(400, {"error": str(error)})

    def log_message(self, *_: object) -> None:
        """Say nothing of each request: there are some every second."""

    def _is_known(self) -> bool:
        """Return whether the token was shown; who shows none is answered here."""
        shown, right = self.headers.get("Authorization", ""), f"Bearer {self.token}"
        # Without a token is who starts again in a pod that a version without tokens made: it goes on as it was begun.
        if not self.token or hmac.compare_digest(shown.encode(), right.encode()):
            return True
        self._answer(401, {"error": "the session's token is needed"})
        return False

    def _answer(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(agent: Agent, token: str, port: int = PORT) -> ThreadingHTTPServer:
    """Return the server, which listens already."""
    return ThreadingHTTPServer(("", port), type("AgentHandler", (Handler,), {"agent": agent, "token": token}))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The first process of a container ignores SIGTERM by itself; and threads that wait for a driver are not waited for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asked = Spark(connect=os.environ.get("AF_SPARK_UI", "").rstrip("/"), key=os.environ.get("AF_SPARK_PAGE_KEY", ""))
    found = Agent(asked)
    threading.Thread(target=found.keep_looking, args=(threading.Event(),), daemon=True).start()
    serve(found, os.environ.get("AF_SPARK_TOKEN", "")).serve_forever()
