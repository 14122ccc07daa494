"""Sends a signal to the one Python process of a container that was started with a word; process 1 is tini there.

``signal_process.py WORD SIGNAL [armed]``: with `armed` it says so once it has found the process, and waits for a line.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def words(process: Path) -> list[str]:
    """Return the command line of a process."""
    return (process / "cmdline").read_text().split("\0")


if __name__ == "__main__":
    word, number, *armed = sys.argv[1:]
    programs = {p: words(p) for p in Path("/proc").glob("[0-9]*")}
    # This program, which may run twice, is one of -c.
    pythons = {p: w[1:4] for p, w in programs.items() if "python" in w[0] and w[1] != "-c"}
    found = [p for p, arguments in pythons.items() if any(a.endswith(word) for a in arguments)]
    assert len(found) == 1, found
    if armed:
        print("armed", flush=True)
        sys.stdin.readline()
    os.kill(int(found[0].name), getattr(signal, number))
