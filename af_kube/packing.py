"""Bodies as bytes: an object in memory is ten times its text, and forty times what that can be packed to."""

from __future__ import annotations

import json
import zlib
from functools import lru_cache
from typing import Any

from af_kube.store import Body

WINDOW = 32_768
"""Bytes that zlib looks back."""
RECENT = 512
"""Bodies that are kept unpacked as well, over all kinds: what several passes in a row look at."""


class Packing:
    """Of the objects of one kind, of which most are alike: the first one is the dictionary of all others."""

    def __init__(self) -> None:
        self._dictionary = b""

    def pack(self, body: Body) -> bytes:
        """Return an object as bytes."""
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        self._dictionary = self._dictionary or text[:WINDOW]
        deflate = zlib.compressobj(
            1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, self._dictionary
        )
        return deflate.compress(text) + deflate.flush()

    def unpack(self, packed: bytes) -> Body:
        """Return the object; nobody may change it, since others are given the same one."""
        return _unpacked(packed, self._dictionary)


@lru_cache(RECENT)
def _unpacked(packed: bytes, dictionary: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(zlib.decompressobj(zdict=dictionary).decompress(packed))
    return body
