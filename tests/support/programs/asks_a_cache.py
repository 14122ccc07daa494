"""Asks a cache for whatever can be asked of it; prints what was answered. Who asks is whose key XrdSecSSSKT names."""

from __future__ import annotations

import json
import sys

from XRootD.client import File, FileSystem
from XRootD.client.flags import OpenFlags, PrepareFlags, QueryCode

SECONDS = 10


def opened(url: str, flags: OpenFlags = OpenFlags.READ) -> bool:
    """Return whether a file is opened, whoever does it in the end."""
    with File() as file:
        return bool(file.open(url, flags, timeout=SECONDS)[0].ok)


def main() -> None:
    """Ask the cache at the first argument, of the file in the second."""
    cache, path = sys.argv[1:]
    files = FileSystem(cache)
    asked = {
        "read": opened(f"{cache}/{path}"),
        "write": opened(f"{cache}/{path}.new", OpenFlags.NEW),
        "stat": files.stat(path, timeout=SECONDS)[0].ok,
        "statvfs": files.statvfs(path, timeout=SECONDS)[0].ok,
        "locate": files.locate(path, OpenFlags.REFRESH, timeout=SECONDS)[0].ok,
        "list": files.dirlist("/", timeout=SECONDS)[0].ok,
        "remove": files.rm(path, timeout=SECONDS)[0].ok,
        "move": files.mv(path, f"{path}.moved", timeout=SECONDS)[0].ok,
        "make": files.mkdir(f"{path}.d", timeout=SECONDS)[0].ok,
        "truncate": files.truncate(path, 0, timeout=SECONDS)[0].ok,
        "prepare": files.prepare([path], PrepareFlags.STAGE, timeout=SECONDS)[0].ok,
        "ping": files.ping(timeout=SECONDS)[0].ok,
        "counters": files.query(QueryCode.STATS, "a", timeout=SECONDS)[0].ok,
        "configuration": files.query(QueryCode.CONFIG, "version role sitename", timeout=SECONDS)[0].ok,
        "checksum": files.query(QueryCode.CHECKSUM, path, timeout=SECONDS)[0].ok,
        "space": files.query(QueryCode.SPACE, "/", timeout=SECONDS)[0].ok,
    }
    print(json.dumps([what for what, ok in asked.items() if ok]))


if __name__ == "__main__":
    main()
