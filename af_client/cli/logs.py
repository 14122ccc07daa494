"""``af logs``: what the programs of a session have written, by what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from af_client.errors import BadInput, Forbidden, Invalid, NotFound
from af_client.follow import Follower, LogLine, Notice
from af_client.model import Session
from af_client.progress import explain
from af_client.sessions import Sessions
from af_names import run_log

TAIL = 200
"""Lines of a program that is no run, if no number is said: a scheduler may have written for weeks."""
MUCH, LATE_SECONDS = 65_536, 10.0
"""A node puts away what is long. Of a log that has so many characters, and begins so late, there may have been more."""
Write = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A program of a session: which component's pods, under which of the names in its status, which containers."""

    components: tuple[str, ...]
    containers: tuple[str, ...]
    pods: tuple[str, ...] = ()
    """All but those of pools where empty."""
    noun: str = ""


SOURCES: Mapping[str, Source] = {
    "worker": Source(("dask", "spark"), ("worker",), noun="worker"),
    "scheduler": Source(("dask",), ("scheduler",), ("scheduler",), "Dask scheduler"),
    "spark": Source(("spark",), ("connect", "master"), ("master",), "Spark server"),
    "cache": Source(("xcache",), ("xcache",), noun="cache"),
    "notebook": Source(("notebook",), ("notebook",), noun="notebook"),
    "inference": Source(("inference",), ("server",), noun="model service"),
}


@dataclass(frozen=True)
class Wanted:
    """What `af logs` is to print: of the run, or of a program in `SOURCES`; `which` is a pool or a pod of workers."""

    program: str = "run"
    which: str = ""
    follow: bool = False
    tail: int | None = None


def print_log(sessions: Sessions, session: Session, wanted: Wanted, write: Write, notice: Write) -> None:
    """Write the lines that are wanted; what is not there any more, and why, to `notice`.

    Raises
    ------
    BadInput
        The session has no such program, or several where one can be followed.
    NotFound
        It has not begun, or its log went with its pod.
    """
    if wanted.program == "run":
        _print_run(sessions, session, wanted, write, notice)
        return
    source = SOURCES[wanted.program]
    pods = _pods(session, source, wanted)
    if wanted.follow and len(pods) > 1:
        raise BadInput(f"one log at a time can be followed: choose one of: {', '.join(sorted(pods))}")
    several = len(pods) * len(source.containers) > 1
    for pod in sorted(pods):
        for container in source.containers:
            if several:
                notice(f"==> {pod} {container} <==")
            _print_container(sessions, (pod, container), wanted, write, notice)


def _pods(session: Session, source: Source, wanted: Wanted) -> list[str]:
    there = [name for name in source.components if session.has(name)]
    if not there:
        raise BadInput(f"session {session.name} has no {source.noun}: `af status {session.name}` shows its parts")
    if wanted.program == "cache" and (session.body["spec"]["xcache"].get("placement") or "Sidecar") == "Sidecar":
        found = _beside_cache(session)
    else:
        found = list(dict.fromkeys(pod for name in there for pod in _of_component(session, name, source, wanted)))
    if not found:
        of = f" of {wanted.which!r}" if wanted.which else ""
        raise NotFound(
            f"no {source.noun}{of} of session {session.name} has a log: none has begun, or they are gone, and their "
            f"logs with them: " + "; ".join(explain(session))
        )
    return found


def _of_component(session: Session, component: str, source: Source, wanted: Wanted) -> Iterable[str]:
    told = session.pods.get(component, {})
    if wanted.program != "worker":
        keys = source.pods or tuple(told)
        return (pod for key in keys for pod in told.get(key, ()))
    pools = {key: pods for key, pods in told.items() if key not in ("scheduler", "master")}
    which = wanted.which.removeprefix(f"{component}/")
    if not which or which in pools:
        return (pod for key, pods in pools.items() if which in ("", key) for pod in pods)
    # A worker's pod may be one that the status has no room for: whoever knows its name may ask.
    return [which] if which.startswith(session.name) and "-worker-" in which else ()


