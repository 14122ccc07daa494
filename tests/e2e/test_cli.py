"""`af` as its user calls it: a process of its own, with a user's rights and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.people import Done, Person
from tests.support.tenant import API, Tenant

PROGRAM = """
import os, pathlib, sys, time
code, seconds = map(int, sys.argv[1:])
print("begun", flush=True)
time.sleep(seconds)
results = pathlib.Path(os.environ["AF_RESULTS"])
(results / "numbers.json").write_text('{"muons": 2}')
(results / "plots").mkdir()
(results / "plots" / "one.txt").write_text("a plot")
print("the last line", flush=True)
sys.exit(code)
"""
SESSION = {
    "apiVersion": API,
    "kind": "AnalysisSession",
    "metadata": {"generateName": "cli-"},
    "spec": {"mode": "Headless", "run": {"command": ["python", "main.py", "0", "0"]}},
}
IDLE = {**SESSION, "spec": {"mode": "Interactive"}}
SLOW = ("--set", 'spec.run.command[3]="600"')


@pytest.fixture(scope="module")
def alice(shared_tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A user who may use sessions, and no more."""
    return Person.create(shared_tenant, "alice", tmp_path_factory.mktemp("alice"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with sessions and a program beside them."""
    (tmp_path / "main.py").write_text(PROGRAM)
    (tmp_path / "session.yaml").write_text(yaml.safe_dump(SESSION))
    (tmp_path / "idle.yaml").write_text(yaml.safe_dump(IDLE))
    return tmp_path


def answer(done: Done) -> Any:
    """Return what a command with `--output json` says."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def said(done: Done, code: int) -> str:
    """Return what a command that fails says, which is short."""
    assert done.returncode == code, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    usage = [line for line in lines if line.startswith(("Usage:", "Try "))]
    assert len(lines) - len(usage) <= 3, done.stderr
    assert lines[len(usage)].startswith("Error: "), done.stderr
    print(done.stderr)
    return "\n".join(lines)


def own(log: list[str]) -> list[str]:
    """Return the lines of the program's own; the runner says what it stored."""
    assert len([line for line in log if line.startswith("af-run: 2 files, 18 bytes stored at root://")]) == 1
    return [line for line in log if not line.startswith("af-run: ")]


def test_run_follows_to_the_end_and_fetches(alice: Person, folder: Path) -> None:
    done = alice.af("run", "session.yaml", "-o", "out", folder=folder)
    assert done.returncode == 0, done.stderr
    assert own(done.stdout.splitlines()) == ["begun", "the last line"]
    assert f"for {alice.user}" in done.stderr
    assert "succeeded" in done.stderr
    assert json.loads((folder / "out" / "numbers.json").read_text()) == {"muons": 2}
    assert (folder / "out" / "plots" / "one.txt").read_text() == "a plot"


def test_run_ends_with_the_exit_code_of_the_analysis(alice: Person, folder: Path) -> None:
    done = alice.af("run", "session.yaml", "--set", 'spec.run.command[2]="3"', "--output", "json", folder=folder)
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["exitCode"] == 3
    assert report["session"]["status"]["phase"] == "Failed"
    assert "failed: the run ended with exit code 3: the last line" in done.stderr


def test_run_gives_up_waiting(alice: Person, folder: Path) -> None:
    done = alice.af("run", "session.yaml", *SLOW, "--timeout=1", "--rm", folder=folder)
    assert done.returncode == 124
    assert "has not ended after 1 s" in done.stderr
    assert "deleted" in done.stderr


def test_a_session_from_one_command_to_the_next(alice: Person, folder: Path) -> None:
    slow = ("--set", 'spec.run.command[3]="2"')
    made = alice.af("run", "session.yaml", "--no-wait", "--name", "steps", *slow, folder=folder)
    assert (made.returncode, made.stdout) == (0, "steps\n")
    assert alice.af("run", "session.yaml", "--no-wait", "--name", "steps", folder=folder).returncode == 1
    listed = alice.af("list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "USER", "MODE", "PHASE", "WORKERS", "AGE"]
    assert any(line.split()[:3] == ["steps", alice.user, "Headless"] for line in listed)
    words = alice.af("status", "steps").stdout
    assert words.startswith("steps  ")
    log = alice.af("logs", "--follow", "steps")
    assert own(log.stdout.splitlines()) == ["begun", "the last line"]
    assert len(alice.af("logs", "steps", "--tail=1").stdout.splitlines()) == 1
    alice_waits(alice, "steps", "Succeeded")
    words = alice.af("status", "steps").stdout
    assert "succeeded: the run ended with exit code 0" in words
    assert "next: af results steps -o DIR" in words
    files = alice.af("results", "steps").stdout.splitlines()
    assert sorted(line.rpartition("/")[2] for line in files) == ["numbers.json", "one.txt"]
    fetched = alice.af("results", "steps", "-o", "out", folder=folder)
    assert "2 files" in fetched.stdout
    assert (folder / "out" / "numbers.json").exists()
    assert alice.af("delete", "steps", "--yes").stdout == "session steps deleted\n"
    assert "there is no session 'steps'" in said(alice.af("status", "steps"), 1)


def test_suspend_and_resume(alice: Person, folder: Path) -> None:
    alice.af("run", "idle.yaml", "--name", "idle", folder=folder)
    assert "`af resume idle` brings it back" in alice.af("suspend", "idle").stdout
    alice_waits(alice, "idle", "Suspended")
    assert "it is suspended: no compute runs" in alice.af("status", "idle").stdout
    assert alice.af("resume", "idle").returncode == 0
    alice_waits(alice, "idle", "Ready")
    assert "no run, so no log" in said(alice.af("logs", "idle"), 2)


def test_every_answer_can_be_read_by_a_program(alice: Person, folder: Path) -> None:
    json_ = ("--output", "json")
    made = answer(alice.af("run", "session.yaml", "--no-wait", *json_, folder=folder))
    name = made["metadata"]["name"]
    assert name.startswith("cli-")
    alice_waits(alice, name, "Succeeded")
    assert name in [item["metadata"]["name"] for item in answer(alice.af("list", *json_))["items"]]
    assert answer(alice.af("status", name, *json_))["status"]["run"]["exitCode"] == 0
    lines = [json.loads(line)["line"] for line in alice.af("logs", name, *json_).stdout.splitlines()]
    assert own(lines) == ["begun", "the last line"]
    found = answer(alice.af("results", name, *json_))
    assert {Path(file["url"]).name: file["bytes"] for file in found["files"]} == {"numbers.json": 12, "one.txt": 6}
    assert answer(alice.af("results", name, "-o", "here", *json_, folder=folder))["directory"] == "here"
    assert answer(alice.af("suspend", name, *json_))["spec"]["suspend"] is True
    assert answer(alice.af("resume", name, *json_))["spec"]["suspend"] is False
    assert answer(alice.af("delete", name, "--yes", *json_)) == {"deleted": name, "namespace": alice.namespace}


def test_a_session_that_the_profile_refuses(alice: Person, folder: Path) -> None:
    done = alice.af("run", "session.yaml", "--name", "vast", "--set", "spec.run.size=vast", folder=folder)
    assert done.returncode == 1
    assert "refused: UnknownSize: size 'vast' is not in profile 'default': choose one of: " in done.stderr
    assert "next: correct the session file" in done.stderr


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no file": (("run", "nowhere.yaml"), 2, "nowhere.yaml"),
    "not YAML": (("run", "main.py"), 2, "no valid YAML"),
    "not a session": (("run", "pod.yaml"), 2, "kind is 'Pod': write `kind: AnalysisSession`"),
    "unknown field": (("run", "session.yaml", "--set", "spec.dsk={}"), 2, 'unknown field "spec.dsk"'),
    "wrong value": (("run", "session.yaml", "--set", "spec.mode=Batch"), 2, "spec.mode: "),
    "wrong user": (
        ("run", "session.yaml", "--set", "spec.user=bob"),
        1,
        "session-user': spec.user is 'bob', but you are",
    ),
    "too large": (("run", "session.yaml", "--include", "large.txt"), 2, "all source files have 256 KiB"),
    "too much": (("run", "session.yaml", "--include", "a.txt", "--include", "b.txt"), 2, "more than 256 KiB"),
    "binary": (("run", "session.yaml", "--include", "binary"), 2, "only text travels in a session"),
    "no right": (("list", "-n", "kube-system"), 1, "may not list analysissessions in namespace 'kube-system'"),
    "no right at all": (("list", "-A"), 1, "may not list analysissessions in all namespaces"),
    "no such session": (("logs", "nope"), 1, "there is no session 'nope' here: `af list` shows"),
    "no results": (("results", "nope"), 1, "there is no session 'nope'"),
    "nobody to ask": (("delete", "nope"), 2, "give --yes"),
    "no such context": (("list", "--context", "moon"), 2, "no context 'moon' in "),
    "no such command": (("rum",), 2, "No such command 'rum'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_a_line(alice: Person, folder: Path, name: str) -> None:
    (folder / "pod.yaml").write_text("{apiVersion: v1, kind: Pod}")
    (folder / "large.txt").write_text("x" * (256 * 1024 + 1))
    for half in ("a.txt", "b.txt"):
        (folder / half).write_text("x" * (128 * 1024 + 1))
    (folder / "binary").write_bytes(bytes(range(256)))
    args, code, words = WRONG[name]
    assert words in said(alice.af(*args, folder=folder), code)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "kubeconfig"),
        ({"server": "https://127.0.0.1:1"}, "127.0.0.1:1"),
        ({"server": "https://nowhere.invalid"}, "nowhere.invalid"),
        ({"token": "expired"}, "the API server does not know you (401)"),
        ({"certificate-authority-data": ""}, "is certificate-authority in the kubeconfig that server's?"),
    ],
    ids=["no kubeconfig", "nobody listens", "no such host", "wrong token", "wrong authority"],
)
def test_a_cluster_that_cannot_be_reached(
    alice: Person, tmp_path: Path, change: dict[str, str] | None, words: str
) -> None:
    path = tmp_path / "kubeconfig"
    if change is not None:
        config = yaml.safe_load(alice.kubeconfig.read_text())
        for part in (config["clusters"][0]["cluster"], config["users"][0]["user"]):
            part.update({key: value for key, value in change.items() if key in part})
        path.write_text(yaml.safe_dump(config))
    environment = {"KUBECONFIG": str(path), "HOME": str(tmp_path)}
    assert words in said(alice.af("list", environment=environment), 1)


def test_as_a_plugin_of_kubectl(alice: Person) -> None:
    """kubectl finds it by its name in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{alice.environment['PATH']}"
    argv = ["kubectl", "af", "list"]
    done = subprocess.run(
        argv, env=alice.environment | {"PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NAME") or f"no sessions in namespace {alice.namespace}" in done.stderr


def alice_waits(alice: Person, name: str, phase: str) -> None:
    """Wait as a user can: with kubectl, on her own session."""
    alice.kubectl("wait", f"--for=jsonpath={{.status.phase}}={phase}", f"afs/{name}", "--timeout=90s")
    assert alice.kubectl("get", "afs", name, "-o", "jsonpath={.status.phase}") == phase
