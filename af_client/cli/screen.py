"""Showing events to people: a live picture on a terminal until the log begins, appended lines elsewhere."""

from __future__ import annotations

import sys
import time
from signal import SIGPIPE

import click
from rich.console import Console
from rich.live import Live

from af_client.cli.command_line import known
from af_client.cli.picture import picture
from af_client.cli.signals import Stopped, unread
from af_client.errors import TimedOut
from af_client.follow import Event, Follower, LogLine, Notice
from af_client.model import Session
from af_client.progress import NOT_PICKED_UP, changes, explain
from af_client.sessions import Sessions
from af_client.terminal import shown

PATIENCE_SECONDS = 15.0
"""A running operator answers within a second or two."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Do not end the process, as rich would: there may be a session to delete."""
        raise Stopped(SIGPIPE)


class Screen:
    """Progress on stderr; the run's log on stdout, or on stderr where stdout is for JSON.

    Parameters
    ----------
    log_to_stderr
        Keep stdout free of the log.
    """

    def __init__(self, log_to_stderr: bool = False) -> None:
        self._console = _Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._log_to_stderr = log_to_stderr
        self._started = time.monotonic()
        self._session: Session | None = None
        self._complained = False
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if self._redraws() else None

    def _redraws(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, LogLine):
            self.append_only()
            stream = sys.stderr if self._log_to_stderr else sys.stdout
            click.echo(shown(event.text, stream), err=self._log_to_stderr)
        elif isinstance(event, Notice):
            self.say(event.text)
        elif isinstance(event, Session):
            self._changed(event)
        else:
            self._redraw()
            self._complain()
            if unread(sys.stdout):  # a log that is silent would tell it only by its next line
                raise Stopped(SIGPIPE)

    def say(self, text: str) -> None:
        """Append a line of our own."""
        self._console.print(f"[{self.elapsed:4.0f} s] {shown(text, sys.stderr)}")

    def append_only(self) -> None:
        """End the live picture: from now on lines are appended."""
        if self._live:
            self._live.stop()
            self._live = None
            if self._session:
                self.say(f"session {self._session.phase}")

    def _changed(self, session: Session) -> None:
        if self._session and self._session.phase and not session.phase:
            return  # its spec was edited, and the operator has not answered yet: what was so is so
        before, self._session = self._session, known(session)
        if self._live:
            self._live.start()
            self._redraw()
            return
        for line in changes(before, session):
            self.say(line)

    def _redraw(self) -> None:
        if self._live and self._session:
            self._live.update(picture(self._session, self.elapsed), refresh=True)

    def _complain(self) -> None:
        ignored = self._session is not None and not self._session.phase
        if ignored and not self._complained and self.elapsed > PATIENCE_SECONDS:
            self._complained = True
            self.say(NOT_PICKED_UP)


def watched(sessions: Sessions, follower: Follower, screen: Screen, late: str) -> Session:
    """Show how it goes until what the follower waits for is there, and return the session; `late` is what is not."""
    found = None
    try:
        for event in follower.events():
            screen.show(event)
            found = event if isinstance(event, Session) else found
    except TimedOut as error:
        why = "; ".join(explain(known(sessions.get(follower.name))))
        raise TimedOut(f"{late} after {follower.timeout:g} s: {why}") from error
    finally:
        screen.append_only()
    return found or sessions.get(follower.name)
