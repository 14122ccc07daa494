"""Listens to the cache's plugin on a UNIX socket, and to Prometheus over HTTP."""

from __future__ import annotations

import asyncio
import hmac
import io
from http import HTTPStatus
from http.client import HTTPException, parse_headers

from . import metrics
from .policy import Policy

MOST_LINE = 8192
BACKLOG = 512
PATIENCE = 5.0
"""Seconds for the head of an HTTP request."""


async def listen(policy: Policy, socket: str) -> asyncio.Server:
    """Return the server for the plugin: a line is a question, and one byte the answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            what, _, path = (await reader.readline()).decode(errors="surrogateescape").rstrip("\n").partition(" ")
            if what == "hit":
                policy.hit(path)
            elif what == "miss":
                writer.write(b"1" if await policy.keep(path) else b"0")
        except ValueError:
            pass  # Longer than any path is.
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, socket, backlog=BACKLOG, limit=MOST_LINE)


async def publish(policy: Policy, port: int, token: str, host: str | None = None) -> asyncio.Server:
    """Return the server for Prometheus, which shows the token, and for the kubelet, which asks for its health."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = _page(policy, token, await reader.readuntil(b"\r\n\r\n"))
                head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; version=0.0.4\r\n"
                challenge = "WWW-Authenticate: Bearer\r\n" if status is HTTPStatus.UNAUTHORIZED else ""
                end = f"{challenge}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                writer.write((head + end).encode() + body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # Whoever it was has gone, or is no HTTP client.
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=MOST_LINE)


def _page(policy: Policy, token: str, head: bytes) -> tuple[HTTPStatus, bytes]:
    """Return what answers a request: the counters, whatever else is asked for, to whoever shows the token."""
    request, _, lines = head.partition(b"\r\n")
    if request.split()[1:2] == [b"/health"]:
        return HTTPStatus.OK, b"ok\n"
    try:
        shown = parse_headers(io.BytesIO(lines)).get("Authorization", "")
    except HTTPException:
        shown = ""
    if not token or not hmac.compare_digest(shown.encode(errors="replace"), f"Bearer {token}".encode()):
        return HTTPStatus.UNAUTHORIZED, b"show the token of the session's cache\n"
    return HTTPStatus.OK, metrics.text(policy).encode()