def _beside_cache(session: Session) -> list[str]:
    """Return the pods with a cache in them: each has one that reads."""
    own = [session.run.pod] if session.run.pod else []
    return own + [pod for name in ("notebook", "dask") for pods in session.pods.get(name, {}).values() for pod in pods]


def _print_container(sessions: Sessions, where: tuple[str, str], wanted: Wanted, write: Write, notice: Write) -> None:
    pod, container = where
    tail = TAIL if wanted.tail is None else wanted.tail
    before = _attempted(sessions.logs_before(pod, container, tail))
    if before:
        notice(f"--- {container} before it was begun again ---")
        for line in before:
            write(text_of(line))
        notice(f"--- {container} since then ---")
    try:
        for line in sessions.logs(pod, container=container, follow=wanted.follow, tail=tail):
            write(text_of(line))
    except NotFound as error:
        raise NotFound(f"pod {pod} is gone, and its log with it") from error


def _attempted(lines: Iterable[str]) -> list[str]:
    try:
        return list(lines)
    except (Invalid, NotFound):  # there was none before, or the node has cleaned up after it
        return []


def text_of(line: str) -> str:
    """Return a line without its time stamp."""
    return line.partition(" ")[2]


def _print_run(sessions: Sessions, session: Session, wanted: Wanted, write: Write, notice: Write) -> None:
    if not session.headless:
        raise BadInput(f"session {session.name} has no run, so no log: `af status {session.name}` shows its parts")
    if wanted.follow and not session.ended and wanted.tail is None:
        for event in Follower(sessions, session.name).events():
            if isinstance(event, LogLine):
                write(event.text)
            elif isinstance(event, Notice):
                notice(event.text)
        return
    for line in _run_lines(sessions, session, wanted, notice):
        write(line)


def _run_lines(sessions: Sessions, session: Session, wanted: Wanted, notice: Write) -> Iterator[str]:
    if not session.run.pod:
        raise NotFound(f"the run of {session.name} has not started: " + "; ".join(explain(session)))
    lines = sessions.logs(session.run.pod, follow=wanted.follow and not session.ended, tail=wanted.tail)
    try:
        first = next(lines, None)
    except NotFound:
        notice(f"pod {session.run.pod} of the run is gone: these are the last lines of its log, which are kept")
        yield from _kept(sessions, session, wanted.tail)
        return
    written = 0
    for line in [] if first is None else chain([first], lines):
        written += len(line)
        yield text_of(line)
    if wanted.tail is None and first and (late := _late(session, first)) and written > MUCH:
        notice(f"this log begins {late:.0f} s after the run did: if it wrote anything before, the node has put it away")


def _late(session: Session, first: str) -> float:
    """Return how many seconds after the run its log begins; 0 where that is soon."""
    try:
        began = datetime.fromisoformat(first[: len("2026-01-01T00:00:00")] + "+00:00")
    except ValueError:
        return 0.0
    late = (began - session.run.started).total_seconds() if session.run.started else 0.0
    return late if late > LATE_SECONDS else 0.0


def _kept(sessions: Sessions, session: Session, tail: int | None) -> list[str]:
    try:
        lines = sessions.log_tail(session).split("\n")
    except (Forbidden, NotFound) as error:
        raise NotFound(
            f"pod {session.run.pod} of the run is gone; its last lines are in ConfigMap {run_log(session.name)}, "
            f"which cannot be read: {error}"
        ) from error
    lines = lines[:-1] if lines[-1:] == [""] else lines
    return lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]


def wanted_of(options: Mapping[str, Any]) -> Wanted:
    """Return what the options of a command line ask for.

    Raises
    ------
    BadInput
        Two programs at once.
    """
    chosen = [program for program in SOURCES if options[program] not in (None, False)]
    if len(chosen) > 1:
        raise BadInput(f"one of them at a time: --{' or --'.join(chosen)}")
    which = str(options["worker"] or "") if chosen == ["worker"] else ""
    return Wanted(chosen[0] if chosen else "run", which, options["follow"], options["tail"])
