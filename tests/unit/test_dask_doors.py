"""Each port of a session's Dask, as real processes by what its pods are given: who comes in, and who does not."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest

from af_operator.components._shared import pki
from af_operator.components._shared.pki import Certificates
from tests.support.dask_processes import GROUP_WORKER, DaskProcesses, certificates_of, listening

pytestmark = pytest.mark.timeout(300)

EXPIRED = certificates_of(now=datetime.now(UTC) - pki.VALID - timedelta(days=1))
OF_ANOTHER = certificates_of(("c" * 64, "d" * 64))
PATHS = (
    *("/", "/status", "/json/counts.json", "/info/main/workers.html", "/metrics", "/sitemap.json", "/eventstream"),
    *("/statics/css/base.css", "/proxy/8788/10.0.0.1/status", "/api/v1", "/api/v1/check_idle", "/nothing"),
    *("/health/", "//health", "/health?x=1", "/health/../metrics", "/HEALTH"),
)
SECONDS = 10


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with DaskProcesses(tmp_path_factory.mktemp("dask")) as found:
        found.scheduler = found.start_scheduler()
        found.worker = found.start_worker()
        yield found


def comms(dask: DaskProcesses) -> dict[str, int]:
    """Return the ports that speak Dask's protocol: of scheduler, nanny and worker."""
    ports = listening(dask.worker) - {dask.worker_http}
    return {"scheduler": dask.scheduler_port, **{f"worker {n}": port for n, port in enumerate(sorted(ports))}}


def test_no_port_is_overlooked(dask: DaskProcesses) -> None:
    assert listening(dask.scheduler) == {dask.scheduler_port, dask.dashboard_port}
    assert len(comms(dask)) == 3


def test_who_belongs_to_the_session_is_spoken_to(dask: DaskProcesses, tmp_path: Path) -> None:
    for name, port in comms(dask).items():
        assert heard(port, context(tmp_path, dask.shown)), name


@pytest.mark.parametrize("shown", [None, OF_ANOTHER, EXPIRED], ids=["none", "another session's", "expired"])
def test_who_does_not_hears_nothing(dask: DaskProcesses, tmp_path: Path, shown: Certificates | None) -> None:
    for name, port in comms(dask).items():
        assert not heard(port, context(tmp_path, shown)), name


def test_without_tls_nothing_is_heard(dask: DaskProcesses) -> None:
    for name, port in comms(dask).items():
        assert not heard(port, None), name


@pytest.mark.parametrize("token", [None, "", "0" * 64, "f" * 63, "f" * 65])
def test_no_page_is_shown_without_the_token(dask: DaskProcesses, token: str | None) -> None:
    for port in (dask.dashboard_port, dask.worker_http):
        for path in PATHS:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
                assert asked(port, method, path, token) == (401, b""), (method, path)


def test_pages_are_shown_to_who_has_it(dask: DaskProcesses) -> None:
    for path, status in {"/status": 200, "/metrics": 200, "/nothing": 404}.items():
        assert asked(dask.dashboard_port, "GET", path, dask.token)[0] == status
    assert asked(dask.worker_http, "GET", "/metrics", dask.token)[0] == 200


def test_the_scheduler_shows_a_workers_page_to_who_has_it(dask: DaskProcesses) -> None:
    [address] = json.loads(asked(dask.dashboard_port, "GET", "/json/identity.json", dask.token)[1])["workers"]
    host = address.rpartition(":")[0].removeprefix("tls://")
    path = f"/proxy/{dask.worker_http}/{host}/metrics"
    status, text = asked(dask.dashboard_port, "GET", path, dask.token)
    assert (status, b"dask_worker_tasks" in text) == (200, True), text
    assert asked(dask.dashboard_port, "GET", path, None) == (401, b"")


def test_the_kubelet_hears_that_they_live(dask: DaskProcesses) -> None:
    for port in (dask.dashboard_port, dask.worker_http):
        assert asked(port, "GET", "/health", None) == (200, b"ok")


