import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from local_cluster import __main__ as commands
from local_cluster import packages
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT


@pytest.mark.parametrize("command", ["up", "down", "status", "audit-log", "authentication", "images"])
def test_without_docker_and_root_every_command_says_what_is_missing(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(commands, "docker_answers", lambda: False)
    monkeypatch.setattr(commands, "LOCK", tmp_path / "lock")
    result = CliRunner().invoke(commands.main, [command])
    assert result.exit_code == 1
    assert "Start Docker" in result.output
    assert "as root" in result.output


def test_a_docker_client_without_an_engine_is_no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert not commands.docker_answers()


def test_the_help_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local_cluster", "--help"], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    for name in ("up", "down", "status", "audit-log", "authentication", "images"):
        assert f"\n  {name} " in done.stdout


def test_two_commands_do_not_change_the_cluster_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second waits for the lock of the first, and says so; the lock of a process that died is free."""
    monkeypatch.setattr(commands, "LOCK", tmp_path / "lock")
    holder = f"import fcntl, sys; f = open({str(tmp_path / 'lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    program = [sys.executable, "-c", holder + "print('locked', flush=True); sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with (tmp_path / "lock").open() as mine, pytest.raises(BlockingIOError):
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.kill()
    with commands.locked(Progress()):
        pass


def test_packages_that_cannot_be_installed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "NEEDED", {"no-such-program": "no-such-package"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no-such-package"):
        packages.ensure(Progress())


def test_nothing_is_installed_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "NEEDED", {"sh": "dash"})
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    packages.ensure(Progress())
