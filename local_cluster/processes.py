"""Long-running processes that outlive the command that starts them.

A pid alone proves nothing: pids are recycled. A record therefore holds the pid, the kernel's start time of that
process and the boot it belongs to; a process that differs in any of them is somebody else's, and is never touched.
"""

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from local_cluster.errors import ClusterError
from local_cluster.progress import tail

PROC = Path("/proc")
POLL_SECONDS = 0.1
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Identity:
    """One process of one boot, unmistakably."""

    pid: int
    start_ticks: int
    boot_id: str

    def alive(self) -> bool:
        """Say whether this very process is running; a zombie is not."""
        return identify(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signal this process and no other, also when its pid is recycled meanwhile."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The handle pins the process: what is identified now is what gets the signal.
            if self.alive():
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)


def identify(pid: int) -> Identity | None:
    """Return the identity of the running process ``pid``, None if there is none or it is a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in parentheses may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Identity(pid, int(fields[19]), (PROC / "sys/kernel/random/boot_id").read_text().strip())


@dataclass(frozen=True)
class Daemon:
    """A named process with its record and its log."""

    name: str
    run: Path
    logs: Path

    @property
    def record(self) -> Path:
        """The file that says which process this is."""
        return self.run / f"{self.name}.pid.json"

    @property
    def log(self) -> Path:
        """Standard output and error."""
        return self.logs / f"{self.name}.log"

    def identity(self) -> Identity | None:
        """Return what was recorded, None if nothing readable was."""
        try:
            return Identity(**json.loads(self.record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def alive(self) -> bool:
        """Say whether the recorded process is running."""
        identity = self.identity()
        return identity is not None and identity.alive()

    def start(self, argv: Sequence[str]) -> None:
        """Start detached: own session, log to a file, not a child anybody waits for."""
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), log_flags, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawnp(argv[0], list(argv), dict(os.environ), file_actions=actions, setsid=True)
        identity = identify(pid)
        if identity is None:
            raise ClusterError(f"{self.name} ended at once. The end of {self.log}:\n{tail(self.log)}")
        partial = self.record.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(identity)))
        partial.rename(self.record)

    def stop(self, grace_seconds: float) -> None:
        """End the recorded process, by force after ``grace_seconds``, and forget it."""
        if identity := self.identity():
            stop_all([identity], grace_seconds)
        self.record.unlink(missing_ok=True)

    def wait(self, what: str, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until ``ready()``; a process that ends meanwhile, or takes too long, shows its log."""

        def attempt() -> bool:
            if not self.alive():
                raise ClusterError(f"{self.name} ended while {what}. The end of {self.log}:\n{tail(self.log)}")
            return ready()

        if not poll(attempt, timeout):
            raise ClusterError(f"{what}: not within {timeout:.0f} s. The end of {self.log}:\n{tail(self.log)}")


def poll(check: Callable[[], bool], timeout: float, pace: float = POLL_SECONDS) -> bool:
    """Return whether ``check()`` came true within ``timeout`` seconds."""
    retrying = Retrying(
        stop=stop_after_delay(timeout), wait=wait_fixed(pace), retry=retry_if_result(lambda done: not done)
    )
    try:
        return retrying(check)
    except RetryError:
        return False


def stop_all(identities: Iterable[Identity | None], grace_seconds: float) -> None:
    """Terminate, wait, kill what is left, wait again; never longer than both waits together."""
    left = _alive(identities)
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, KILL_SECONDS)):
        for identity in left:
            identity.send(number)
        if poll(partial(_none_alive, left), seconds):
            return
        left = _alive(left)


def _alive(identities: Iterable[Identity | None]) -> list[Identity]:
    return [identity for identity in identities if identity and identity.alive()]


def _none_alive(identities: Iterable[Identity]) -> bool:
    return not _alive(identities)


def running() -> Iterator[Identity]:
    """All processes of this machine."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (identity := identify(int(entry.name))):
            yield identity


def command_line(pid: int) -> list[str]:
    """Return the arguments of a process, empty if it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
