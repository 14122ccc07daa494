"""`af logs`, while the run's pod is there and after it, against a scripted API server."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result

from af_client import follow, sessions
from af_client.cli.commands import cli
from af_client.errors import Unreachable
from af_operator import names
from tests.support.fake_transport import FakeTransport, Script, condition, status
from tests.support.objects import session

STARTING = status("Starting", condition("DaskReady", False, "Waiting", "1 of 2 workers"))
RUNNING = status("Running", condition("DaskReady", True), run={"pod": "p1"})
DONE = status("Succeeded", condition("RunComplete", True, "Succeeded"), run={"pod": "p1", "exitCode": 0})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)


def af(fake: FakeTransport, *args: str) -> Result:
    return CliRunner().invoke(cli, ["logs", *args], obj=fake)


def logged(found: dict[str, Any] | None, log: Script | None, *args: str, tail: str = "") -> Result:
    fake = FakeTransport([[DONE]], {"p1": [log]} if log is not None else {})
    fake.add("z", found)
    fake.tail = tail
    return af(fake, "z", *args)


@pytest.mark.parametrize("args", [[], ["-f"]])
@pytest.mark.parametrize("found", [RUNNING, DONE])
def test_logs(found: dict[str, Any], args: list[str]) -> None:
    assert logged(found, ["t1 a", "t2  b ", "t3 "], *args).stdout == "a\n b \n\n"


def test_logs_for_programs() -> None:
    assert logged(DONE, ["t1 größe"], "--output", "json").stdout == '{"line": "größe"}\n'


def test_logs_of_a_pod_that_is_gone() -> None:
    assert logged(DONE, None, "--tail", "1", tail="a\nb\n").stdout == "b\n"
    assert logged(DONE, None, "--tail", "0", tail="a\nb\n").stdout == ""
    result = logged(DONE, None)
    assert result.exit_code == 1
    assert "its last lines are in ConfigMap z-run-log, which cannot be read" in result.stderr


def test_the_kept_log_is_called_as_the_operator_calls_it() -> None:
    fake = FakeTransport()
    fake.add("2018-zmumu", DONE)
    assert f"ConfigMap {names.run_log(session('2018-zmumu'))}, which" in af(fake, "2018-zmumu").stderr
    fake.tail = "a\n"
    assert af(fake, "2018-zmumu").stdout == "a\n"
    asked = {r.path.rpartition("/")[2] for r in fake.requests if "/configmaps/" in r.path}
    assert asked == {names.run_log(session("2018-zmumu"))}


@pytest.mark.parametrize(("found", "said"), [(None, "no operator"), (STARTING, "waiting for Dask")])
def test_logs_of_a_run_that_has_not_started(found: dict[str, Any] | None, said: str) -> None:
    result = logged(found, None)
    assert result.exit_code == 1
    assert said in result.stderr


def test_logs_when_the_connection_breaks() -> None:
    assert logged(DONE, [Unreachable("the API server does not answer")]).exit_code == 1


PODS = {
    "dask": {"pods": {"scheduler": ["z-scheduler-1"], "cpu": ["z-cpu-worker-a", "z-cpu-worker-b"], "gpu": ["z-gpu-w"]}},
    "spark": {"pods": {"master": ["z-spark-1"]}},
    "xcache": {"pods": {"xcache": ["z-xcache-1"]}},
}


def running(cache: str = "Session", **more: Any) -> FakeTransport:
    fake = FakeTransport()
    fake.add("z", RUNNING | {"components": PODS} | more, dask={}, spark={}, xcache={"placement": cache}, notebook=None)
    fake.logs = {pod: [[f"t1 {pod} says"]] for part in PODS.values() for pods in part["pods"].values() for pod in pods}
    fake.logs["p1"] = [["t1 of the run"]]
    return fake


@pytest.mark.parametrize(
    ("args", "pods", "containers"),
    [
        (["--scheduler"], ["z-scheduler-1"], {"scheduler"}),
        (["--worker"], ["z-cpu-worker-a", "z-cpu-worker-b", "z-gpu-w"], {"worker"}),
        (["--worker", "cpu"], ["z-cpu-worker-a", "z-cpu-worker-b"], {"worker"}),
        (["--worker", "dask/gpu"], ["z-gpu-w"], {"worker"}),
        (["--worker", "z-cpu-worker-b"], ["z-cpu-worker-b"], {"worker"}),
        (["--spark"], ["z-spark-1", "z-spark-1"], {"connect", "master"}),
        (["--cache"], ["z-xcache-1"], {"xcache"}),
    ],
)
def test_logs_of_other_programs(args: list[str], pods: list[str], containers: set[str]) -> None:
    fake = running()
    result = af(fake, "z", *args)
    assert result.exit_code == 0, result.stderr
    assert dict.fromkeys(result.stdout.splitlines()) == {f"{pod} says": None for pod in pods}
    asked = [r for r in fake.requests if r.path.endswith("/log")]
    assert {r.query["container"] for r in asked} == containers
    assert {r.query["tailLines"] for r in asked} == {"200"}
    assert ("==> " in result.stderr) is (len(pods) > 1)


def test_a_cache_beside_its_readers_is_in_their_pods() -> None:
    fake = running("Sidecar")
    assert "of the run" in af(fake, "z", "--cache").stdout
    assert {r.query["container"] for r in fake.requests if r.path.endswith("/log")} == {"xcache"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--notebook"], 2, "session z has no notebook"),
        (["--scheduler", "--cache"], 2, "one of them at a time: --scheduler or --cache"),
        (["--worker", "-f"], 2, "one log at a time can be followed: choose one of: z-cpu-worker-a"),
        (["--worker", "somebody-else-s-pod"], 1, "no worker of 'somebody-else-s-pod' of session z has a log"),
    ],
)
def test_what_has_no_log(args: list[str], code: int, said: str) -> None:
    result = af(running(), "z", *args)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_what_a_program_wrote_before_it_was_begun_again_comes_first() -> None:
    fake = running()
    fake.logs_before["z-scheduler-1"] = [["t0 MemoryError"]]
    result = af(fake, "z", "--scheduler", "--tail", "5")
    assert result.stdout == "MemoryError\nz-scheduler-1 says\n"
    assert "--- scheduler before it was begun again ---" in result.stderr


def test_what_is_gone_is_said() -> None:
    fake = running()
    fake.logs.clear()
    result = af(fake, "z", "--scheduler")
    assert (result.exit_code, "pod z-scheduler-1 is gone, and its log with it" in result.stderr) == (1, True)
    result = af(running(components={}), "z", "--scheduler")
    assert (result.exit_code, "their logs with them" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("stamp", "width", "args", "said"),
    [
        ("2026-01-01T00:05:00.123456789Z", 70_000, [], True),
        ("2026-01-01T00:05:00.123456789Z", 70_000, ["--tail", "5"], False),
        ("2026-01-01T00:05:00.123456789Z", 10, [], False),
        ("2026-01-01T00:00:02.123456789Z", 70_000, [], False),
    ],
)
def test_a_log_whose_beginning_may_be_gone_says_so(stamp: str, width: int, args: list[str], said: bool) -> None:
    """Its node keeps the last 10 MiB or so, and tells nobody that there was more."""
    found = DONE | {"run": DONE["run"] | {"startTime": "2026-01-01T00:00:00Z"}}
    result = logged(found, [f"{stamp} {'x' * width}"], *args)
    assert ("this log begins 300 s after the run did" in result.stderr) is said
