"""`af` as its users call it, against a scripted API server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fsspec.implementations.memory import MemoryFileSystem

from af_client import follow, sessions, storage
from af_client.cli import running
from af_client.cli.commands import cli
from af_client.cli.signals import Stopped
from af_client.errors import from_response
from af_client.follow import Follower
from af_client.storage import Storage
from tests.support.fake_transport import FakeTransport, Script, condition, status

ROOT = Path(__file__).parents[2]
URL = "memory://results/physics/z-abcde-uid-z-abcde"
FILE = {"url": f"{URL}/m.json", "bytes": 1, "adler32": "00630063"}
RUN = {"pod": "p1", "exitCode": 0, "reason": "Succeeded", "wallSeconds": 1.5}
LEFT = {"results": {"url": URL, "count": 1, "bytes": 1, "files": [FILE]}}
POOLS = {"dask": {"pools": {"cpu": {"ready": 1, "desired": 2}}}}
STARTING = status("Starting", condition("DaskReady", False, "Waiting", "1 of 2 workers"), components=POOLS)
RUNNING = status("Running", condition("DaskReady", True), run={"pod": "p1"})
DONE = status("Succeeded", condition("RunComplete", True, "Succeeded", "exit code 0"), run=RUN | LEFT)
REFUSED = status("Refused", condition("Accepted", False, "UnknownImage", "there is no image 'x'"))
SESSION = """
apiVersion: analysisfacility.io/v1alpha1
kind: AnalysisSession
metadata: {generateName: z-}
spec:
  mode: Headless
  run: {command: [python, zmumu.py]}
  dask: {pools: [{name: cpu, nodePool: cpu, workers: {max: 2}}]}
