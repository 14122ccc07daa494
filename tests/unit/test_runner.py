"""af-run with real children: exit codes, signals, results, and the message that the operator reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from af_client import storage
from af_client.pod import runner
from af_client.pod.runner import MAX_MESSAGE, Outcome, termination_message
from af_client.storage import StoredFile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def af_run(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start af-run as a process of its own, in an empty directory."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "cwd").mkdir()

    def start(*command: str, **env: str) -> subprocess.Popen[str]:
        whole = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AF_RESULTS": str(tmp_path / "results"),
            "AF_RESULTS_URL": f"file://{tmp_path}/store",
            "AF_TERMINATION_LOG": str(tmp_path / "message"),
        } | env
        child = subprocess.Popen(
            [sys.executable, "-m", "af_client.pod.runner", *command],
            cwd=tmp_path / "cwd",
            env=whole,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def message(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "message").read_text())
    return found


def wait_for(path: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "code", "name"),
    [
        ("exit 0", 0, None),
        ("exit 3", 3, None),
        ("exit 255", 255, None),
        ("kill -KILL $$", 137, "SIGKILL"),
        ("kill -SEGV $$", 139, "SIGSEGV"),
    ],
)
def test_exit_codes(af_run: Any, tmp_path: Path, script: str, code: int, name: str | None) -> None:
    child = af_run("--", "sh", "-c", f"echo said; echo wrong >&2; echo x > $AF_RESULTS/x; {script}")
    out, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert out == "said\nwrong\n"
    assert all(line.startswith("af-run: ") for line in err.splitlines())
    found = message(tmp_path)
    assert (found["exitCode"], found["signal"], found["error"]) == (code, name, None)
    assert found["wallSeconds"] > 0
    assert found["peakMemoryBytes"] > 100_000
    assert found["results"]["count"] == 1
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["exitCode"] == code


def test_the_last_words_stay_the_last(af_run: Any) -> None:
    script = "import sys; print(*['x' * 4000] * 200, sep='\\n'); sys.exit('no branch Muon_pt')"
    out, err = af_run("--", sys.executable, "-c", script, PYTHONUNBUFFERED="1").communicate(timeout=30)
    assert (out.count("x"), out.splitlines()[-1], err) == (800_000, "no branch Muon_pt", "")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["no-such-program"], 127, "neither in the image nor among run.source.files"),
        (["./plain.txt"], 126, "name the interpreter"),
        (["script.sh"], 127, "write ./script.sh"),
    ],
)
def test_commands_that_cannot_start(af_run: Any, tmp_path: Path, command: list[str], code: int, said: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "plain.txt").write_text("text")
    (source / "script.sh").write_text("#!/bin/sh\n")
    child = af_run("--source", str(source), "--", *command)
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert said in err
    assert said in message(tmp_path)["error"]


def test_source_files_as_a_config_map_mounts_them(af_run: Any, tmp_path: Path) -> None:
    versions = tmp_path / "source" / "..2026_01_01"
    versions.mkdir(parents=True)
    (versions / "go.sh").write_text("#!/bin/sh\ncat data.txt; echo more >> data.txt; ls -a")
    (versions / "data.txt").write_text("data\n")
    (versions / "data.txt").chmod(0o444)
    (tmp_path / "source" / "..data").symlink_to("..2026_01_01")
    for name in ("go.sh", "data.txt"):
        (tmp_path / "source" / name).symlink_to(f"..data/{name}")
    out, err = af_run("--source", str(tmp_path / "source"), "--", "./go.sh").communicate(timeout=30)
    assert out.split() == ["data", ".", "..", "data.txt", "go.sh"], err


def test_without_a_command() -> None:
    with pytest.raises(SystemExit) as caught:
        runner.run(["--"])
    assert caught.value.code == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command_and_what_it_started(af_run: Any, tmp_path: Path, number: signal.Signals) -> None:
    # Python, not sh: a shell's background processes ignore SIGINT.
    program = """
