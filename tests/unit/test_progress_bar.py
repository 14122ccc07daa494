"""Dask's progress bar, as the images configure it: silent in a log, drawn on a terminal; it waits in both."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PROGRAM = """
import time
from dask.distributed import Client, progress

with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
    future = client.submit(time.sleep, 0.3)
    progress(future)
    print(f"the task is {future.status}")
"""


def output(*, terminal: bool) -> str:
    """Return what the program prints, into a pipe or onto a terminal."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = os.environ | {"DASK_CONFIG": str(CHECKOUT / "images/analysis/dask")}
    argv = [sys.executable, "-c", PROGRAM]
    with os.fdopen(ours, "rb", buffering=0) as reader:
        with os.fdopen(theirs, "wb") as writer:
            started = subprocess.Popen(argv, cwd=CHECKOUT, env=environment, stdout=writer, stderr=writer)
        # A terminal whose last writer has gone is an error to read, not an end.
        said = b"".join(iter(lambda: read(reader.fileno()), b""))
        assert started.wait(30) == 0, said.decode()
    return said.decode()


def read(descriptor: int) -> bytes:
    """Return what there is to read, nothing at the end."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@pytest.mark.parametrize("terminal", [False, True], ids=["log", "terminal"])
def test_the_bar_is_for_terminals(terminal: bool) -> None:
    said = output(terminal=terminal)
    assert "the task is finished" in said
    assert ("% Completed" in said) is terminal
    assert ("\r[" in said) is terminal
    assert "distributed.preloading" not in said, "Dask does not tell of what it has loaded"
