"""``af run``: create a session, follow it to its end, fetch its results, end as it ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from af_client.cli.command_line import INTERRUPTED
from af_client.cli.screen import Screen
from af_client.errors import ClientError, ResultsError, TimedOut
from af_client.files import fill_source, read_session, set_name, set_value
from af_client.follow import Follower
from af_client.model import TIMEOUT_CODE, Session
from af_client.progress import explain, size
from af_client.sessions import Sessions
from af_client.storage import StoredFile


@dataclass(frozen=True)
class RunOptions:
    """The options of ``af run``."""

    file: Path
    name: str | None = None
    assignments: Sequence[str] = ()
    include: Sequence[Path] = ()
    wait: bool = True
    remove: bool = False
    timeout: float | None = None
    directory: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Ending:
    """How ``af run`` ended; `session` is the last that was seen of it."""

    session: Session
    exit_code: int
    downloaded: Sequence[StoredFile] = ()

    def report(self) -> Mapping[str, Any]:
        """Return the machine-readable report."""
        files = [asdict(file) for file in self.downloaded]
        return {"session": self.session.body, "exitCode": self.exit_code, "downloaded": files}


def prepare(options: RunOptions) -> dict[str, Any]:
    """Return the object to create: the file, with name, ``--set`` and source files filled in."""
    body = read_session(options.file)
    set_name(body, options.name, options.file)
    for assignment in options.assignments:
        set_value(body, assignment)
    folder = Path.cwd() if str(options.file) == "-" else options.file.resolve().parent
    fill_source(body, folder, options.include)
    return body


class SessionRun:
    """One session from its creation to its end, in front of a user."""

    def __init__(self, sessions: Sessions, options: RunOptions) -> None:
        self._sessions = sessions
        self._options = options
        self._screen = Screen(log_to_stderr=options.json)

    def start(self, body: Mapping[str, Any]) -> Session:
        """Create the session."""
        session = self._sessions.create(body)
        self._screen.say(f"session {session.name} created in namespace {session.namespace} for {session.user}")
        return session

    def finish(self, session: Session) -> Ending:
        """Follow the session to its end; fetch its results; delete it if that is wanted."""
        try:
            session = self._follow(session)
        except TimedOut as error:
            self._screen.append_only()
            self._screen.say(str(error))
            self._tell(self._sessions.get(session.name))
            ending = Ending(session, TIMEOUT_CODE)
        else:
            self._tell(session, next_step=not (self._options.directory or self._options.remove))
            ending = self._fetch(session)
        if self._options.remove:
            self._sessions.delete(session.name)
            self._screen.say(f"session {session.name} deleted")
        return ending

    def _follow(self, session: Session) -> Session:
        follower = Follower(self._sessions, session.name, self._options.timeout)
        while True:
            try:
                for event in follower.events():
                    self._screen.show(event)
                    session = event if isinstance(event, Session) else session
            except KeyboardInterrupt:
                self._screen.append_only()
                self._interrupted(session)
            else:
                self._screen.append_only()
                return session

    def _interrupted(self, session: Session) -> None:
        """Ask what to do with a session whose user has pressed Ctrl-C; returns to go on watching."""
        name, space = session.name, session.namespace
        answer = "k"
        if sys.stdin.isatty() and sys.stderr.isatty():
            question = f"\n{name} is still running: [d]elete it, [k]eep it running, [c]ontinue watching"
            # A second Ctrl-C here is click's Abort: out at once, and the session goes on.
            answer = click.prompt(
                question, type=click.Choice(["d", "k", "c"]), default="c", show_choices=False, err=True
            )
        if answer == "c":
            return
        if answer == "d":
            self._sessions.delete(name)
            self._screen.say(f"session {name} deleted")
        else:
            self._screen.say(f"session {name} goes on: af status -n {space} {name}, af logs -f -n {space} {name}")
            self._screen.say(f"to end it: af delete -n {space} {name}")
        raise click.exceptions.Exit(INTERRUPTED)

    def _tell(self, session: Session, next_step: bool = True) -> None:
        for line in explain(session):
            if next_step or not line.startswith("next: "):
                self._screen.say(line)

    def _fetch(self, session: Session) -> Ending:
        results, directory = session.run.results, self._options.directory
        for file in results.files if results else ():
            self._screen.say(f"  {file.url} ({size(file.bytes)})")
        if results and len(results.files) < results.count:
            self._screen.say(f"  and {results.count - len(results.files)} more: af results --list {session.name}")
        code = session.exit_code if session.headless else int(session.phase != "Ready")
        if directory is None:
            return Ending(session, code)
        try:
            files = self._sessions.download(session.name, directory)
        except ClientError as error:
            # A failed run often has nothing to fetch: its own exit code says more.
            if not (code and isinstance(error, ResultsError)):
                raise
            self._screen.say(str(error))
            return Ending(session, code)
        self._screen.say(f"{len(files)} files in {directory}")
        return Ending(session, code, files)
