"""Bodies in, replies out, on bare ASGI: what Starlette adds to it costs more than a run of a small model."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from af_inference import log
from af_inference.errors import Failed, Invalid, Problem, TooLarge, Unsupported

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"
_READ_SECONDS = 60


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of that name, which must be in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body as it came, never inflated.

    Raises
    ------
    TooLarge
        It has more bytes than ``most``; the rest is not read.
    Invalid
        The client went away.
    """
    if int(header(scope, b"content-length") or 0) > most:  # a number: the HTTP parser saw to it
        raise TooLarge(f"a body may have {most} bytes: send it in parts")
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message["body"]
        _check_size(len(body), most)
        return body
    try:
        async with asyncio.timeout(_READ_SECONDS):  # or who sends slowly would keep others out
            return await _read_on(message, receive, most)
    except TimeoutError:
        raise Invalid(f"the body has not come within {_READ_SECONDS} seconds") from None


def inflate(body: bytes, encoding: bytes, most: int) -> bytes:
    """Return a body without its Content-Encoding.

    Raises
    ------
    Unsupported
        The encoding is neither gzip nor deflate.
    TooLarge
        More bytes than ``most`` would come of it.
    Invalid
        It is not what it says.
    """
    if encoding not in (b"gzip", b"deflate"):
        raise Unsupported("Content-Encoding must be gzip, deflate, or none")
    stream = zlib.decompressobj(47)  # zlib's or gzip's head, whichever comes
    try:
        inflated = stream.decompress(body, most)
    except zlib.error:
        raise Invalid(f"the body is no {encoding.decode()}") from None
    if stream.unconsumed_tail:
        raise TooLarge(f"a body may have {most} bytes when it is inflated: send it in parts")
    if not stream.eof or stream.unused_data:
        raise Invalid(f"the body is no whole {encoding.decode()}")
    return inflated


async def _read_on(message: MutableMapping[str, Any], receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while message["type"] == "http.request":
        parts.append(message["body"])
        size += len(parts[-1])
        _check_size(size, most)
        if not message["more_body"]:
            return b"".join(parts)
        message = await receive()
    raise Invalid("the client went away")


async def reply(
    send: Send, body: bytes, content_type: bytes = JSON, status: int = 200, headers: Headers | None = None
) -> None:
    """Send a whole answer."""
    sent = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


async def reply_problem(send: Send, problem: Problem) -> None:
    """Send what went wrong, in words."""
    headers: Headers = []
    if problem.retry_after is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after))
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="inference"'))
    await reply(send, orjson.dumps({"error": str(problem)}) + b"\n", status=problem.status, headers=headers)


def as_problem(error: Exception) -> Problem:
    """Return an error as one that can be answered with; what nobody foresaw is logged, and not told."""
    if isinstance(error, Problem):
        return error
    log.error("request failed", error)
    return Failed("this is an error of the server: its log says more")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise TooLarge(f"a body may have {most} bytes: send it in parts")
