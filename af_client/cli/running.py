"""``af run``: create a session, follow it to its end, fetch its results, end as it ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from af_client.cli.command_line import known
from af_client.cli.lifetime import Lifetime
from af_client.cli.screen import Screen
from af_client.cli.signals import Stopped, asks_a_person, held
from af_client.errors import ClientError, NotFound, ResultsError, ResultsIncomplete, TimedOut
from af_client.files import fill_source, read_session, set_name, set_value
from af_client.follow import Follower
from af_client.model import TIMEOUT_CODE, Session
from af_client.progress import explain, size
from af_client.sessions import Sessions, named
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


DELETE_PAUSES = (0.5, 1.0, 2.0)


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
    """Return the object to create: the file, with name, ``--set``, source files, and bounds for ``--rm`` filled in."""
    body = read_session(options.file)
    set_name(body, options.name, options.file)
    for assignment in options.assignments:
        set_value(body, assignment)
    folder = Path.cwd() if str(options.file) == "-" else options.file.resolve().parent
    fill_source(body, folder, options.include)
    return Lifetime.bounded(body) if options.remove else body


class SessionRun:
    """One session from its creation to its end, in front of a user.

    Whatever ends `af` before the session: with ``--rm`` the session goes, and first of all; else its user is told how
    to get back to it.
    """

    def __init__(self, sessions: Sessions, options: RunOptions) -> None:
        self._sessions = sessions
        self._options = options
        self._remove = options.remove
        self._screen = Screen(log_to_stderr=options.json)
        self._name = ""
        self._seen: Session | None = None

    def start(self, body: Mapping[str, Any]) -> Session:
        """Create the session, and do not wait for it."""
        try:
            return self._created(body)
        except BaseException as error:
            self._leave(error)
            raise

    def complete(self, body: Mapping[str, Any]) -> Ending:
        """Create the session; follow it to its end; fetch its results; delete it if that is wanted."""
        try:
            self._created(body)
            ending = self._ended()
        except BaseException as error:
            self._leave(error)
            raise
        if self._remove and not self._removed():
            ending = replace(ending, exit_code=ending.exit_code or 1)
        return ending

    def _created(self, body: Mapping[str, Any]) -> Session:
        spec = body["spec"]
        body = named({**body, "spec": {**spec, "user": spec.get("user") or self._sessions.whoami()}})
        self._lifetime = Lifetime(self._sessions, body)
        self._name = body["metadata"]["name"]
        with held():  # what the server has begun to make cannot be deleted before it is there
            self._seen = session = known(self._sessions.create(body))
        self._screen.say(f"session {session.name} created in namespace {session.namespace} for {session.user}")
        return session

    def _ended(self) -> Ending:
        try:
            self._follow()
        except TimedOut as error:
            self._screen.append_only()
            self._screen.say(str(error))
            with suppress(ClientError):
                self._seen = self._sessions.get(self._session.name)
            self._tell()
            return Ending(self._session, TIMEOUT_CODE)
        self._tell(next_step=not (self._options.directory or self._remove))
        return self._fetch()

    def _follow(self) -> None:
        follower = self._follower()
        while True:
            try:
                for event in follower.events():
                    self._screen.show(event)
                    self._seen = event if isinstance(event, Session) else self._seen
                    if self._remove:
                        self._lifetime.renew(self._session)
            except Stopped as stop:
                self._screen.append_only()
                if not self._goes_on(stop):
                    raise
            else:
                if self._remove and self._lifetime.refused(self._session):
                    follower = self._follower()
                    continue
                self._screen.append_only()
                return

    def _follower(self) -> Follower:
        return Follower(self._sessions, self._session.name, self._options.timeout)

    def _goes_on(self, stop: Stopped) -> bool:
        """Ask who has pressed Ctrl-C what is to become of the session; return whether to go on watching."""
        if self._remove or stop.number != signal.SIGINT or not asks_a_person():
            return False
        question = f"\n{self._session.name} is still running: [d]elete it, [k]eep it running, [c]ontinue watching"
        try:
            answer = click.prompt(
                question, type=click.Choice(["d", "k", "c"]), default="c", show_choices=False, err=True
            )
        except click.Abort:
            answer = "k"
        self._remove = answer == "d"
        return bool(answer == "c")

    def _leave(self, error: BaseException) -> None:
        """Delete the session, or say how to get back to it; nobody may be there to read that."""
        if self._seen is None:
            if self._name and isinstance(error, Stopped):
                self._say_last(f"session {self._name} may have been made: af delete {self._where}")
        elif self._remove:
            self._removed()
        elif self._options.wait:
            self._say_last(
                f"session {self._name} goes on: af status {self._where}, af logs -f {self._where}",
                f"to end it: af delete {self._where}",
            )

    @property
    def _session(self) -> Session:
        """The last that was seen of it."""
        if self._seen is None:
            raise RuntimeError("no session has been created")
        return self._seen

    @property
    def _where(self) -> str:
        return f"-n {self._sessions.namespace} {self._name}"

    def _say_last(self, *lines: str) -> None:
        with suppress(OSError, Stopped):
            self._screen.append_only()
            for line in lines:
                self._screen.say(line)

    def _removed(self) -> bool:
        """Delete the session; return whether it is gone. What is left behind is said."""
        why: str | None = "interrupted"
        with suppress(Stopped), held():
            why = self._delete()
        left = f"session {self._name} could not be deleted ({why}): af delete {self._where}"
        self._say_last(left if why else f"session {self._name} deleted")
        return not why

    def _delete(self) -> str | None:
        """Return why it could not be; None if it is gone."""
        why = None
        for pause in (*DELETE_PAUSES, None):
            try:
                self._sessions.delete(self._session.name, self._session.uid)
            except NotFound:
                return None
            except ClientError as error:
                why = str(error)
                time.sleep(pause or 0)
            else:
                return None
        return why

    def _tell(self, next_step: bool = True) -> None:
        for line in explain(self._session):
            if next_step or not line.startswith("next: "):
                self._screen.say(line)

    def _fetch(self) -> Ending:
        session, directory = self._session, self._options.directory
        self._tell_results()
        code = session.exit_code if session.headless else int(session.phase != "Ready")
        if directory is None:
            return Ending(session, code)
        try:
            files = self._sessions.download(session.name, directory)
        except ResultsIncomplete as error:
            self._screen.say(str(error))
            return Ending(session, code or error.exit_code, error.files)
        except ClientError as error:
            # A failed run often has nothing to fetch: its own exit code says more.
            if not (code and isinstance(error, ResultsError)):
                raise
            self._screen.say(str(error))
            return Ending(session, code)
        self._screen.say(f"{len(files)} files in {directory}")
        return Ending(session, code, files)

    def _tell_results(self) -> None:
        session, results = self._session, self._session.run.results
        for file in results.files if results else ():
            self._screen.say(f"  {file.url} ({size(file.bytes)})")
        if results and len(results.files) < results.count:
            self._screen.say(f"  and {results.count - len(results.files)} more: af results --list {session.name}")
