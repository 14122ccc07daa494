"""`af dask` against a scripted API server and kubelet, in front of a scheduler that asks for certificates."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from distributed import LocalCluster, Security

from af_client import follow, forward, open_dask, sessions
from af_client.cli.commands import cli
from af_client.cli.dask import compared
from af_client.cli.signals import Stopped
from af_client.errors import BadInput, NotReady, from_response
from af_client.open_dask import OpenDask, differences
from af_client.sessions import Sessions
from af_kube.request import Request
from af_names import DASK_DASHBOARD_PORT, DASK_SCHEDULER_PORT
from af_operator.components._shared import pki
from tests.support.fake_kubelet import FakeKubelet, kubelet
from tests.support.fake_transport import FakeTransport, condition, status
from tests.support.web_server import WebServer

TOKEN = "5ec2e7" * 8
POD = "lab-scheduler-7d9c-x2"
VERSIONS = open_dask.here()
ADDRESS = "tls://lab-scheduler.physics.svc:8786"
COMPUTES = "from distributed import Client; print('sum', Client(timeout=20).submit(sum, [1, 2, 3]).result())"

pytestmark = pytest.mark.timeout(120)


def ready(address: str = ADDRESS) -> dict[str, Any]:
    dask = {"endpoints": {"dask": address}, "pods": {"scheduler": [POD]}}
    return status("Ready", condition("DaskReady", True), components={"dask": dask})


STARTING = status("Starting", condition("DaskReady", False, "Starting", "scheduler: its image is pulled"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(forward, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)


@pytest.fixture(scope="module")
def secret() -> dict[str, str]:
    """The data of the session's Secret, as the operator makes it."""
    made = pki.certificates("lab", ("a" * 64, "b" * 64), datetime.now(UTC))
    data = {"ca.crt": made.ca, "tls.crt": made.certificate, "tls.key": made.key, "token": TOKEN}
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


