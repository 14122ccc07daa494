"""One at a time: locks that the kernel drops when their process dies."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of this file; where another process has it, call ``waiting`` and wait."""
    with open(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)) as file:  # noqa: PTH123 (a descriptor)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
