"""`af` that is stopped from outside, logs of all that a session runs, and results of which one is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.people import Person
from tests.support.tenant import API, DASK, Tenant, poll

ASK = """
import time
from dask.distributed import Client

def speak():
    print("said by a worker", flush=True)

Client().submit(speak).result()
print("begun", flush=True)
time.sleep(600)
"""
FAIL = """
import sys
print(*("x" * 4000 for _ in range(200)), sep={"lines": "\\n", "bar": "\\r"}[sys.argv[1]])
sys.exit("no branch Muon_pt")
"""
LEAVE = """
import os, pathlib
results = pathlib.Path(os.environ["AF_RESULTS"])
(results / "kept.txt").write_text("kept")
(results / "gone.txt").symlink_to("nowhere")
"""


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A user who may use sessions, and no more."""
    return Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with programs and their sessions: of one that asks a worker and waits, and of any other."""
    for name, program in (("ask", ASK), ("fail", FAIL), ("leave", LEAVE)):
        (tmp_path / f"{name}.py").write_text(program)
        spec = {"mode": "Headless", "run": {"command": ["python", f"{name}.py"]}}
        spec |= {"dask": DASK} if name == "ask" else {}
        body = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"generateName": "ends-"}, "spec": spec}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
    return tmp_path


def test_a_cancelled_job_of_ci_leaves_nothing(alice: Person, folder: Path) -> None:
    argv = [sys.executable, "-m", "af_client", "run", "ask.yaml", "--rm", "--name", "cancelled"]
    with subprocess.Popen(
        argv, cwd=folder, env=alice.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("begun")
        # While it runs, each program's log can be read by whoever has the session, though they can list no pods.
        logs = alice.af("logs", "cancelled", "--worker")
        assert (logs.returncode, "said by a worker" in logs.stdout) == (0, True), logs.stderr
        assert "said by a worker" in alice.af("logs", "cancelled", "--worker", "cpu", "--tail", "500").stdout
        assert "Scheduler at" in alice.af("logs", "cancelled", "--scheduler").stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert alice.kubectl("get", "afs", "cancelled", "-o", "name").startswith("Error from server (NotFound)")


@pytest.mark.parametrize("form", ["lines", "bar"])
def test_the_last_words_of_a_long_log(alice: Person, shared_tenant: Tenant, folder: Path, form: str) -> None:
    """Whatever the lines before: told by the status, and read by its user from what is kept."""
    command = f"spec.run.command=[python, fail.py, {form}]"
    done = alice.af("run", "fail.yaml", "--name", form, "--set", command, folder=folder)
    assert done.returncode == 1
    assert "the run ended with exit code 1: no branch Muon_pt" in done.stderr
    assert done.stdout.count("x" * 4000) == 200, "what is followed is the whole log"
    shared_tenant.kubectl("delete", "pod", "--wait", shared_tenant.session(form)["status"]["run"]["pod"])
    kept = alice.af("logs", form)
    assert (kept.returncode, kept.stdout.endswith("\nno branch Muon_pt\n")) == (0, True), kept.stderr
    assert "these are the last lines of its log, which are kept" in kept.stderr


def test_one_result_that_is_missing_costs_no_other(alice: Person, folder: Path) -> None:
    done = alice.af("run", "leave.yaml", "--rm", "-o", "out", folder=folder)
    assert done.returncode == 74, done.stderr
    assert "gone.txt: a link to nowhere" in done.stderr
    assert (folder / "out" / "kept.txt").read_text() == "kept"


def test_a_killed_af_leaves_what_ends_by_itself(alice: Person, shared_tenant: Tenant, folder: Path) -> None:
    argv = [sys.executable, "-m", "af_client", "run", "ask.yaml", "--rm", "--name", "killed-af"]
    bound = ["--set", "spec.lifetimeSeconds=20", "--set", "spec.ttlSecondsAfterFinished=1"]
    with subprocess.Popen(
        [*argv, *bound], cwd=folder, env=alice.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        poll(lambda: "killed-af" in alice.kubectl("get", "afs", "-o", "name"), "it is created", 30)
        process.kill()
    poll(lambda: "killed-af" not in alice.kubectl("get", "afs", "-o", "name"), "it is gone", 90)
