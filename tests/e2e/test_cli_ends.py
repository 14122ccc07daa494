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

MAIN = """
import os, pathlib, sys, time
from dask.distributed import Client, get_worker

def speak():
    print("said by a worker", flush=True)
    return get_worker().name

client = Client()
print("begun", client.submit(speak).result(), flush=True)
results = pathlib.Path(os.environ["AF_RESULTS"])
(results / "kept.txt").write_text("kept")
(results / "gone.txt").symlink_to("nowhere")
time.sleep(float(sys.argv[1]))
if len(sys.argv) > 2:
    print(*("x" * 4000 for _ in range(200)), sep=sys.argv[2].encode().decode("unicode_escape"))
    sys.exit("no branch Muon_pt")
"""


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A user who may use sessions, and no more."""
    return Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a session whose program asks a worker, and waits."""
    spec = {"mode": "Headless", "dask": DASK, "run": {"command": ["python", "main.py", "600"]}}
    body = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"generateName": "ends-"}, "spec": spec}
    (tmp_path / "session.yaml").write_text(yaml.safe_dump(body))
    (tmp_path / "main.py").write_text(MAIN)
    return tmp_path


def test_a_cancelled_job_of_ci_leaves_nothing(alice: Person, folder: Path) -> None:
    argv = [sys.executable, "-m", "af_client", "run", "session.yaml", "--rm", "--name", "cancelled"]
    with subprocess.Popen(
        argv, cwd=folder, env=alice.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("begun ")
        # While it runs, each program's log can be read by whoever has the session, though they can list no pods.
        logs = alice.af("logs", "cancelled", "--worker")
        assert (logs.returncode, "said by a worker" in logs.stdout) == (0, True), logs.stderr
        assert "said by a worker" in alice.af("logs", "cancelled", "--worker", "cpu", "--tail", "500").stdout
        assert "Scheduler at" in alice.af("logs", "cancelled", "--scheduler").stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert alice.kubectl("get", "afs", "cancelled", "-o", "name").startswith("Error from server (NotFound)")


@pytest.mark.parametrize(("name", "between"), [("2018-zmumu", r"\n"), ("lab.2018", r"\r")])
def test_the_last_words_of_a_long_log(
    alice: Person, shared_tenant: Tenant, folder: Path, name: str, between: str
) -> None:
    """Whatever the lines before, and whatever its name is: read by its user from what is kept."""
    set_command = f'spec.run.command=[python, main.py, "0", "{between}"]'.replace("\\", "\\\\")
    done = alice.af("run", "session.yaml", "--name", name, "--set", set_command, folder=folder)
    assert done.returncode == 1
    assert "no branch Muon_pt" in done.stderr, "the status quotes how it ended"
    assert done.stdout.count("x" * 4000) == 200, "what is followed is the whole log"
    shared_tenant.kubectl("delete", "pod", "--wait", shared_tenant.session(name)["status"]["run"]["pod"])
    kept = alice.af("logs", name)
    assert (kept.returncode, kept.stdout.rstrip().endswith("no branch Muon_pt")) == (0, True), kept.stderr
    assert "these are the last lines of its log, which are kept" in kept.stderr


def test_one_result_that_is_missing_costs_no_other(alice: Person, folder: Path) -> None:
    done = alice.af("run", "session.yaml", "--set", 'spec.run.command[2]="0"', "--rm", "-o", "out", folder=folder)
    assert done.returncode == 74, done.stderr
    assert "gone.txt: a link to nowhere" in done.stderr
    assert (folder / "out" / "kept.txt").read_text() == "kept"


def test_a_killed_af_leaves_what_ends_by_itself(alice: Person, shared_tenant: Tenant, folder: Path) -> None:
    argv = [sys.executable, "-m", "af_client", "run", "session.yaml", "--rm", "--name", "killed-af"]
    bound = ["--set", "spec.lifetimeSeconds=20", "--set", "spec.ttlSecondsAfterFinished=1"]
    with subprocess.Popen(
        [*argv, *bound], cwd=folder, env=alice.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        poll(lambda: "killed-af" in alice.kubectl("get", "afs", "-o", "name"), "it is created", 30)
        process.kill()
    poll(lambda: "killed-af" not in alice.kubectl("get", "afs", "-o", "name"), "it is gone", 90)