import os, signal, subprocess, sys, time
signal.signal(int(sys.argv[1]), lambda *_: (open('trapped', 'w').close(), sys.exit(7)))
open('ready', 'w').close()
while True: time.sleep(0.05)
"""
    child = af_run("--", sys.executable, "-c", program, str(int(number)))
    wait_for(tmp_path / "cwd" / "ready", child)
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == 7
    assert (tmp_path / "cwd" / "trapped").exists()
    assert (tmp_path / "store" / "manifest.json").exists()


def test_a_command_that_dies_of_the_signal(af_run: Any, tmp_path: Path) -> None:
    child = af_run("--", "sh", "-c", "touch ready; exec sleep 60")
    wait_for(tmp_path / "cwd" / "ready", child)
    child.terminate()
    child.communicate(timeout=30)
    assert child.returncode == 143
    assert message(tmp_path)["signal"] == "SIGTERM"


def test_a_command_that_ends_well_because_it_was_told_to_end_is_not_complete(af_run: Any, tmp_path: Path) -> None:
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open('ready', 'w').close()
while True: time.sleep(0.05)
"""
    child = af_run("--", sys.executable, "-c", program)
    wait_for(tmp_path / "cwd" / "ready", child)
    child.terminate()
    _, err = child.communicate(timeout=30)
    assert child.returncode == 143
    assert "because of SIGTERM: it is not complete" in err
    assert (message(tmp_path)["exitCode"], message(tmp_path)["signal"]) == (143, "SIGTERM")


def test_a_later_try_takes_the_manifest_away_before_it_begins_and_leaves_the_files(af_run: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "manifest.json").write_text("{}")
    (store / "checkpoint").write_text("a user's own")
    child = af_run("--", "sh", "-c", f"ls {store}; kill -KILL $PPID", AF_TRY="2")
    out, _ = child.communicate(timeout=30)
    assert out.split() == ["checkpoint"]
    assert not (store / "manifest.json").exists()


@pytest.mark.parametrize(("script", "oom"), [("kill -KILL $$", True), ("exit 3", True), ("exit 0", False)])
def test_a_process_that_the_kernel_killed_for_memory_is_told_of(
    in_process: Path, monkeypatch: pytest.MonkeyPatch, script: str, oom: bool
) -> None:
    (in_process / "memory.events").write_text("low 0\noom 0\noom_kill 1\noom_group_kill 0\n")
    monkeypatch.setattr(runner, "CGROUP", in_process)
    monkeypatch.setattr(runner, "_own_cgroup", lambda: True)
    monkeypatch.delenv("AF_RESULTS_URL")
    runner.run(["--", "sh", "-c", f"sed -i 's/oom_kill 1/oom_kill 2/' {in_process}/memory.events; {script}"])
    assert message(in_process).get("oom", False) is oom


def test_a_program_that_was_killed_by_somebody_else_is_no_matter_of_memory(
    in_process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_process / "memory.events").write_text("oom_kill 1\n")
    monkeypatch.setattr(runner, "CGROUP", in_process)
    monkeypatch.setattr(runner, "_own_cgroup", lambda: True)
    runner.run(["--", "sh", "-c", "kill -KILL $$"])
    assert "oom" not in message(in_process)


