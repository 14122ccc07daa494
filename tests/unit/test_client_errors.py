"""Answers of an API server turned into messages, and the connection itself against a small HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from af_client import errors, transport
from af_client.errors import ApiError, BadInput, NoCluster, Unreachable, from_response
from af_client.sessions import Sessions
from af_client.transport import Cluster
from af_kube.request import Request

POLICY = (
    """sessions "s" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: spec.user is 'bob'"""
)
FORBIDDEN = (
    'analysissessions.analysisfacility.io is forbidden: User "system:serviceaccount:physics:alice" cannot create '
    'resource "analysissessions" in API group "analysisfacility.io" in the namespace "atlas"'
)
CAUSES = [
    {"reason": "FieldValueInvalid", "field": "spec.dask.pools[0].workers", "message": "min must not be larger"},
    {"reason": "FieldValueNotSupported", "field": "spec.mode", "message": 'Unsupported value: "x"'},
    {"field": "<nil>", "message": "some validation rules were not checked because the object was invalid"},
]


@pytest.mark.parametrize(
    ("code", "body", "kind", "said"),
    [
        (401, {"message": "Unauthorized"}, errors.NotLoggedIn, "log in again"),
        (403, {"message": FORBIDDEN}, errors.Forbidden, "may not create analysissessions in namespace 'atlas'"),
        (403, {"message": FORBIDDEN.partition(" in the namespace")[0]}, errors.Forbidden, "in all namespaces"),
        (403, {"message": "exceeded quota: sessions"}, errors.Forbidden, "refuses (403): exceeded quota"),
        (403, {"message": POLICY}, errors.Forbidden, "(403): ValidatingAdmissionPolicy 'p': spec.user is 'bob'"),
        (404, {"message": "x not found", "details": {"name": "x"}}, errors.NotFound, "x not found: `af list` shows"),
        (404, {"details": {"name": "x", "kind": "analysissessions"}}, errors.NotFound, "there is no session 'x' here"),
        (404, {"message": "m", "details": {"kind": "namespaces", "name": "n"}}, errors.NotFound, "no namespace 'n'"),
        (404, {"message": "could not find the requested resource", "details": {}}, errors.KindNotInstalled, "chart"),
        (404, "404 page not found", errors.KindNotInstalled, "install the af-operator chart"),
        (409, {"reason": "AlreadyExists", "details": {"name": "z"}}, errors.NameTaken, "`af delete z`"),
        (409, {"reason": "Conflict", "message": "modified"}, ApiError, "modified"),
        (410, {"message": "too old"}, errors.Expired, "too old"),
        (422, {"details": {"causes": CAUSES}}, errors.Invalid, "  spec.dask.pools[0].workers: min must not be larger"),
        (
            400,
            {"message": 'cannot be handled: strict decoding error: unknown field "spec.x", unknown field "spec.y"'},
            errors.Invalid,
            '\n  unknown field "spec.x"\n  unknown field "spec.y"',
        ),
        (429, {"message": "slow down"}, errors.Unavailable, "slow down"),
        (503, "", errors.Unavailable, "HTTP 503"),
        (418, "tea\npot", ApiError, "refuses (418): tea pot"),
    ],
)
def test_answers(code: int, body: Any, kind: type[ApiError], said: str) -> None:
    error = from_response(code, body if isinstance(body, str) else json.dumps(body))
    assert type(error) is kind
    assert said in str(error)


def test_rules_that_were_not_checked_are_not_shown() -> None:
    assert "not checked" not in str(from_response(422, json.dumps({"details": {"causes": CAUSES}})))


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str, str, str]]

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        self.seen.append((self.command, self.path, str(self.headers.get("Authorization")), body))
        if "/missing" in self.path:
            return self._send(404, b"404 page not found")
        if "/log" in self.path:
            return self._send(200, "t1 größe\nt2 two\nt3 cut".encode())
        return self._send(200, b'{"ok": true}')

    def _send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


def kubeconfig(path: Path, server: str) -> Path:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "physics"}}],
            }
        )
    )
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    handler = type("Recording", (Handler,), {"seen": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    config = kubeconfig(tmp_path / "config", f"http://127.0.0.1:{httpd.server_port}")
    # kubectl's rule: several files, of which some may be missing.
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{config}")
    yield handler
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_the_connection_sends_what_is_asked(server: type[Handler]) -> None:
    cluster = Cluster()
    assert cluster.namespace == "physics"
    assert cluster.call(Request("POST", "/x", {"fieldValidation": "Strict"}, {"a": 1})) == {"ok": True}
    assert server.seen == [("POST", "/x?fieldValidation=Strict", "Bearer secret", '{"a": 1}')]


def test_the_connection_streams_lines(server: type[Handler]) -> None:
    assert list(Sessions().logs("pod")) == ["t1 größe", "t2 two", "t3 cut"]
    assert server.seen[0][1] == "/api/v1/namespaces/physics/pods/pod/log?container=run&timestamps=true"


def test_the_connection_maps_errors(server: type[Handler]) -> None:
    with pytest.raises(errors.KindNotInstalled):
        Cluster().call(Request("GET", "/missing"))


@pytest.mark.usefixtures("server")
def test_unknown_context() -> None:
    with pytest.raises(BadInput, match="no context 'elsewhere'"):
        Cluster("elsewhere")


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "http://127.0.0.1:9")))
    with pytest.raises(Unreachable, match=r"cannot be reached: http://127.0.0.1:9: is the cluster up"):
        Sessions().list()


@pytest.mark.parametrize("content", [None, "", "no: yaml: at all", "kind: Config"])
def test_no_usable_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr(transport, "SERVICE_ACCOUNT", tmp_path / "none")
    with pytest.raises(NoCluster, match="kubeconfig"):
        Cluster()
