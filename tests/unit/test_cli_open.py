"""`af open` against a scripted API server and a scripted kubelet."""

from __future__ import annotations

import base64
import json
import os
import socket
import webbrowser
from collections.abc import Iterator
from signal import SIGINT
from typing import Any

import pytest
from click.testing import CliRunner, Result

from af_client import follow, forward, sessions
from af_client.cli.commands import cli
from af_client.cli.signals import Stopped
from af_client.errors import BadInput, NotReady, from_response
from af_client.opening import OpenNotebook
from af_client.sessions import Sessions
from af_kube.request import Request
from af_operator import names
from tests.support.fake_kubelet import FakeKubelet, kubelet
from tests.support.fake_transport import FakeTransport, condition, status
from tests.support.objects import session

SECRETS = {"lab-notebook": {"JUPYTER_TOKEN": base64.b64encode(b"s3cret").decode()}}
URL = "http://lab-notebook.physics.svc:8888/user/al%40ce/lab/"
WAITING = condition("NotebookReady", False, "Starting", "pod lab-notebook-0 is starting")
DASK = condition("DaskReady", False, "Unschedulable", "0 of 2 workers")
STARTING = status("Starting", WAITING)
# Dask is still on its way, which nobody has to wait for.
READY = status("Starting", condition("NotebookReady", True), DASK, endpoints={"notebook": URL})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(forward, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)


@pytest.fixture
def pod() -> Iterator[FakeKubelet]:
    with kubelet() as found:
        yield found


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[OpenNotebook]:
    """Every notebook that was opened: one byte goes there and back, then somebody presses Ctrl-C."""
    found: list[OpenNotebook] = []

    def wait(notebook: OpenNotebook) -> None:
        with socket.create_connection(("127.0.0.1", notebook.port), timeout=10) as connection:
            connection.sendall(b"a")
            assert connection.recv(10) == b"A"
        found.append(notebook)
        raise Stopped(SIGINT)

    monkeypatch.setattr(OpenNotebook, "wait", wait)
    return found


def transport(pod: FakeKubelet | None, *script: Any, **spec: Any) -> FakeTransport:
    fake = FakeTransport([list(script[1:])])
    fake.add("lab", script[0] if script else READY, **{"mode": "Interactive", "notebook": {}, "run": None, **spec})
    fake.secrets, fake.api_url = SECRETS, pod.url if pod else fake.api_url
    return fake


def af(fake: FakeTransport, *args: str) -> Result:
    return CliRunner().invoke(cli, ["open", "lab", *args], obj=fake)


def test_the_url_has_the_port_the_path_and_the_token(pod: FakeKubelet, used: list[OpenNotebook]) -> None:
    result = af(transport(pod))
    assert result.exit_code == 0, result.stderr
    [notebook] = used
    assert result.stdout == f"http://127.0.0.1:{notebook.port}/user/al%40ce/lab/lab?token=s3cret\n"
    assert "Ctrl-C ends the connection, `af suspend lab` the notebook" in result.stderr
    assert "s3cret" not in result.stderr


def test_for_programs(pod: FakeKubelet, used: list[OpenNotebook]) -> None:
    said = json.loads(af(transport(pod), "--output", "json").stdout)
    url = f"http://127.0.0.1:{used[0].port}/user/al%40ce/lab/"
    lab = f"{url}lab?token=s3cret"
    assert said == {"url": url, "lab": lab, "token": "s3cret", "port": used[0].port, "pid": os.getpid()}


def test_it_waits_for_the_notebook_alone_and_tells(pod: FakeKubelet, used: list[OpenNotebook]) -> None:
    result = af(transport(pod, STARTING, STARTING, READY))
    assert result.exit_code == 0, result.stderr
    assert "Notebook: Starting: pod lab-notebook-0 is starting" in result.stderr
    assert used


def test_it_uses_the_rights_of_the_sessions_role_and_no_others(pod: FakeKubelet, used: list[OpenNotebook]) -> None:
    fake = transport(pod)
    af(fake)
    base = "/api/v1/namespaces/physics"
    core = {(r.verb, r.path) for r in fake.requests if r.path.startswith(base)}
    assert core == {("GET", f"{base}/secrets/lab-notebook"), ("GET", f"{base}/pods/lab-notebook-0/portforward")}
    assert {r.verb for r in fake.requests} == {"GET"}
    assert {r.query["ports"] for r in fake.requests if r.path.endswith("/portforward")} == {"8888"}
    assert used