def test_nothing_that_the_command_leaves_behind_goes_on(af_run: Any, tmp_path: Path) -> None:
    child = af_run("--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $! > pid")
    child.communicate(timeout=30)
    assert child.returncode == 0
    pid = int((tmp_path / "cwd" / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


SLOW = """
import sys, time
from pathlib import Path
from af_client import storage
from af_client.pod import runner
put = storage.Storage._put
def slow(self, name, source):
    Path("uploading").touch()
    time.sleep(0.5)
    return put(self, name, source)
storage.Storage._put = slow
sys.exit(runner.run(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_during_the_upload_finishes_it_or_leaves_no_manifest(
    af_run: Any, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "cwd" / "slow.py").write_text(SLOW)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AF_RESULTS": str(tmp_path / "results")}
    env |= {"AF_RESULTS_URL": f"file://{tmp_path}/store", "AF_TERMINATION_LOG": str(tmp_path / "message")}
    command = [sys.executable, "slow.py", "--", "sh", "-c", "echo a > $AF_RESULTS/a; echo b > $AF_RESULTS/b"]
    with subprocess.Popen(command, cwd=tmp_path / "cwd", env=env, text=True) as child:
        wait_for(tmp_path / "cwd" / "uploading", child)
        child.send_signal(number)
        code = child.wait(timeout=30)
    if number == signal.SIGTERM:
        assert code == 0
        assert json.loads((tmp_path / "store" / "manifest.json").read_text())["count"] == 2
    else:
        assert code == -signal.SIGKILL
        assert not (tmp_path / "store" / "manifest.json").exists()


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(storage, "PAUSES", (0.0,))
    monkeypatch.setenv("AF_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("AF_TERMINATION_LOG", str(tmp_path / "message"))
    monkeypatch.setenv("AF_RESULTS_URL", f"file://{tmp_path}/plain/store")
    (tmp_path / "plain").write_text("a file where a directory is needed")
    return tmp_path


def test_an_upload_that_fails_fails_the_run(in_process: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(["--", "sh", "-c", "echo x > $AF_RESULTS/x"]) == os.EX_IOERR
    found = message(in_process)
    assert (found["exitCode"], found["results"]) == (74, None)
    assert found["error"].startswith("upload failed: cannot")
    assert "upload failed" in capsys.readouterr().err


def test_the_command_s_own_failure_comes_first(in_process: Path) -> None:
    assert runner.run(["--", "sh", "-c", "exit 5"]) == 5
    assert message(in_process)["exitCode"] == 5
    assert "upload failed" in message(in_process)["error"]


def test_an_unknown_kind_of_storage(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF_RESULTS_URL", "nonsense://x")
    assert runner.run(["--", "true"]) == 74
    assert "no fsspec file system for nonsense://" in message(in_process)["error"]


def test_no_results_url(in_process: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("AF_RESULTS_URL")
    assert runner.run(["--", "sh", "-c", "echo x > $AF_RESULTS/x"]) == 0
    assert message(in_process)["results"] is None
    assert "not kept" in capsys.readouterr().err


def test_the_upload_goes_past_the_cache_and_the_command_through_it(
    in_process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XROOT_PROXY", "root://localhost:1096//")
    monkeypatch.setenv("XRD_PLUGINCONFDIR", "/plugins")
    monkeypatch.setenv("AF_RESULTS_URL", f"file://{in_process}/store")
    assert (
        runner.run(["--", "sh", "-c", 'test "$XROOT_PROXY$XRD_PLUGINCONFDIR" = root://localhost:1096///plugins']) == 0
    )
    assert "XROOT_PROXY" not in os.environ
    assert "XRD_PLUGINCONFDIR" not in os.environ


def test_signal_handlers_are_given_back(in_process: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    runner.run(["--", "true"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert in_process.exists()


def files(count: int, length: int = 20) -> list[StoredFile]:
    return [StoredFile(f"root://o//r/{i:0{length}}", i, "0" * 8) for i in range(count)]


@pytest.mark.parametrize(("count", "length"), [(0, 20), (1, 20), (1000, 20), (3, 990), (300, 5), (10, 2000)])
def test_the_message_fits_and_counts_everything(count: int, length: int) -> None:
    stored = files(count, length)
    text = termination_message(Outcome(0, error="x" * 5000), "root://o//r", stored)
    assert len(text.encode()) <= MAX_MESSAGE
    results = json.loads(text)["results"]
    assert (results["count"], results["bytes"]) == (count, sum(f.bytes for f in stored))
    assert len(results["files"]) <= 64
    assert all(len(f["url"]) <= 1000 for f in results["files"])
    if length < 900:
        assert len(results["files"]) >= min(count, 20)


def test_the_message_survives_any_error_text() -> None:
    text = termination_message(Outcome(1, error="\udcff größe " * 400), "u", None)
    assert len(text.encode()) <= MAX_MESSAGE
    assert json.loads(text)["results"] is None


def test_many_real_files(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF_RESULTS_URL", f"file://{in_process}/store")
    assert runner.run(["--", "sh", "-c", "for i in $(seq 200); do echo $i > $AF_RESULTS/file-$i; done"]) == 0
    found = message(in_process)["results"]
    assert found["count"] == 200
    assert len(found["files"]) < 200
    assert len(json.loads((in_process / "store" / "manifest.json").read_text())["files"]) == 200


def test_the_runner_starts_light() -> None:
    heavy = ("fsspec", "XRootD", "kubernetes", "rich")
    code = f"import sys, af_client.pod.runner; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.fixture
def with_storage(in_process: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AF_RESULTS_URL", f"file://{in_process}/store")
    return in_process


def test_one_result_that_cannot_be_stored_costs_no_other_and_is_told(with_storage: Path) -> None:
    assert runner.run(["--", "sh", "-c", "cd $AF_RESULTS; ln -s nowhere gone; echo kept > kept"]) == 74
    found = message(with_storage)
    assert (found["exitCode"], found["results"]["count"]) == (74, 1)
    assert found["error"].startswith("1 of the results could not be stored (gone: a link to nowhere); 1 are at ")


def test_what_is_missing_leaves_a_failed_run_its_own_code_and_words(with_storage: Path) -> None:
    assert runner.run(["--", "sh", "-c", "ln -s nowhere $AF_RESULTS/gone; exit 3"]) == 3
    assert (message(with_storage)["error"], message(with_storage)["results"]["count"]) == (None, 0)
