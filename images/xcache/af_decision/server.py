"""Listens to the cache's plugin on a UNIX socket, and to Prometheus over HTTP."""

from __future__ import annotations

import asyncio

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


async def publish(policy: Policy, port: int, host: str | None = None) -> asyncio.Server:
    """Return the server for Prometheus and the kubelet, whatever they ask for: it has one page."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"\r\n\r\n")
                body = metrics.text(policy).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # Whoever it was has gone, or is no HTTP client.
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=MOST_LINE)
