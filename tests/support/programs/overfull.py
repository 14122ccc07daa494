"""Reads three files again and again, until there is a file ``stop`` at the origin; leaves how that went."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from XRootD.client import File, FileSystem
from XRootD.client.flags import OpenFlags

CHUNK, SIZE, FILES = 2 << 20, 150 << 20, 3
ORIGIN = os.environ["ORIGIN"]


def make(url: str) -> None:
    """Make a file that takes no disk at the origin: it is long, and nothing is in it."""
    with File() as file:
        assert file.open(url, OpenFlags.DELETE)[0].ok
        assert file.truncate(SIZE)[0].ok


def read(url: str) -> float:
    """Read a file from end to end, and return the longest that one read took."""
    done, longest = 0, 0.0
    with File() as file:
        status, _ = file.open(url)
        assert status.ok, status.message
        while done < SIZE:
            begin = time.monotonic()
            status, found = file.read(done, CHUNK)
            assert status.ok, status.message
            assert found == bytes(len(found)), "other bytes than the file's"
            longest = max(longest, time.monotonic() - begin)
            done += len(found)
    return longest


def main() -> None:
    """Read until somebody says stop."""
    urls = [f"{ORIGIN}//results/long-{number}" for number in range(FILES)]
    for url in urls:
        make(url)
    time.sleep(5)  # what was written just now is not kept yet
    longest, rounds = 0.0, 0
    while rounds == 0 or not FileSystem(ORIGIN).stat("/results/stop")[0].ok:
        for url in urls:
            longest = max(longest, read(url))
            print(f"read {url}, {longest:.1f} s for the longest read", flush=True)
        rounds += 1
    Path(os.environ["AF_RESULTS"], "reads.json").write_text(json.dumps({"rounds": rounds, "longest": longest}))


if __name__ == "__main__":
    main()
