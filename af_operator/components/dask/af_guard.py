"""Runs inside Dask's scheduler and workers, as a preload: their HTTP answers only who shows the session's token.

Dask's pages and the routes beside them ask nobody who they are, and one of them retires workers. So every request is
looked at where the server takes it, before any route: also those that Bokeh or another preload adds later, and those
that become a WebSocket. ``/health`` alone is open, for the kubelet.

It needs nothing but distributed, so that it runs in any image that has Dask. What is imported by a preload is there
before the server is; where Dask has changed so that this guards nothing, it does not start.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from distributed import node
from distributed.http import proxy
from distributed.http.proxy import GlobalProxyHandler, check_worker_dashboard_exists
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.web import HTTPError

TOKEN = Path("/af/dask/token")
OPEN = "/health"
UNKNOWN = "this version of Dask starts its HTTP server in another way: it would let everybody in"


class GuardedServer(HTTPServer):
    """What Dask starts instead of Tornado's own."""

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Return who takes a request; called for each of a connection."""
        return Guard(super().start_request(server_conn, request_conn), request_conn)


class Guard(HTTPMessageDelegate):
    """Passes on a request that may ask, and answers any other by itself."""

    def __init__(self, inside: HTTPMessageDelegate, connection: HTTPConnection) -> None:
        self._delegate = inside
        self._connection = connection

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Decide; what comes later of this request goes where this went."""
        if not may_ask(start_line, headers):
            self._delegate = Refusal(self._connection)
        # Bokeh writes into its pages what a request was asked with: a browser would read the token there.
        headers.pop("Authorization", None)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Pass on a part of the body."""
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        """Have the request answered."""
        self._delegate.finish()

    def on_connection_close(self) -> None:
        """Tell that nobody waits for the answer any more."""
        self._delegate.on_connection_close()


class Refusal(HTTPMessageDelegate):
    """Answers 401, and keeps nothing of what is sent."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def finish(self) -> None:
        """Answer, once all of the request was read."""
        headers = HTTPHeaders({"WWW-Authenticate": "Bearer", "Content-Length": "0"})
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", 401, "Unauthorized"), headers)
        self._connection.finish()


class WorkerPage(GlobalProxyHandler):
    """Shows the pages of a worker, which asks for the token, too; at no other address does anybody hear of it."""

    async def prepare(self) -> None:
        """Refuse what is no worker's: Dask's own handler passes a WebSocket on to any host that is named."""
        port, host, _ = self.path_args
        if not check_worker_dashboard_exists(self.scheduler, f"{host}:{port}"):
            raise HTTPError(404)
        await super().prepare()

    def get_request_headers_override(self) -> dict[str, str]:
        """Return what is added to the request."""
        return {"Authorization": f"Bearer {TOKEN.read_text().strip()}"}


def may_ask(start_line: Any, headers: HTTPHeaders) -> bool:
    """Return whether a request shows the token, or asks for what is open."""
    if start_line.path == OPEN:
        return True
    try:
        # Read each time: where the Secret was made anew, the operator asks with the new one.
        token = TOKEN.read_text().strip()
    except OSError:
        return False
    shown = headers.get("Authorization", "").encode()
    return bool(token) and hmac.compare_digest(shown, f"Bearer {token}".encode())


def dask_setup(server: Any) -> None:
    """Check that this very server is guarded; called by Dask when it has started."""
    if not isinstance(server.http_server, GuardedServer):
        raise SystemExit(UNKNOWN)  # an exception would be logged, and the server go on


if getattr(node, "HTTPServer", None) is None:
    raise ImportError(UNKNOWN)
node.HTTPServer = GuardedServer
if hasattr(GlobalProxyHandler, "proxy"):  # else there is no jupyter-server-proxy, and it passes nothing on
    proxy.routes = [(path, WorkerPage, options) for path, _, options in proxy.routes]