def test_a_connection_that_was_let_in_once_is_looked_at_again(dask: DaskProcesses) -> None:
    connection = HTTPConnection("127.0.0.1", dask.dashboard_port, timeout=SECONDS)
    for path, headers, status in (
        ("/health", {}, 200),
        ("/metrics", {}, 401),
        ("/metrics", bearer(dask.token), 200),
        ("/metrics", {}, 401),
    ):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


@pytest.mark.parametrize(("token", "status"), [(None, b"401"), ("0" * 64, b"401"), ("f" * 64, b"101")])
def test_a_websocket_is_opened_by_the_token_alone(dask: DaskProcesses, token: str | None, status: bytes) -> None:
    lines = [
        "GET /status/ws HTTP/1.1",
        "Host: dask",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: bokeh",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    with socket.create_connection(("127.0.0.1", dask.dashboard_port), SECONDS) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(100).split()[1] == status


def test_nobody_without_the_token_sends_a_worker_away(dask: DaskProcesses) -> None:
    port, group = dask.dashboard_port, GROUP_WORKER.partition("-worker-")[0]
    for path, body in (("/af/v1/pools", {"pools": {group: {"keep": 0}}}), ("/api/v1/retire_workers", {"n": 1})):
        assert asked(port, "POST", path, "0" * 64, json.dumps(body).encode())[0] == 401
    status, text = asked(port, "POST", "/af/v1/pools", dask.token, json.dumps({"pools": {group: {}}}).encode())
    pool = json.loads(text)["pools"][group]
    assert (status, len(pool["workers"]), pool["retiring"], pool["retired"]) == (200, 1, [], [])


PROGRAM = """
import subprocess, sys
from distributed import Client, LocalCluster, get_client, secede

def within(x):
    secede()
    return get_client().submit(pow, x, 2).result()

def started(x):
    secede()
    code = f"from distributed import Client; print(Client().submit(pow, {x}, 2).result())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

if __name__ == "__main__":
    with Client() as client:
        assert client.scheduler.address.startswith("tls://"), client.scheduler.address
        print(client.submit(within, 3).result(), client.submit(started, 4).result())
        try:
            Client(client.scheduler.address.replace("tls", "tcp"), timeout=2)
        except RuntimeError as error:
            print(error)
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as own, Client(own) as client:
        print(own.scheduler_address.partition(":")[0], client.submit(pow, 5, 2).result())
"""


def test_programs_of_users_need_to_say_nothing(dask: DaskProcesses) -> None:
    said = dask.run(PROGRAM)
    assert "9 16" in said
    assert "encryption required by Dask configuration" in said
    assert "tls 25" in said


def test_a_configuration_in_home_does_not_turn_it_off(dask: DaskProcesses) -> None:
    own = dask.directory / ".config" / "dask" / "own.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("distributed: {comm: {require-encryption: false, default-scheme: tcp, tls: {ca-file: null}}}")
    connects = "import dask; from distributed import Client; print(Client().submit(pow, 2, 3).result())"
    asks = "print(dask.config.get('distributed.comm.require-encryption'))"
    assert dask.run(f"{connects}; {asks}").split() == ["8", "True"]


def heard(port: int, tls: ssl.SSLContext | None) -> bool:
    """Return whether somebody who connects is told anything of Dask."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
            connection = tls.wrap_socket(plain) if tls else plain
            with connection:
                if not tls:
                    connection.sendall(b"\x00" * 64)
                return bool(connection.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


def context(directory: Path, shown: Certificates | None) -> ssl.SSLContext:
    """Return how somebody connects who trusts everybody."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    if shown:
        (directory / "stranger.crt").write_text(shown.certificate)
        (directory / "stranger.key").write_text(shown.key)
        found.load_cert_chain(directory / "stranger.crt", directory / "stranger.key")
    return found


def asked(port: int, method: str, path: str, token: str | None, body: bytes | None = None) -> tuple[int, bytes]:
    """Return the status and the text of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body, bearer(token) if token is not None else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
