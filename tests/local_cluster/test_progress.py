import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from local_cluster import progress as progress_module
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress, tail


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def plain(out: io.StringIO) -> Progress:
    return Progress(Console(file=out, width=200))


def test_a_step_says_what_and_how_long(plain: Progress, out: io.StringIO) -> None:
    with plain.step("making [it]"):
        pass
    assert out.getvalue() == "✓ making [it] (0.0 s)\n"


def test_a_failed_command_shows_the_end_of_its_log(plain: Progress, out: io.StringIO, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('x' * 10); raise SystemExit('no space left')"]
    with pytest.raises(ClusterError, match=r"(?s)exit code 1.*no space left"):
        plain.run("building", argv, tmp_path / "deep" / "log")
    assert out.getvalue().splitlines()[-1].startswith("✗ building")


def test_long_work_is_not_silent(
    plain: Progress, out: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "HEARTBEAT_SECONDS", 0.05)
    plain.run("building", ["sleep", "0.2"], tmp_path / "log")
    assert "… building: 0 s so far" in out.getvalue()


def test_a_missing_log_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "no log" in tail(tmp_path / "log")
