"""Listens: ``python -m agent``."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .agent import Agent
from .spark_api import Unready

PORT = 8790
MAX_ASKED = 1_048_576


class Handler(BaseHTTPRequestHandler):
    """Answers 400 with a sentence to what is not understood, and 503 while the master is not ready."""

    timeout = 5.0
    agent: Agent

    def do_GET(self) -> None:
        """``GET /health``."""
        self._answer(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        """``POST /af/v1/pools`` and ``POST /af/v1/scale``."""
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

    def _answer(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(agent: Agent, port: int = PORT) -> ThreadingHTTPServer:
    """Return the server, which listens already."""
    return ThreadingHTTPServer(("", port), type("AgentHandler", (Handler,), {"agent": agent}))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The first process of a container ignores SIGTERM by itself; and threads that wait for a driver are not waited for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    found = Agent(connect=os.environ.get("AF_SPARK_UI", "").rstrip("/"))
    threading.Thread(target=found.keep_looking, args=(threading.Event(),), daemon=True).start()
    serve(found).serve_forever()
