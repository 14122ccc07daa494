"""`af` is ended from outside, as a process of its own: what becomes of its session, and with which code it ends."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from local_cluster.settings import CHECKOUT
from tests.support.session_server import SessionServer, session_server

SESSION = """
apiVersion: analysisfacility.io/v1alpha1
kind: AnalysisSession
metadata: {generateName: z-}
spec: {mode: Headless, run: {command: [sleep, "900"]}}
"""
AF = [sys.executable, "-m", "af_client"]
SECONDS = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SessionServer]:
    (tmp_path / "s.yaml").write_text(SESSION)
    with session_server() as found:
        found.kubeconfig(tmp_path / "kubeconfig")
        yield found


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    for process in Af.begun:
        process.kill()
        process.wait()
    Af.begun.clear()


@pytest.fixture
def environment(server: SessionServer, tmp_path: Path) -> dict[str, str]:
    return os.environ | {"KUBECONFIG": str(tmp_path / "kubeconfig"), "PYTHONPATH": str(CHECKOUT)}


class Af:
    """One `af`, whose output goes into files; its group is its own."""

    begun: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, folder: Path, environment: dict[str, str], *args: str, **more: Any) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err} | more
            self.process = subprocess.Popen([*AF, *args], cwd=folder, env=environment, process_group=0, **streams)
        Af.begun.append(self.process)

    def until(self, what: str, where: str = "err") -> None:
        """Wait until it has written something."""
        end = time.monotonic() + SECONDS
        while what not in (text := getattr(self, where).read_text()):
            assert time.monotonic() < end, text
            assert self.process.poll() is None, text
            time.sleep(0.02)

    def ends(self) -> int:
        code = self.process.wait(SECONDS)
        said = self.err.read_text()
        assert "Traceback" not in said, said
        assert "Exception ignored" not in said, said
        return code


def until_asked(server: SessionServer, request: str) -> None:
    end = time.monotonic() + SECONDS
    while not any(each.startswith(request) for each in server.requests):
        assert time.monotonic() < end, server.requests
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "remove"),
    [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGHUP, False)],
)
def test_run(
    server: SessionServer, environment: dict[str, str], tmp_path: Path, number: signal.Signals, remove: bool
) -> None:
    af = Af(tmp_path, environment, "run", "s.yaml", "--output", "json", *(["--rm"] if remove else []))
    af.until("first line")
    af.process.send_signal(number)
    assert af.ends() == 128 + number
    [name] = [request.partition(" ")[2] for request in server.requests if request.startswith("POST")]
    assert (name in server.sessions) is not remove
    assert (f"session {name} deleted" in af.err.read_text()) is remove
    assert (f"af delete -n physics {name}" in af.err.read_text()) is not remove
    report = json.loads(af.out.read_text())
    assert (report["exitCode"], report["error"]) == (128 + number, f"stopped by {number.name}")
    assert report["session"]["status"]["phase"] == "Running"


def test_timeout_tells_the_process_and_its_group(
    server: SessionServer, environment: dict[str, str], tmp_path: Path
) -> None:
    """timeout(1) sends the signal to its child, and at once to its whole group: two that mean one."""
    argv = ["timeout", "--signal=TERM", "8", *AF, "run", "s.yaml", "--rm"]
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert b"first line" in done.stdout
    assert server.sessions == {}
    assert b"deleted" in done.stderr


def test_while_it_is_being_created(server: SessionServer, environment: dict[str, str], tmp_path: Path) -> None:
    server.create_seconds = 1.0
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm")
    until_asked(server, "POST")
    af.process.terminate()
    assert af.ends() == 143
    assert server.sessions == {}


def test_an_answer_that_was_lost(server: SessionServer, environment: dict[str, str], tmp_path: Path) -> None:
    server.lose = True
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm")
    af.until("first line", "out")  # it has found its session by the name that it chose
    af.process.terminate()
    assert af.ends() == 143
    assert server.sessions == {}


def test_somebody_else_s_session_is_not_taken_for_one_whose_answer_was_lost(
    server: SessionServer, environment: dict[str, str], tmp_path: Path
) -> None:
    server.lose = server.foreign = True
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm", "--name", "mine")
    assert af.ends() == 1
    assert "mine" in server.sessions


def test_a_second_signal_while_it_deletes_does_not_leave_it_behind(
    server: SessionServer, environment: dict[str, str], tmp_path: Path
) -> None:
    server.delete_seconds = 2.5
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm")
    af.until("first line", "out")
    af.process.send_signal(signal.SIGINT)
    until_asked(server, "DELETE")
    time.sleep(1.2)  # a person's second Ctrl-C
    af.process.send_signal(signal.SIGINT)
    assert af.ends() == 130
    assert server.sessions == {}


def test_what_cannot_be_deleted_is_said(server: SessionServer, environment: dict[str, str], tmp_path: Path) -> None:
    server.deletes_refused = 99
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm")
    af.until("first line", "out")
    af.process.terminate()
    assert af.ends() == 143
    [name] = server.sessions
    assert f"session {name} could not be deleted" in af.err.read_text()
    assert f"af delete -n physics {name}" in af.err.read_text()


def test_a_server_that_is_away_for_a_moment(server: SessionServer, environment: dict[str, str], tmp_path: Path) -> None:
    server.deletes_refused = 2
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm")
    af.until("first line", "out")
    af.process.terminate()
    assert af.ends() == 143
    assert server.sessions == {}


@pytest.mark.parametrize(
    ("chatty", "both"),
    [(True, False), (False, False), (False, True)],
    ids=["prints for ever", "prints one line", "prints one line, stderr too"],
)
def test_a_pipe_that_nobody_reads(
    server: SessionServer, environment: dict[str, str], tmp_path: Path, chatty: bool, both: bool
) -> None:
    if chatty:
        server.log = (f"line {number}" for number in itertools.count())
    reader, writer = os.pipe()
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm", stdout=writer, **({"stderr": writer} if both else {}))
    os.close(writer)
    assert os.read(reader, 1)
    if not both:
        af.until("Run: running")
    os.close(reader)
    assert af.ends() == 141
    assert server.sessions == {}


@pytest.mark.parametrize("remove", [True, False])
def test_a_terminal_that_is_gone(
    server: SessionServer, environment: dict[str, str], tmp_path: Path, remove: bool
) -> None:
    ours, its = pty.openpty()
    args = ["run", "s.yaml", *(["--rm"] if remove else [])]
    af = Af(tmp_path, environment, *args, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while b"first line" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)  # as when the window is closed; no SIGHUP comes, for it is nobody's controlling terminal
    assert af.ends() == 141
    assert bool(server.sessions) is not remove


def test_ctrl_c_at_a_terminal_deletes_what_has_rm(
    server: SessionServer, environment: dict[str, str], tmp_path: Path
) -> None:
    ours, its = pty.openpty()
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm", stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while b"first line" not in seen:
        seen += os.read(ours, 4096)
    af.process.send_signal(signal.SIGINT)
    assert af.ends() == 130
    assert server.sessions == {}
    os.close(ours)


BACKGROUND = """
$AF run s.yaml --rm >out 2>err &
pid=$!
until grep -q 'first line' out; do sleep 0.05; done
kill -$1 $pid
for _ in $(seq $2); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done
kill -0 $pid 2>/dev/null && echo still there
kill -TERM $pid 2>/dev/null
wait $pid
echo $?
"""
STILL_THERE = "still there\n143"


@pytest.mark.parametrize(
    ("prefix", "number", "said"),
    [
        ("", "HUP", "129"),
        ("", "INT", STILL_THERE),  # POSIX: a shell without job control lets a background job ignore it
        ("nohup", "HUP", STILL_THERE),
    ],
)
def test_in_the_background_of_a_script(
    server: SessionServer, environment: dict[str, str], tmp_path: Path, prefix: str, number: str, said: str
) -> None:
    af = " ".join([prefix, *AF])
    argv = ["sh", "-c", BACKGROUND, "script", number, "10" if said == STILL_THERE else "300"]
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment | {"AF": af}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == said, done.stderr + (tmp_path / "err").read_text()
    assert server.sessions == {}


def test_a_background_job_of_an_interactive_shell_is_not_stopped_by_a_question(
    server: SessionServer, environment: dict[str, str], tmp_path: Path
) -> None:
    """Who is not in the foreground of their terminal and reads from it is stopped by it, for ever."""
    script = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:], process_group=0)\n"  # a job of its own, in the background
        "sys.exit(child.wait())"
    )
    pid, ours = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-c", script, *AF, "run", "s.yaml"], environment)  # noqa: S606
    seen = b""
    while b"first line" not in seen:
        seen += os.read(ours, 4096)
    [child] = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(child), signal.SIGINT)
    end = time.monotonic() + SECONDS
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 130
    assert len(server.sessions) == 1
    os.close(ours)


def test_following_a_log(server: SessionServer, environment: dict[str, str], tmp_path: Path) -> None:
    server.sessions["z"] = session("z")
    af = Af(tmp_path, environment, "logs", "-f", "z")
    af.until("first line", "out")
    af.process.send_signal(signal.SIGHUP)
    assert af.ends() == 129


def test_a_log_that_nobody_reads(server: SessionServer, environment: dict[str, str], tmp_path: Path) -> None:
    server.sessions["z"] = session("z")
    server.log = (f"line {number}" for number in itertools.count())
    argv = f"{' '.join(AF)} logs -f z | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", argv], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("line 0\n141\n", "")


def session(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load(SESSION)
    body["metadata"] = {"name": name, "namespace": "physics", "uid": "u", "resourceVersion": "1", "generation": 1}
    return body | {"status": {"observedGeneration": 1, "phase": "Running", "conditions": [], "run": {"pod": "p1"}}}


def test_a_killed_af_leaves_a_session_that_ends_by_itself(
    server: SessionServer, environment: dict[str, str], tmp_path: Path
) -> None:
    af = Af(tmp_path, environment, "run", "s.yaml", "--rm")
    af.until("first line", "out")
    af.process.kill()
    assert af.process.wait(SECONDS) == -signal.SIGKILL
    [spec] = [body["spec"] for body in server.sessions.values()]
    assert (spec["lifetimeSeconds"], spec["ttlSecondsAfterFinished"]) == (3600, 300)