@pytest.fixture(scope="module")
def scheduler(secret: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a scheduler with one worker, that talks to nobody without a certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, value in secret.items():
        (folder / name).write_bytes(base64.b64decode(value))
    both = {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key")}
    roles = {f"tls_{role}_{part}": path for role in ("scheduler", "worker", "client") for part, path in both.items()}
    security = Security(require_encryption=True, tls_ca_file=str(folder / "ca.crt"), **roles)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tls://", host="127.0.0.1",
        security=security, dashboard_address=None,
    ) as cluster:  # fmt: skip
        yield int(urlsplit(cluster.scheduler_address).port or 0)


async def shown(request: web.Request) -> web.StreamResponse:
    """Answer as the dashboard does: to who has the token alone."""
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        raise web.HTTPUnauthorized
    if request.path == "/af/v1/versions":
        return web.json_response(VERSIONS)
    if request.path == "/":
        raise web.HTTPFound("/status")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        told = {"path": request.raw_path, "headers": dict(request.headers), "body": await request.text()}
        return web.json_response(told, headers={"Set-Cookie": "a=b"})
    socket = web.WebSocketResponse(protocols=("bokeh",))
    await socket.prepare(request)
    async for message in socket:
        await (socket.send_str(message.data) if message.type is aiohttp.WSMsgType.TEXT else socket.send_bytes(b"two"))
    return socket


@pytest.fixture(scope="module")
def dashboard() -> Iterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", shown)
    with WebServer(app) as found:
        yield int(urlsplit(found.url).port or 0)


@pytest.fixture
def pod(scheduler: int, dashboard: int) -> Iterator[FakeKubelet]:
    with kubelet() as found:
        found.leads_to = {DASK_SCHEDULER_PORT: scheduler, DASK_DASHBOARD_PORT: dashboard}
        yield found


@pytest.fixture
def api(pod: FakeKubelet, secret: dict[str, str]) -> FakeTransport:
    return transport(pod, secret)


def transport(pod: FakeKubelet | None, secret: dict[str, str], *script: Any, **spec: Any) -> FakeTransport:
    fake = FakeTransport([list(script[1:])])
    fake.add("lab", script[0] if script else ready(), **{"mode": "Interactive", "dask": {}, "run": None, **spec})
    fake.secrets, fake.api_url = {"lab-scheduler": secret}, pod.url if pod else fake.api_url
    return fake


def af(fake: FakeTransport, *args: str) -> Result:
    return CliRunner().invoke(cli, ["dask", "lab", *args], obj=fake)


def test_a_client_without_arguments_just_works_in_a_command(
    api: FakeTransport, capfd: pytest.CaptureFixture[str]
) -> None:
    result = af(api, "--", sys.executable, "-c", COMPUTES)
    assert result.exit_code == 0, result.stderr
    assert capfd.readouterr().out == "sum 6\n"
    assert not [secret for secret in (TOKEN, "PRIVATE KEY") if secret in result.output]


def test_it_uses_the_rights_of_the_sessions_role_and_no_others(api: FakeTransport) -> None:
    assert af(api, "--", "true").exit_code == 0
    base = "/api/v1/namespaces/physics"
    core = {(r.verb, r.path, r.query.get("ports", "")) for r in api.requests if r.path.startswith(base)}
    forwards = {("GET", f"{base}/pods/{POD}/portforward", port) for port in ("8786", "8787")}
    assert core == {("GET", f"{base}/secrets/lab-scheduler", ""), *forwards}
    assert {r.verb for r in api.requests} == {"GET"}


FILES = (
    "import os, stat; d = os.environ; names = [d[n] for n in d if 'TLS' in n];"
    "print(*(f'{n} {os.stat(n).st_mode & 0o777:o} {os.stat(os.path.dirname(n)).st_mode & 0o777:o}' for n in names),"
    "sep='\\n')"
)


def test_files_are_ones_own_and_gone_with_the_command(api: FakeTransport, capfd: pytest.CaptureFixture[str]) -> None:
    assert af(api, "--", sys.executable, "-c", FILES).exit_code == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert len({path for path, _, _ in lines}) == 3
    assert {(mode, directory) for _, mode, directory in lines} == {("600", "700")}
    assert not [path for path, _, _ in lines if Path(path).exists()]


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_it_ends_as_the_command_ends(api: FakeTransport, command: str, code: int) -> None:
    assert af(api, "--", "sh", "-c", command).exit_code == code


def test_a_signal_is_the_commands_too(api: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, told = subprocess.Popen.wait, []

    def stopped(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not told:
            told.append(process.pid)
            raise Stopped(signal.SIGTERM)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", stopped)
    assert af(api, "--", "sleep", "60").exit_code == 128 + signal.SIGTERM
    assert told


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[OpenDask]:
    """Every Dask that was opened, before somebody presses Ctrl-C."""
    found: list[OpenDask] = []

    def wait(dask: OpenDask) -> None:
        found.append(dask)
        done = subprocess.run(
            [sys.executable, "-c", COMPUTES],
            check=False,
            env={**os.environ, **dask.environment},
            capture_output=True,
            text=True,
        )
        assert done.stdout == "sum 6\n", done.stderr
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(OpenDask, "wait", wait)
    return found


def test_it_prints_what_a_shell_is_to_export(api: FakeTransport, used: list[OpenDask]) -> None:
    result = af(api)
    assert result.exit_code == 0, result.stderr
    said = dict(line.removeprefix("export ").split("=", 1) for line in result.stdout.splitlines())
    assert said == used[0].environment
    assert said["DASK_SCHEDULER_ADDRESS"] == f"tls://127.0.0.1:{used[0].port}"
    assert used[0].dashboard in result.stderr
    assert TOKEN not in result.output


def test_for_programs(api: FakeTransport, used: list[OpenDask]) -> None:
    said = json.loads(af(api, "--output", "json").stdout)
    opened = used[0]
    environment = dict(opened.environment)
    assert said == {
        "environment": environment,
        "dashboard": opened.dashboard,
        "port": opened.port,
        "pid": os.getpid(),
    }


def ask(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - ours, on loopback
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            assert answer.headers["Set-Cookie"] is None
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_the_dashboard_is_told_the_token_and_nothing_of_the_browser(api: FakeTransport) -> None:
    with Sessions(transport=api).dask("lab") as dask:
        code, page = ask(f"{dask.dashboard}?a=%20b", Cookie="c=d", Authorization="Basic mine", Referer="http://x/")
        assert (code, json.loads(page)["path"]) == (200, "/status?a=%20b")
        assert json.loads(page)["headers"]["Authorization"] == f"Bearer {TOKEN}"
        assert not {"Cookie", "Referer"} & set(json.loads(page)["headers"])
        base = dask.dashboard.removesuffix("/status")
        assert json.loads(ask(f"{base}/")[1])["path"] == "/status", "a redirection stays below"


def test_nobody_else_of_the_machine_sees_the_dashboard(api: FakeTransport) -> None:
    with Sessions(transport=api).dask("lab") as dask:
        at = urlsplit(dask.dashboard)
        port = f"http://127.0.0.1:{at.port}"
        for path in ("/", "/status", "//status", f"/{'0' * 32}/status", f"{at.path}/../../status"[33:]):
            assert ask(port + path)[0] == 404, path
        with pytest.raises(OSError, match=r"refused|unreachable"):
            ask(f"http://127.0.0.2:{at.port}{at.path}")


async def test_plots_that_move_come_over_a_websocket(api: FakeTransport) -> None:
    with Sessions(transport=api).dask("lab") as dask:
        url = f"{dask.dashboard}/ws"
        async with aiohttp.ClientSession() as client, client.ws_connect(url, protocols=("bokeh", "whose")) as socket:
            assert socket.protocol == "bokeh"
            await socket.send_str("one")
            assert (await socket.receive(10)).data == "one"
            await socket.send_bytes(b"2")
            assert (await socket.receive(10)).data == b"two"


def test_from_python(api: FakeTransport) -> None:
    with Sessions(transport=api).dask("lab") as dask, dask.client(timeout=20) as client:
        assert client.submit(max, [3, 1]).result() == 3
        assert dask.versions() == VERSIONS


def test_without_distributed_it_says_what_to_install(api: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        Sessions(transport=api).dask("lab") as dask,
        pytest.raises(BadInput, match=f"`pip install dask=={VERSIONS['dask']} "),
    ):
        dask.client()
    assert list(compared(VERSIONS, {"python": "3.11.2"})) == [
        "there is no distributed beside af; your program needs what the session has: `pip install "
        f"dask=={VERSIONS['dask']} distributed=={VERSIONS['distributed']}` on Python {VERSIONS['python'][:4]}"
    ]


def test_another_version_is_a_warning(api: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("af_client.cli.dask.here", lambda: {**VERSIONS, "distributed": "2020.1.0"})
    said = af(api, "--", "true").stderr
    there = VERSIONS["distributed"]
    assert f"warning: distributed is 2020.1.0 here and {there} in the session: this may fail in odd ways" in said


def test_what_of_a_version_counts() -> None:
    there = {"python": "3.11.9", "dask": "2026.8.0", "distributed": "2026.8.0"}
    assert differences(there, {**there, "python": "3.11.1"}) == []
    assert differences(there, {**there, "python": "3.12.1"}) == ["python is 3.12.1 here and 3.11.9 in the session"]
    assert differences(there, {"python": "3.11.9"}) == differences({}, there) == []


@pytest.mark.parametrize(
    ("found", "spec", "code", "said"),
    [
        (ready(), {"dask": None}, 2, "session lab has no Dask scheduler: `spec.dask: {}` asks for one"),
        (ready(), {"suspend": True}, 1, "session lab is suspended: `af resume lab` brings its Dask scheduler back"),
        (ready("tcp://lab-scheduler:8786"), {}, 1, "was begun before it had certificates"),
        (status("Refused", condition("Accepted", False, "UnknownSize", "no 'huge'")), {}, 1, "UnknownSize: no 'huge'"),
    ],
)
def test_what_cannot_be_opened(
    secret: dict[str, str], found: dict[str, Any], spec: dict[str, Any], code: int, said: str
) -> None:
    result = af(transport(None, secret, found, **spec), "--", "true")
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert result.stderr.startswith("Error: ")


def test_not_in_time_says_why(secret: dict[str, str]) -> None:
    result = af(transport(None, secret, STARTING), "--timeout", "0.3")
    assert result.exit_code == 124
    assert "the Dask of session lab is not ready after 0.3 s: waiting for Dask (Starting)" in result.stderr


def test_there_is_no_such_session_or_program(api: FakeTransport) -> None:
    assert (result := CliRunner().invoke(cli, ["dask", "bal"], obj=api)).exit_code == 1
    assert "bal" in result.stderr
    result = af(api, "--", "no-such-program")
    assert (result.exit_code, "no-such-program cannot be run" in result.stderr) == (2, True)
    result = af(api, "--output", "json", "--", "true")
    assert (result.exit_code, "leave --output json out" in result.stderr) == (2, True)


def test_somebody_elses_names_the_role(api: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    call = api.call

    def refuse(request: Request) -> dict[str, Any]:
        if "/secrets/" in request.path:
            raise from_response(403, json.dumps({"message": 'User "bob" cannot get resource "secrets"'}))
        return call(request)

    monkeypatch.setattr(api, "call", refuse)
    result = af(api, "--", "true")
    assert result.exit_code == 1
    assert "the Dask scheduler of session lab is alice's: Role lab-scheduler in namespace physics" in result.stderr


def test_a_scheduler_without_a_pod(secret: dict[str, str]) -> None:
    found = ready()
    del found["components"]["dask"]["pods"]
    with pytest.raises(NotReady, match="has no pod"):
        Sessions(transport=transport(None, secret, found)).dask("lab").__enter__()
