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
