"""What ends `af` from outside: SIGINT, SIGTERM, SIGHUP, and nobody being there to read what it writes."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNREAD = {errno.EPIPE, errno.EIO}
"""What a write says where nobody reads any more: a pipe's other end is closed; a terminal is gone."""

SAME_SECONDS = 1.0
"""A signal so soon after another is the same one: timeout(1) tells its child, and then all in its process group."""


class Stopped(BaseException):  # no Exception: what goes on after an error must not go on after this
    """`af` is to end.

    Parameters
    ----------
    number
        Of the signal; SIGPIPE where nobody reads what is written.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell says it."""
        return 128 + self.number


@contextmanager
def stopping() -> Iterator[None]:
    """Raise ``Stopped`` in the block for whatever ends `af` from outside."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with _handled(stop):
        try:
            yield
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT) from None
        except OSError as error:
            if error.errno not in UNREAD:
                raise
            raise Stopped(signal.SIGPIPE) from error


@contextmanager
def held() -> Iterator[None]:
    """Let the block come to its end before the first signal raises ``Stopped``; a second one does so at once."""
    arrived: list[int] = []

    def keep(number: int) -> None:
        arrived.append(number)
        if len(arrived) > 1:
            raise Stopped(number)

    with _handled(keep):
        yield
    if arrived:
        raise Stopped(arrived[0])


@contextmanager
def until_ctrl_c() -> Iterator[None]:
    """Let SIGINT end the block, and nothing more: that is how who looks at something ends it."""
    try:
        yield
    except Stopped as stop:
        if stop.number != signal.SIGINT:
            raise


@contextmanager
def _handled(act: Callable[[int], None]) -> Iterator[None]:
    last = float("-inf")

    def handler(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        same, last = time.monotonic() - last < SAME_SECONDS, time.monotonic()
        if not same:
            act(number)

    # What is ignored stays so: nohup ignores SIGHUP for us, and a shell without job control SIGINT for what has a `&`.
    before = {number: found for number in ENDING if (found := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)


def unread(stream: TextIO) -> bool:
    """Return whether nobody reads the other end of a stream any more."""
    with suppress(OSError, ValueError, AttributeError):  # in tests it is no file
        poll = select.poll()
        poll.register(stream, 0)
        return any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
    return False


def let_go_of_unread() -> None:
    """Write to nowhere what is left for nobody to read: Python's own end would complain of it, and end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def asks_a_person() -> bool:
    """Return whether somebody can be asked: at a terminal, in whose foreground nobody is who was begun with a `&`."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
