"""The body of an upload to a file, as it came: nothing inflates it on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from af_inference.asgi import Receive, Scope, header
from af_inference.errors import Invalid, TooLarge

CHUNK = 1 << 20
# For the next MiB: who sends nothing takes nobody else's place for ever.
STALLED_SECONDS = 60


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
    with file.open("xb") as opened, _stalled():
        while more:
            async with asyncio.timeout(STALLED_SECONDS):
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


@contextmanager
def _stalled() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Invalid(f"less than a MiB came in {STALLED_SECONDS} s: send it again") from None


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"an upload may have {most} bytes")
