"""Writes files to the origin, or opens and reads them through the session's cache; paths and sizes come on stdin."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from XRootD.client import File
from XRootD.client.flags import OpenFlags


def write(url: str, size: int) -> None:
    """Write a file of random bytes."""
    with File() as file:
        _sure(file.open(url, OpenFlags.NEW | OpenFlags.MAKEPATH))
        _sure(file.write(os.urandom(size)))


def read(url: str) -> tuple[float, int]:
    """Return how many seconds the open of a file took, and how many bytes it has."""
    begun = time.monotonic()
    with File() as file:
        _sure(file.open(url))
        return time.monotonic() - begun, len(_sure(file.read()))


def _sure(answer: tuple[Any, Any]) -> Any:
    if not answer[0].ok:
        sys.exit(str(answer[0]))
    return answer[1]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    for url, size in asked.get("write", {}).items():
        write(url, size)
    print(json.dumps([read(url) for url in asked.get("read", ())]))
