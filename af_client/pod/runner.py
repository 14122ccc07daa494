"""``af-run``: runs the user's command in the analysis image, and sees to its results.

Standard library only until the command has ended: the command's start must not wait for us, and XRootD must not be
loaded before its environment is cleared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from af_client.storage import StoredFile

NOT_EXECUTABLE = 126
NOT_FOUND = 127
UPLOAD_FAILED = os.EX_IOERR
MAX_MESSAGE = 4096
"""The kubelet cuts a termination message here."""
MAX_FILES, MAX_URL, MAX_ERROR = 64, 1000, 600
"""Bounds of the session's status."""
MAX_NAMED = 5
FORWARDED = (signal.SIGTERM, signal.SIGINT)
CGROUP = Path("/sys/fs/cgroup")
"""The container's own, where `_own_cgroup`."""


@dataclass(frozen=True)
class Outcome:
    """How the command ended; `signal` is a name like ``SIGKILL``."""

    exit_code: int
    signal: str | None = None
    wall_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    error: str | None = None
    oom: bool = False
    """A process of the command was killed because the container had no memory left."""


def say(text: str) -> None:
    """Write a line of our own into the log."""
    print(f"af-run: {text}", file=sys.stderr, flush=True)


def copy_source(source: Path, target: Path) -> None:
    """Copy the files of a mounted ConfigMap (or a directory) to where the command runs, writable."""
    for path in sorted(source.iterdir()):
        if path.name.startswith(".."):
            continue  # ..data and friends: how the kubelet swaps a ConfigMap's versions
        if path.is_dir():
            shutil.copytree(path, target / path.name, dirs_exist_ok=True)
            continue
        copy = Path(shutil.copyfile(path, target / path.name))
        if path.open("rb").read(2) == b"#!":
            copy.chmod(0o755)  # a ConfigMap carries no executable bit


class Forwarding:
    """Passes signals on to the command while it runs.

    Before it runs they are kept for it; after it has ended they are dropped: the upload then finishes, or the
    kubelet's SIGKILL leaves it without a manifest.
    """

    def __init__(self) -> None:
        self.forwarded: int | None = None
        """The last one that the command got from us."""
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> Forwarding:
        self._before = {number: signal.signal(number, self._forward) for number in FORWARDED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """Name the child that gets the signals."""
        self._child = child
        for number in self._early:
            self._send(child, number)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
        elif self._child.poll() is None:
            self._send(self._child, number)

    def _send(self, child: subprocess.Popen[bytes], number: int) -> None:
        self.forwarded = number
        _signal_group(child.pid, number)


def run_command(command: Sequence[str], signals: Forwarding) -> Outcome:
    """Run the command in a process group of its own and wait for its end.

    It writes into one stream: of two, nobody knows afterwards which line was the last, and that is what is quoted.
    """
    started, oom_kills_before = time.monotonic(), oom_kills()
    try:
        child = subprocess.Popen(list(command), process_group=0, stderr=subprocess.STDOUT)
    except OSError as error:
        return _not_started(command[0], error)
    signals.to(child)
    code = child.wait()
    _signal_group(child.pid, signal.SIGKILL)  # what it left behind must not write while we upload
    if code == 0 and signals.forwarded:
        # Whoever takes a pod away must not make a success of what the program had not finished.
        say(f"the command ended well, but because of {signal.Signals(signals.forwarded).name}: it is not complete")
        code = -signals.forwarded
    outcome = Outcome(code) if code >= 0 else Outcome(128 - code, signal.Signals(-code).name)
    wall, oom = round(time.monotonic() - started, 3), code != 0 and oom_kills() > oom_kills_before
    return replace(outcome, wall_seconds=wall, peak_memory_bytes=peak_memory(), oom=oom)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _not_started(program: str, error: OSError) -> Outcome:
    if isinstance(error, FileNotFoundError):
        here = Path(program).name == program and Path(program).exists()
        hint = f"write ./{program}" if here else "it is neither in the image nor among run.source.files"
        return Outcome(NOT_FOUND, error=f"cannot start {program!r}: not found; {hint}")
    hint = f"name the interpreter: [python, {program}] or [sh, {program}]"
    return Outcome(NOT_EXECUTABLE, error=f"cannot start {program!r}: {error.strerror}; {hint}")


def peak_memory() -> int:
    """Return the peak memory of the command in bytes.

    The container's own count where cgroup v2 gives it (all processes together, as its limit sees them), else the
    largest process.
    """
    with suppress(OSError, ValueError):
        if _own_cgroup():
            return int((CGROUP / "memory.peak").read_text())
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def oom_kills() -> int:
    """Return how many processes of this container the kernel has killed for memory; 0 where nobody counts.

    Where it kills the whole container, the kubelet says so; else a program may die of one of its processes, or of its
    own SIGKILL, and nobody but this count tells why.
    """
    with suppress(OSError, ValueError):
        if _own_cgroup():
            events = dict(line.split() for line in (CGROUP / "memory.events").read_text().splitlines())
            return int(events.get("oom_kill", 0))
    return 0


def _own_cgroup() -> bool:
    # Any other path means that the files count more than this container.
    return Path("/proc/self/cgroup").read_text().strip() == "0::/"


def withdraw(url: str) -> None:
    """Take away the manifest of an earlier try: its results are not this one's, even if this one leaves none.

    In a process of its own, for the command must start without XRootD's environment changed. Where the storage is away
    that is said, and the run goes on: the upload takes the manifest away as well.
    """
    program = "import sys; from af_client.storage import MANIFEST, Storage; Storage(sys.argv[1]).remove(MANIFEST)"
    found = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=False)
    if found.returncode:
        say(f"the manifest of an earlier try cannot be taken away: {(found.stderr.strip().splitlines() or ['?'])[-1]}")