"""


def failed(code: int | None, reason: str) -> dict[str, Any]:
    run = {"pod": "p1", "reason": reason} | ({} if code is None else {"exitCode": code})
    return status("Failed", condition("RunComplete", True, reason, f"the run ended: {reason}"), run=run)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(sessions, "_letters", lambda: "abcde")
    monkeypatch.setattr(follow, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(storage, "PAUSES", ())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "session.yaml").write_text(SESSION)
    (tmp_path / "zmumu.py").write_text("print('mass')")
    yield
    MemoryFileSystem.store.clear()


def af(fake: FakeTransport, *args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(args), obj=fake, input=stdin)


def scripted(*script: Any, log: Script | None = None) -> FakeTransport:
    return FakeTransport([list(script)], {"p1": [log if log is not None else ["t1 mass 91.2 GeV"]]})


def stored() -> None:
    manifest = {"complete": True, "count": 1, "files": [FILE]}
    for name, content in (("m.json", b"b"), ("manifest.json", json.dumps(manifest).encode())):
        Storage(URL).put(name, lambda content=content: io.BytesIO(content))  # type: ignore[misc]


def test_run_from_the_file_to_the_results() -> None:
    stored()
    fake = scripted(STARTING, RUNNING, DONE)
    result = af(fake, "run", "session.yaml", "--set", "spec.dask.pools[0].workers.max=4", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "mass 91.2 GeV\n"
    for line in (
        "session z-abcde created in namespace physics for alice",
        "Dask: Waiting: 1 of 2 workers",
        "dask pool cpu: 1 of 2 workers",
        "session Running",
        "succeeded: exit code 0",
        f"{URL}/m.json (1 B)",
        "1 files in out",
    ):
        assert line in result.stderr
    assert Path("out/m.json").read_bytes() == b"b"
    spec = fake.objects["z-abcde"]["spec"]
    assert spec["dask"]["pools"][0]["workers"]["max"] == 4
    assert spec["run"]["source"]["files"] == {"zmumu.py": "print('mass')"}
    assert spec["user"] == "alice"


def test_run_for_programs() -> None:
    stored()
    result = af(scripted(RUNNING, DONE), "run", "session.yaml", "-o", "out", "--output", "json")
    report = json.loads(result.stdout)
    assert report["exitCode"] == 0
    assert report["session"]["status"]["phase"] == "Succeeded"
    assert report["downloaded"] == [FILE]
    assert "mass 91.2 GeV" in result.stderr


def test_run_asks_for_no_more_rights_than_it_should() -> None:
    fake = scripted(STARTING, RUNNING, DONE)
    af(fake, "run", "session.yaml", "--rm")
    asked = {(r.verb, r.path.rsplit("/", 3)[-2 if "z-abcde" in r.path else -1]) for r in fake.requests}
    assert asked == {
        ("POST", "selfsubjectreviews"),
        ("POST", "analysissessions"),
        ("GET", "analysissessions"),
        ("DELETE", "analysissessions"),
        ("GET", "log"),
    }


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (DONE, 0, "succeeded"),
        (failed(3, "Failed"), 3, "failed: the run ended: Failed"),
        (failed(137, "OOMKilled"), 137, "OOMKilled"),
        (failed(None, "ImagePullFailed"), 1, "the run ended: ImagePullFailed"),
        (failed(143, "DeadlineExceeded"), 124, "DeadlineExceeded"),
        (REFUSED, 1, "refused: UnknownImage: there is no image 'x'"),
    ],
)
def test_run_ends_as_the_analysis(ending: dict[str, Any], code: int, said: str) -> None:
    result = af(scripted(ending), "run", "session.yaml")
    assert result.exit_code == code
    assert said in result.stderr


def test_a_failed_run_without_results_keeps_its_code() -> None:
    result = af(scripted(failed(3, "Failed")), "run", "session.yaml", "-o", "out")
    assert result.exit_code == 3
    assert "ended without results" in result.stderr


def test_a_download_that_fails_fails_a_run_that_succeeded() -> None:
    result = af(scripted(DONE), "run", "session.yaml", "-o", "out")
    assert result.exit_code == 1
    assert "incomplete" in result.stderr


def test_an_interactive_session_is_there_when_it_is_ready() -> None:
    text = SESSION.replace("Headless", "Interactive").replace("  run: {command: [python, zmumu.py]}\n", "")
    Path("session.yaml").write_text(text)
    ready = status("Ready", condition("DaskReady", True), endpoints={"dask": "tcp://z:8786"})
    result = af(scripted(ready), "run", "session.yaml")
    assert result.exit_code == 0
    assert "endpoints: dask tcp://z:8786" in result.stderr


@pytest.mark.parametrize("remove", [True, False])
def test_run_has_a_time_out(remove: bool) -> None:
    fake = FakeTransport([[STARTING]])
    result = af(fake, "run", "session.yaml", "--timeout", "0.2", *(["--rm"] if remove else []))
    assert result.exit_code == 124
    assert "has not ended after 0.2 s" in result.stderr
    assert "waiting for Dask (Waiting): 1 of 2 workers" in result.stderr
    assert bool(fake.objects) is not remove


def test_run_without_waiting() -> None:
    fake = FakeTransport()
    result = af(fake, "run", "session.yaml", "--no-wait", "--name", "mine")
    assert (result.exit_code, result.stdout) == (0, "mine\n")
    made = json.loads(af(fake, "run", "session.yaml", "--no-wait", "--output", "json").stdout)
    assert made["metadata"]["name"] == "z-abcde"


def test_run_reads_stdin() -> None:
    fake = scripted(DONE)
    result = af(fake, "run", "-", stdin=SESSION)
    assert result.exit_code == 0, result.stderr
    assert fake.objects["z-abcde"]["spec"]["run"]["source"]["files"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run"], "Missing argument 'FILE'"),
        (["run", "none.yaml"], "cannot read none.yaml: No such file or directory"),
        (["run", "session.yaml", "--set", "x"], "write path=value"),
        (["run", "session.yaml", "--include", "none"], "--include none: no such file"),
        (["run", "session.yaml", "--no-wait", "-o", "out"], "need --wait"),
        (["run", "session.yaml", "--timeout", "-1"], "not in the range"),
        (["list", "--output", "yaml"], "is not one of"),
        (["results", "z", "--list", "-o", "out"], "give either"),
        (["delete", "z"], "give --yes"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_input_is_one_line_and_code_2(args: list[str], said: str) -> None:
    fake = FakeTransport()
    fake.add("z", DONE)
    result = af(fake, *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert fake.requests == []


def test_the_server_s_refusal_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        causes = [{"field": "spec.mode", "message": "Required value"}]
        raise from_response(422, json.dumps({"details": {"causes": causes}}))

    fake = FakeTransport()
    monkeypatch.setattr(fake, "_create", refuse)
    result = af(fake, "run", "session.yaml")
    assert result.exit_code == 2
    assert result.stderr == "Error: the API server refuses the session:\n  spec.mode: Required value\n"


def test_a_name_that_is_taken() -> None:
    fake = FakeTransport()
    fake.add("mine")
    result = af(fake, "run", "session.yaml", "--name", "mine")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: a session 'mine' exists already: `af delete mine`, or give another --name\n",
    )


def test_debug_shows_the_traceback() -> None:
    result = af(FakeTransport(), "--debug", "run", "none.yaml")
    assert "none.yaml" in str(result.exception)
    assert result.exception.__class__.__name__ == "BadInput"


class Interrupted(Follower):
    """Ctrl-C at the first moment, once."""

    pressed = False

    def events(self, tick: float = 1.0) -> Iterator[Any]:
        if not Interrupted.pressed:
            Interrupted.pressed = True
            raise Stopped(signal.SIGINT)
        yield from super().events(tick)


@pytest.mark.parametrize(
    ("answer", "code", "left", "said"),
    [
        ("d", 130, False, "session z-abcde deleted"),
        ("k", 130, True, "af delete -n physics z-abcde"),
        ("c", 0, True, "succeeded"),
        (None, 130, True, "session z-abcde goes on: af status -n physics z-abcde"),
        ("abort", 130, True, ""),
    ],
)
def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, answer: str | None, code: int, left: bool, said: str) -> None:
    def ask(*_: object, **__: object) -> str:
        if answer == "abort":
            raise click.Abort
        return str(answer)

    monkeypatch.setattr(running, "asks_a_person", lambda: answer is not None)
    monkeypatch.setattr(running.click, "prompt", ask)
    monkeypatch.setattr(running, "Follower", Interrupted)
    Interrupted.pressed = False
    fake = scripted(DONE)
    result = af(fake, "run", "session.yaml")
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert bool(fake.objects) is left


def test_list() -> None:
    fake = FakeTransport()
    assert af(fake, "list").stderr == "no sessions in namespace physics\n"
    fake.add("z", STARTING)
    fake.add("a", DONE)
    lines = af(fake, "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "USER", "MODE", "PHASE", "WORKERS", "AGE"]
    assert [line.split() for line in lines[1:]] == [
        ["a", "alice", "Headless", "Succeeded"],
        ["z", "alice", "Headless", "Starting", "1/2"],
    ]
    assert [i["metadata"]["name"] for i in json.loads(af(fake, "list", "--output", "json").stdout)["items"]] == [
        "a",
        "z",
    ]


def test_list_of_all_namespaces() -> None:
    fake = FakeTransport()
    fake.add("z", STARTING)
    assert af(fake, "list", "-A").stdout.split()[:2] == ["NAMESPACE", "NAME"]
    assert fake.requests[-1].path == "/apis/analysisfacility.io/v1alpha1/analysissessions"


def test_another_namespace() -> None:
    fake = FakeTransport()
    af(fake, "list", "-n", "atlas")
    assert "/namespaces/atlas/" in fake.requests[-1].path


def test_status_in_words_and_for_programs() -> None:
    fake = FakeTransport()
    fake.add("z", STARTING)
    result = af(fake, "status", "z")
    assert result.stdout.splitlines()[:2] == [
        "z  Starting  (Headless, alice)",
        "  waiting for Dask (Waiting): 1 of 2 workers",
    ]
    assert json.loads(af(fake, "status", "z", "--output", "json").stdout)["status"] == STARTING


@pytest.mark.parametrize("command", ["status", "logs", "results", "suspend", "resume"])
def test_a_session_that_is_not_there(command: str) -> None:
    result = af(FakeTransport(), command, "none")
    assert result.exit_code == 1
    assert "there is no session 'none' here: `af list` shows what there is" in result.stderr


def test_what_is_suggested_goes_to_the_same_place() -> None:
    fake = FakeTransport()
    fake.add("z", status("Suspended"))
    assert "`af resume -n physics z`" in af(fake, "suspend", "z", "-n", "physics").stdout
    assert "af resume -n physics --context lab z" in af(fake, "status", "z", "-n", "physics", "--context", "lab").stdout
    fake.add("y", mode="Interactive")
    assert "`af status -n physics y`" in af(fake, "logs", "y", "-n", "physics").stderr
    assert "af resume z" in af(fake, "status", "z").stdout


def test_status_says_when_the_session_was_last_active() -> None:
    fake = FakeTransport()
    then = datetime.now(UTC) - timedelta(hours=3)
    fake.add("z", RUNNING | {"lastActivity": then.strftime("%Y-%m-%dT%H:%M:%SZ")})
    fake.add("y", RUNNING)
    assert "last active 3h ago" in af(fake, "status", "z").stdout
    assert "last active" not in af(fake, "status", "y").stdout


def test_suspend_resume_delete() -> None:
    fake = FakeTransport()
    fake.add("z", RUNNING)
    assert "suspending" in af(fake, "suspend", "z").stdout
    assert fake.objects["z"]["spec"]["suspend"] is True
    assert json.loads(af(fake, "resume", "z", "--output", "json").stdout)["spec"]["suspend"] is False
    assert json.loads(af(fake, "delete", "z", "--yes", "--output", "json").stdout)["deleted"] == "z"
    assert fake.objects == {}


def test_delete_may_find_nothing_if_that_is_said() -> None:
    assert af(FakeTransport(), "delete", "z", "--yes").exit_code == 1
    done = af(FakeTransport(), "delete", "z", "--yes", "--ignore-not-found")
    assert (done.exit_code, done.stdout) == (0, "there is no session z\n")
    told = af(FakeTransport(), "delete", "z", "--yes", "--ignore-not-found", "--output", "json")
    assert json.loads(told.stdout) == {"deleted": None, "namespace": "physics"}


def test_results() -> None:
    stored()
    fake = FakeTransport()
    fake.add("z-abcde", DONE)
    assert af(fake, "results", "z-abcde").stdout == f"           1 00630063 {URL}/m.json\n"
    assert af(fake, "results", "z-abcde", "-o", "out").stdout == "1 files, 1 B in out\n"
    report = json.loads(af(fake, "results", "z-abcde", "-o", "out", "--output", "json").stdout)
    assert report == {"url": URL, "directory": "out", "files": [FILE]}


def test_results_that_are_not_there_yet() -> None:
    fake = FakeTransport()
    fake.add("z", RUNNING)
    result = af(fake, "results", "z")
    assert result.exit_code == 1
    assert "`af status z` says what it waits for" in result.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["list"], ["status"], ["logs"], ["results"], ["delete"]])
def test_help(command: list[str]) -> None:
    result = af(FakeTransport(), *command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_as_a_plugin_of_kubectl(tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-af"
    plugin.write_text(f"#!{sys.executable}\nfrom af_client.cli import main\nmain()\n")
    plugin.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([plugin, "--help"], env=env, capture_output=True, text=True, check=True).stdout
    assert out.startswith("Usage: kubectl af [OPTIONS] COMMAND")
