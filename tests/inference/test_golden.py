"""What the clients of TFaaS really send: their bytes, recorded once on loopback, and what must come back.

``python-*`` is upstream's own client under Python 2.7; ``curl-*`` what its documentation has people type (curl 7.88);
``cpp-*`` libcurl, called with the options of upstream's C++ client, and that client's message. Of the clients only curl
knows of a token: where a request has none it is put in.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, Running, config, serving

GOLDEN = Path(__file__).with_name("golden")
PARAMS = {"name": "linear", "model": "model.onnx", "labels": "labels.txt", "description": "recorded"}
NOTHING = b""
PICTURE = b"[10.0,200.0,90.0,300.0]\n"
# In the order in which they were sent.
ANSWERS = {
    "python-upload": NOTHING,
    "python-bundle": NOTHING,
    "python-models": None,
    "python-predict": b"[6.6]\n",
    "python-image": PICTURE,
    "python-delete": NOTHING,
    "curl-upload": NOTHING,
    "curl-bundle": NOTHING,
    "curl-models": None,
    "curl-params": json.dumps(PARAMS).encode(),
    "curl-status": None,
    "curl-json": b"[6.6]\n",
    "curl-json-urlencoded": b"[6.6]\n",
    "curl-image": PICTURE,
    "cpp-proto": b"\n\x05\x15\x33\x33\xd3\x40",
    "curl-delete": NOTHING,
    "curl-delete-named": NOTHING,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("golden")
    (folder / "store").mkdir()
    onnx_models.put(folder / "hits", onnx_models.colours(3))
    models = [{"name": "hits", "path": str(folder / "hits")}]
    with serving(config(folder, models=models, store=str(folder / "store"), upload=True)) as running:
        yield running


def replay(server: Running, name: str) -> tuple[int, bytes]:
    head, _, rest = (GOLDEN / f"{name}.http").read_bytes().partition(b"\r\n")
    token = b"" if b"\r\nAuthorization: " in b"\r\n" + rest else f"Authorization: Bearer {TOKEN}\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.http), 30) as connection:
        connection.sendall(head + b"\r\n" + token + rest)
        response = http.client.HTTPResponse(connection, method=head.split()[0].decode())
        response.begin()
        return response.status, response.read()


def test_every_recorded_request_is_answered_as_its_client_expects(server: Running) -> None:
    assert sorted(ANSWERS) == sorted(path.stem for path in GOLDEN.glob("*.http"))
    answers = {name: replay(server, name) for name in ANSWERS}
    assert {name: status for name, (status, _) in answers.items() if status != 200} == {}
    for name, expected in ANSWERS.items():
        assert expected in (None, answers[name][1]), name
    for client in ("python", "curl"):
        hits, linear = json.loads(answers[f"{client}-models"][1])
        assert hits["name"] == "hits"
        assert {key: linear[key] for key in PARAMS} == PARAMS
    assert json.loads(answers["curl-status"][1])["Uptime"] > 0
    assert json.loads(server.ask("GET", "/models").body) == [hits]  # the rest was deleted


def test_no_answer_without_the_token(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.http), 30) as connection:
        connection.sendall((GOLDEN / "python-predict.http").read_bytes())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 401
