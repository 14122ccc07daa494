import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from local_cluster.errors import ClusterError
from local_cluster.processes import Daemon, Identity, identify, poll, stop_all


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon("sleeper", tmp_path / "run", tmp_path / "logs")
    yield made
    made.stop(grace_seconds=0)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def known(pid: int) -> Identity:
    identity = identify(pid)
    assert identity is not None
    return identity


def test_a_daemon_lives_in_its_own_session_and_is_found_again(daemon: Daemon) -> None:
    daemon.start(["sleep", "60"])
    identity = daemon.identity()
    assert identity is not None
    assert os.getsid(identity.pid) == identity.pid
    again = Daemon(daemon.name, daemon.run, daemon.logs)
    assert again.alive()
    again.stop(grace_seconds=2)
    assert not daemon.alive()
    assert not daemon.record.exists()


def test_a_recycled_pid_is_neither_taken_for_the_daemon_nor_killed(
    daemon: Daemon, bystander: subprocess.Popen[bytes]
) -> None:
    """The record of a dead process whose pid now belongs to somebody else: same pid, another start time."""
    theirs = known(bystander.pid)
    daemon.run.mkdir()
    daemon.record.write_text(json.dumps(asdict(replace(theirs, start_ticks=theirs.start_ticks - 1))))
    assert not daemon.alive()
    daemon.stop(grace_seconds=0)
    assert bystander.poll() is None
    assert known(bystander.pid) == theirs


def test_a_pid_of_an_earlier_boot_is_nobody(bystander: subprocess.Popen[bytes]) -> None:
    before = replace(known(bystander.pid), boot_id="00000000-0000-0000-0000-000000000000")
    assert not before.alive()
    before.send(signal.SIGKILL)
    assert bystander.poll() is None


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert identify(process.pid) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "start_ticks": 2, "boot": "x"}'])
def test_an_unreadable_record_is_no_record(daemon: Daemon, content: str) -> None:
    daemon.run.mkdir()
    daemon.record.write_text(content)
    assert not daemon.alive()


def test_a_process_that_ignores_sigterm_is_killed(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"])
    assert poll(lambda: "ready" in daemon.log.read_text(), 5)
    daemon.stop(grace_seconds=0.3)
    assert not daemon.alive()


def test_waiting_for_a_process_that_ends_shows_its_last_words(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "echo no such flag >&2; sleep 0.2; exit 1"])
    with pytest.raises(ClusterError, match=r"(?s)ended while waiting for it.*no such flag"):
        daemon.wait("waiting for it", lambda: False, timeout=5)


def test_a_process_that_ends_at_once_shows_its_last_words(daemon: Daemon) -> None:
    def start_and_wait() -> None:
        daemon.start(["sh", "-c", "echo bad news >&2"])
        daemon.wait("waiting for it", lambda: False, timeout=5)

    with pytest.raises(ClusterError, match=r"(?s)ended.*bad news"):
        start_and_wait()


def test_waiting_is_bounded(daemon: Daemon) -> None:
    daemon.start(["sleep", "60"])
    with pytest.raises(ClusterError, match="not within 0 s"):
        daemon.wait("waiting for it", lambda: False, timeout=0.3)


def test_a_program_that_is_not_there_is_said_at_once(daemon: Daemon) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        daemon.start(["no-such-program"])


def test_stopping_nothing_returns_at_once() -> None:
    stop_all([None], grace_seconds=60)