def test_what_is_opened_is_called_as_the_operator_calls_it(pod: FakeKubelet, used: list[OpenNotebook]) -> None:
    fake, child = transport(pod), session("lab.2018")
    fake.objects["lab.2018"] = {
        **fake.objects["lab"],
        "metadata": {**fake.objects["lab"]["metadata"], "name": "lab.2018"},
    }
    fake.secrets = {names.notebook(child): SECRETS["lab-notebook"]}
    result = CliRunner().invoke(cli, ["open", "lab.2018"], obj=fake)
    assert result.exit_code == 0, result.stderr
    pods = {r.path.rpartition("/")[0].rpartition("/")[2] for r in fake.requests if r.path.endswith("/portforward")}
    assert pods == {names.notebook_pod(child)}
    assert used


@pytest.mark.parametrize("there", [True, False])
def test_in_a_browser(there: bool, pod: FakeKubelet, used: list[OpenNotebook], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: shown.append(url) or there)
    result = af(transport(pod), "--browser")
    assert shown == [result.stdout.strip()] == [used[0].lab]
    assert ("no browser here" in result.stderr) is not there


@pytest.mark.parametrize(
    ("found", "spec", "code", "said"),
    [
        (READY, {"notebook": None}, 2, "has no notebook: `spec.notebook: {}` asks for one"),
        (READY, {"notebook": None, "mode": "Headless"}, 2, "has no notebook: `af logs lab` shows what its run says"),
        (READY, {"suspend": True}, 1, "session lab is suspended: `af resume lab` brings its notebook back"),
        (
            status("Failed", condition("Ready", False, "Finished", "its lifetime is over")),
            {},
            1,
            "any more: failed (Finished): its lifetime is over; next: af delete lab",
        ),
        (status("Refused", condition("Accepted", False, "UnknownSize", "no 'huge'")), {}, 1, "UnknownSize: no 'huge'"),
    ],
)
def test_what_cannot_be_opened(found: dict[str, Any], spec: dict[str, Any], code: int, said: str) -> None:
    result = af(transport(None, found, **spec))
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")


def test_it_is_suspended_while_one_waits() -> None:
    fake = transport(None, STARTING, STARTING)

    def suspended(*_: object) -> Iterator[bytes]:
        fake.objects["lab"]["spec"]["suspend"] = True
        yield json.dumps({"type": "MODIFIED", "object": fake.objects["lab"]}).encode()

    fake.lines = suspended  # type: ignore[method-assign]
    result = af(fake)
    assert result.exit_code == 1
    assert "`af resume lab`" in result.stderr


def test_not_in_time_says_why() -> None:
    result = af(transport(None, STARTING), "--timeout", "0.3")
    assert result.exit_code == 124
    said = "is not ready after 0.3 s: waiting for Notebook (Starting): pod lab-notebook-0 is starting"
    assert f"Error: the notebook of session lab {said}" in result.stderr


@pytest.mark.parametrize("where", ["secret", "pod"])
def test_somebody_elses_names_the_role(where: str, pod: FakeKubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = transport(pod)
    pod.codes = [403] if where == "pod" else []
    call = fake.call

    def refuse(request: Request) -> dict[str, Any]:
        if "/secrets/" in request.path and where == "secret":
            raise from_response(
                403, json.dumps({"message": 'User "bob" cannot get resource "secrets" in API group ""'})
            )
        return call(request)

    monkeypatch.setattr(fake, "call", refuse)
    result = af(fake)
    assert result.exit_code == 1
    assert "the notebook of session lab is alice's: Role lab-notebook in namespace physics" in result.stderr


def test_a_secret_that_is_not_there_yet(pod: FakeKubelet) -> None:
    fake = transport(pod)
    fake.secrets = {}
    result = af(fake)
    assert (result.exit_code, "Secret lab-notebook has no token yet" in result.stderr) == (1, True)


def test_from_python(pod: FakeKubelet) -> None:
    fake = transport(pod, STARTING, READY)
    said: list[str] = []
    with Sessions(transport=fake).open("lab", timeout=5, say=said.append) as notebook:
        pod.trouble = "connection refused"
        with socket.create_connection(("127.0.0.1", notebook.port), timeout=10) as connection:
            connection.sendall(b"a")
            assert connection.recv(10) == b""
    assert said == ["the notebook does not answer: connection refused: `af status lab` may say why"]
    for spec, error in (({"suspend": True}, NotReady), ({"notebook": None}, BadInput)):
        with pytest.raises(error):
            Sessions(transport=transport(None, **spec)).open("lab")
