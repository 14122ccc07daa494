"""The proxy that crashes a client at its k-th write: what it forwards, what it counts, and what a crash looks like."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.api_proxy import ApiProxy, When, Write

PODS = "/api/v1/namespaces/physics/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/af-system/leases/af-operator"


class Server(ThreadingHTTPServer):
    """An API server that remembers what it has carried out, and whose watch says one event and stays open."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, bytes, str]] = []
        self.release = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(b'{"type": "ADDED"}\n')
        self.server.release.wait(10)
        self._chunk(b"")

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.command, self.path, body, self.headers["Authorization"]))
        answer = json.dumps({"kind": "Pod"}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        found.release.set()
        found.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[ApiProxy]:
    with ApiProxy(f"http://127.0.0.1:{server.server_port}", "secret") as found:
        yield found


def ask(proxy: ApiProxy, verb: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Return status and content; raises when there is no answer."""
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=10)
    try:
        connection.request(verb, path, body)
        response = connection.getresponse()
        return response.status, response.readline()
    finally:
        connection.close()


def test_a_write_goes_through_with_the_token_and_its_query(proxy: ApiProxy, server: Server) -> None:
    assert ask(proxy, "PATCH", f"{PODS}/a?fieldManager=af%2Doperator", b"{}") == (201, b'{"kind": "Pod"}')
    assert server.seen == [("PATCH", f"{PODS}/a?fieldManager=af%2Doperator", b"{}", "Bearer secret")]
    assert proxy.writes == [Write("PATCH", f"{PODS}/a", 201)]


def test_a_watch_comes_event_by_event(proxy: ApiProxy) -> None:
    # The server has not ended the answer: without streaming this would time out.
    assert ask(proxy, "GET", f"{PODS}?watch=true") == (200, b'{"type": "ADDED"}\n')
    assert proxy.writes == []


@pytest.mark.parametrize(("when", "carried_out"), [("before", ["a"]), ("after", ["a", "b"])])
def test_a_crash_at_the_second_write(proxy: ApiProxy, server: Server, when: When, carried_out: list[str]) -> None:
    crashed = []
    proxy.at(2, when, lambda: crashed.append(len(server.seen)))
    ask(proxy, "PATCH", f"{PODS}/a", b"{}")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(proxy, "PATCH", f"{PODS}/b", b"{}")
    assert proxy.sprung.is_set()
    assert crashed == [len(carried_out)]
    assert [path.rpartition("/")[2] for _, path, _, _ in server.seen] == carried_out
    assert ask(proxy, "PATCH", f"{PODS}/b", b"{}")[0] == 201, "only once"


def test_renewals_of_the_lease_do_not_count(proxy: ApiProxy) -> None:
    proxy.at(1, "before", lambda: None)
    assert ask(proxy, "PATCH", LEASE, b"{}")[0] == 201
    assert not proxy.sprung.is_set()
    assert proxy.writes == []


def test_the_kubeconfig_leads_to_the_proxy(proxy: ApiProxy, tmp_path: Path) -> None:
    config = yaml.safe_load(proxy.kubeconfig(tmp_path / "config").read_text())
    assert config["clusters"][0]["cluster"]["server"] == proxy.url
    assert "secret" not in str(config)
