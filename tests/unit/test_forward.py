"""A port that leads through websockets: nothing is lost, many at once, and what goes wrong is said once."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from af_client import forward
from af_client.errors import BadInput, ClientError, Forbidden, NotLoggedIn, Unavailable
from af_client.forward import PortForward
from af_client.transport import WebSocketAddress
from tests.support.fake_kubelet import LARGE, FakeKubelet, kubelet
from tests.support.lingering_tls import lingering_tls, write_certificates


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(forward, "RETRY_SECONDS", 1.0)


@pytest.fixture(params=["plain", "TLS"])
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeKubelet]:
    """Both: TLS ends later than the websocket in it, and in time only for one who waits."""
    with kubelet() as found:
        if request.param == "plain":
            yield found
            return
        server, found.tls = write_certificates(tmp_path)
        with lingering_tls(found.url, server, linger=0.05) as found.url:
            yield found


def address(pod: FakeKubelet) -> WebSocketAddress:
    return WebSocketAddress(pod.url, {"Authorization": "Bearer alice"}, pod.tls)


def forwarded(pod: FakeKubelet, port: int = 0, said: list[str] | None = None) -> PortForward:
    return PortForward(lambda: address(pod), port, ([] if said is None else said).append)


def connect(port: PortForward) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port.port), timeout=10)


def read_all(connection: socket.socket, pause: float = 0.0) -> int:
    count = 0
    while data := connection.recv(65_536):
        count += len(data)
        time.sleep(pause)
    return count


def until(check: object, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_both_ways_and_many_at_once(pod: FakeKubelet) -> None:
    with forwarded(pod) as port:
        connections = [connect(port) for _ in range(20)]
        for number, each in enumerate(connections):
            each.sendall(f"hello {number}".encode())
        for number, each in enumerate(connections):
            assert each.recv(100) == f"HELLO {number}".encode()
            each.sendall(b"again")
            assert each.recv(100) == b"AGAIN"
            each.close()
        until(lambda: pod.open == 0)
    assert pod.requests[-1].headers["Authorization"] == "Bearer alice"


@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_what_came_before_the_end_is_not_lost(pod: FakeKubelet, pause: float) -> None:
    with forwarded(pod) as port, connect(port) as connection:
        connection.sendall(b"large")
        assert read_all(connection, pause) == LARGE


def test_a_pod_that_is_away_for_a_moment(pod: FakeKubelet) -> None:
    said: list[str] = []
    with forwarded(pod, said=said) as port, connect(port) as connection:
        connection.sendall(b"a")
        assert connection.recv(100) == b"A"
        pod.codes = [404, 500, 404]
        with connect(port) as another:
            another.sendall(b"b")
            assert another.recv(100) == b"B"
    assert said == []


def test_a_pod_that_stays_away_is_told_once_until_it_is_back(pod: FakeKubelet) -> None:
    said: list[str] = []
    with forwarded(pod, said=said) as port:
        for trouble in ("connection refused", "connection refused", "", "connection refused"):
            pod.trouble = trouble
            with connect(port) as connection:
                connection.sendall(b"a")
                assert connection.recv(100) == (b"" if trouble else b"A")
        assert said == ["connection refused"] * 2
        pod.codes = [404] * 1000
        with connect(port) as connection:
            assert connection.recv(100) == b""
        assert said[2:] == ["the pod is not there"]


@pytest.mark.parametrize(
    ("code", "error"), [(401, NotLoggedIn), (403, Forbidden), (404, Unavailable), (503, Unavailable)]
)
def test_what_is_missing_is_said_at_once(pod: FakeKubelet, code: int, error: type[ClientError]) -> None:
    pod.codes = [code] * 1000
    with pytest.raises(error):
        forwarded(pod).__enter__()


def test_an_api_server_that_is_not_there() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        PortForward(lambda: WebSocketAddress("http://127.0.0.1:1")).__enter__()


def test_a_port_of_ones_choice_and_one_that_is_taken(pod: FakeKubelet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {number} is taken"):
            forwarded(pod, number).__enter__()
    with forwarded(pod, number) as port:
        assert port.port == number


def test_the_end_closes_what_is_open(pod: FakeKubelet) -> None:
    before = threading.active_count()
    with forwarded(pod) as port:
        connection = connect(port)
        connection.sendall(b"a")
        assert connection.recv(100) == b"A"
    assert connection.recv(100) == b""
    connection.close()
    until(lambda: pod.open == 0)
    until(lambda: threading.active_count() <= before)


def test_the_end_closes_what_has_only_begun(pod: FakeKubelet) -> None:
    """Sockets that are left open are found by their ResourceWarning."""
    for _ in range(20):
        # Once without: what is missing is asked at the beginning. The others are on their way when the end comes.
        pauses = iter([0.0])

        def slow(pauses: Iterator[float] = pauses) -> WebSocketAddress:
            time.sleep(next(pauses, 0.05))
            return address(pod)

        with PortForward(slow) as port:
            connections = [connect(port) for _ in range(3)]
        for each in connections:
            assert each.recv(100) == b""
            each.close()
        gc.collect()


def test_the_end_says_nothing_of_connections_that_are_open(pod: FakeKubelet, caplog: pytest.LogCaptureFixture) -> None:
    with forwarded(pod) as port:
        connection = connect(port)
        until(lambda: len(pod.requests) == 2 and pod.open == 1)  # the first one asks what is missing, and has gone
    connection.close()
    assert caplog.messages == []


def test_the_end_leaves_no_socket_open(pod: FakeKubelet) -> None:
    """As above, of connections that are used: to the pod's side there are as many sockets."""
    for _ in range(20):
        with forwarded(pod) as port, connect(port) as connection:
            connection.sendall(b"a")
            assert connection.recv(100) == b"A"
        gc.collect()


def test_the_end_does_not_wait_for_who_does_not_read(pod: FakeKubelet) -> None:
    with ExitStack() as port, connect(port.enter_context(forwarded(pod))) as connection:
        for _ in range(10):  # more than all buffers on the way take
            connection.sendall(b"large")
            time.sleep(0.03)
        begun = time.monotonic()
        port.close()
    assert time.monotonic() - begun < forward.CLOSE_SECONDS + 3
