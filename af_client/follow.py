"""Following a session: its changes and its run's log, as one stream of events, in the order in which they come."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from af_client.errors import ApiError, ClientError, Forbidden, NotFound, TimedOut
from af_client.model import Session
from af_client.sessions import SETTLE_SECONDS, Sessions

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0)
DRAIN_SECONDS = 10.0
LAST_TRIES = 5
"""How often an end of a log is asked for whose connection breaks each time."""


@dataclass(frozen=True)
class LogLine:
    """A line of the run's log."""

    text: str


@dataclass(frozen=True)
class Notice:
    """Something the user should know; following goes on."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Nothing has happened for a moment."""


Event = Session | LogLine | Notice | Tick


class Follower:
    """Watches a session in one thread and reads its log in another.

    Parameters
    ----------
    timeout
        Seconds until the session must have ended (or be ready, if interactive).
    until
        What is waited for, if it is not the session's end or readiness; then its log is not read.
    """

    def __init__(
        self,
        sessions: Sessions,
        name: str,
        timeout: float | None = None,
        until: Callable[[Session], bool] | None = None,
    ) -> None:
        self._sessions = sessions
        self.name = name
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.timeout = timeout
        self._until = until
        self._queue: queue.Queue[Event | ClientError] = queue.Queue()
        self._over = threading.Event()
        self._log: _Log | None = None
        self._started = self._arrived = self._settled = False

    def events(self, tick: float = 1.0) -> Iterator[Event]:
        """Yield events until the session has arrived and its log is read to the end; can be called again.

        Raises
        ------
        Deleted, TimedOut, ApiError
            The session cannot be followed any longer.
        """
        if not self._started:
            self._started = True
            threading.Thread(target=self._watch, daemon=True).start()
        while not self._arrived:
            event = self._next(tick)
            if isinstance(event, ClientError):
                self._over.set()
                raise event
            if isinstance(event, Session):
                self._take(event)
            yield event
        yield from self._rest()
        self._over.set()

    def _next(self, tick: float) -> Event | ClientError:
        if self._deadline is not None and time.monotonic() > self._deadline:
            return TimedOut(f"session {self.name} has not ended after {self.timeout:g} s")
        try:
            return self._queue.get(timeout=tick)
        except queue.Empty:
            return Tick()

    def _watch(self) -> None:
        before = None
        try:
            for session in self._sessions.watch(self.name):
                if self._over.is_set():
                    return
                if session != before:  # a watch that begins again repeats what was known
                    self._queue.put(session)
                before = session
                if self._until(session) if self._until else session.settled:
                    return
        except ClientError as error:
            self._queue.put(error)

    def _take(self, session: Session) -> None:
        if self._until:
            self._arrived = self._settled = self._until(session)
            return
        self._arrived, self._settled = session.arrived, session.settled
        self._read_log_of(session)

    def _read_log_of(self, session: Session) -> None:
        pod = session.run.pod
        if not pod or (self._log and self._log.pod == pod):
            return
        if self._log:
            self._log.finish()
            self._queue.put(Notice(f"the run is tried again in pod {pod}"))
        self._log = _Log(self._sessions, pod, self._queue, after=self._log)

    def _rest(self) -> Iterator[Event]:
        """Yield what still comes once the session has arrived: the log's end, and the exit code if it is late."""
        if self._log:
            self._log.finish()
        began = time.monotonic()
        while (waited := time.monotonic() - began) < DRAIN_SECONDS:
            reading = self._log is not None and self._log.thread.is_alive()
            try:
                event = self._queue.get(timeout=0.05)
            except queue.Empty:
                if not reading and (self._settled or waited > SETTLE_SECONDS):
                    return
                continue
            if isinstance(event, Session):
                self._take(event)
            if not isinstance(event, ClientError):
                yield event
        yield Notice(f"the log was not read to its end: af logs {self.name}")


class _Log:
    """One pod's log, read line by line into the queue; resumes after a broken connection without repeating lines."""

    def __init__(
        self, sessions: Sessions, pod: str, sink: queue.Queue[Event | ClientError], after: _Log | None
    ) -> None:
        self.pod = pod
        self._sessions = sessions
        self._sink = sink
        self._after = after
        self._finish = threading.Event()
        self._last = ""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def finish(self) -> None:
        """Read once more to the end, then stop: the container has ended."""
        self._finish.set()

    def _read(self) -> None:
        if self._after:
            self._after.thread.join(DRAIN_SECONDS)
        attempt = 0
        while True:
            final, broken = self._finish.is_set(), False
            try:
                attempt = 0 if self._read_once() else attempt + 1
            except Forbidden as error:
                self._sink.put(Notice(f"the log cannot be shown: {error}"))
                return
            except NotFound:
                return
            except ApiError:
                attempt += 1  # the container has not started yet
            except ClientError:
                attempt, broken = attempt + 1, True
            if final and not (broken and attempt < LAST_TRIES):
                return  # an end that was not heard for a broken connection is asked for again
            self._finish.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])

    def _read_once(self) -> bool:
        """Return whether there was anything new."""
        found, before = False, self._last
        for line in self._sessions.logs(self.pod, follow=True, since=before):
            stamp, _, text = line.partition(" ")
            if before and stamp > before:
                # Asked for are whole seconds, so the last line that was seen comes again: if the node still has it.
                gap = f"lines of the log between {before} and {stamp} may be missing: the node has put them away"
                self._sink.put(Notice(gap))
            before = ""
            # Stamps have a fixed width, so they compare as strings; sinceTime itself knows whole seconds only.
            if stamp > self._last:
                self._last, found = stamp, True
                self._sink.put(LogLine(text))
        return found