def upload_results(outcome: Outcome, folder: str, url: str) -> tuple[Outcome, list[StoredFile] | None]:
    """Upload what the command left, also when it failed; what is missing then fails a run that succeeded."""
    from af_client.pod.upload import upload  # noqa: PLC0415 - see the module's docstring

    try:
        found = upload(Path(folder), url, outcome.exit_code)
    except Exception as error:  # noqa: BLE001 - whatever it was, the run must end with a message
        text = f"upload failed: {error or type(error).__name__}"
        say(text)
        code = outcome.exit_code or UPLOAD_FAILED
        return replace(outcome, exit_code=code, error="; ".join(filter(None, [outcome.error, text]))), None
    stored = found.stored
    if outcome.exit_code == 0:
        # A failed run's last line is what its status quotes: it must be the command's own.
        say(f"{len(stored)} files, {sum(file.bytes for file in stored)} bytes stored at {url}")
    if found.missing and outcome.exit_code == 0:
        named = "; ".join(f"{each.name}: {each.reason}" for each in found.missing[:MAX_NAMED])
        text = f"{len(found.missing)} of the results could not be stored ({named}); {len(stored)} are at {url}"
        outcome = replace(outcome, exit_code=UPLOAD_FAILED, error=text)
    return outcome, stored


def termination_message(outcome: Outcome, url: str, stored: list[StoredFile] | None) -> str:
    """Return the report for the operator, at most 4096 bytes: as many files as fit, `count` counts all."""
    report: dict[str, Any] = {
        "exitCode": outcome.exit_code,
        "signal": outcome.signal,
        "wallSeconds": outcome.wall_seconds,
        "peakMemoryBytes": outcome.peak_memory_bytes,
        "results": None,
        "error": outcome.error.encode("ascii", "replace").decode()[:MAX_ERROR] if outcome.error else None,
        **({"oom": True} if outcome.oom else {}),
    }
    if stored is None:
        return _compact(report)
    files: list[dict[str, Any]] = []
    total = sum(file.bytes for file in stored)
    report["results"] = {"url": url, "count": len(stored), "bytes": total, "files": files}
    for file in stored[:MAX_FILES]:
        if len(file.url) > MAX_URL:
            continue
        files.append(asdict(file))
        if len(_compact(report).encode()) > MAX_MESSAGE:
            files.pop()
            break
    return _compact(report)


def _compact(report: dict[str, Any]) -> str:
    return json.dumps(report, separators=(",", ":"))


def write_message(text: str) -> None:
    """Write the termination message where the kubelet reads it."""
    chosen = os.environ.get("AF_TERMINATION_LOG")
    path = Path(chosen or "/dev/termination-log")
    # Outside of a pod there is none, and root would make a file in /dev.
    if chosen or path.exists():
        try:
            path.write_text(text)
        except OSError as error:
            say(f"cannot write {path}: {error}")


def run(argv: Sequence[str]) -> int:
    """Do everything; return the exit code."""
    options = _parser().parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        _parser().error("no command: af-run [--source DIR] -- command ...")
    folder, url = os.environ.get("AF_RESULTS"), os.environ.get("AF_RESULTS_URL", "").rstrip("/")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    if options.source:
        copy_source(options.source, Path.cwd())
    if url and os.environ.get("AF_TRY"):
        withdraw(url)
    with Forwarding() as signals:
        outcome = run_command(command, signals)
        if outcome.error:
            say(outcome.error)
        stored = None
        if folder and url:
            outcome, stored = upload_results(outcome, folder, url)
        elif folder and any(Path(folder).iterdir()):
            say("the files in $AF_RESULTS are not kept: the session's profile has no results.url")
        write_message(termination_message(outcome, url, stored))
    return outcome.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("af-run", description="Run a command, report how it ended, upload its results.")
    parser.add_argument("--source", type=Path, metavar="DIR", help="copy these files to the working directory first")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- program and arguments")
    return parser


def main() -> None:
    """Entry point of the console script."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # XRootD's threads may crash a normal exit, and would then turn a success into a failure.
    os._exit(code)


if __name__ == "__main__":
    main()
