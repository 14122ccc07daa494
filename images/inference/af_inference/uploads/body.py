"""The body of an upload to a file, as it came: nothing inflates it on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

from af_inference.asgi import Receive, Scope, header
from af_inference.errors import Invalid, TooLarge

CHUNK = 1 << 20


async def save(scope: Scope, receive: Receive, file: Path, most: int) -> None:
    """Write a request's body to a file.

    Raises
    ------
    TooLarge
        It has more bytes than ``most``; the rest is not read.
    Invalid
        The client went away, or sent nothing.
    """
    if int(header(scope, b"content-length") or 0) > most:  # a number: the HTTP parser saw to it
        raise _too_large(most)
    size, more = 0, True
    with file.open("xb") as opened:
        while more:
            chunk, more = await _chunk(receive)
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            await asyncio.to_thread(opened.write, chunk)
    if not size:
        raise Invalid("the body is empty: send a tar archive, or a multipart form")


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    """Return about a MiB, and whether there is more."""
    parts, size, more = [], 0, True
    while more and size < CHUNK:
        message = await receive()
        if message["type"] != "http.request":
            raise Invalid("the client went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    return b"".join(parts), more


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"an upload may have {most} bytes")
