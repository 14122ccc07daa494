"""How a service is asked again: one that is full, starts, goes away, or is none at all."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from af_client import model_service
from af_client.errors import ModelRefused, ModelsUnavailable
from af_client.model_service import Address, ModelService, Question
from tests.support.inference.serving import free_port

Answers = list[tuple[int, dict[str, str], bytes] | None]
"""What comes, one after the other; None: the connection breaks. The last one repeats."""
FULL = (429, {"Retry-After": "1"}, b'{"error": "the queue of sum is full"}')
GOOD = (200, {}, b"[]")


class Asked(http.server.ThreadingHTTPServer):
    """A server that answers as scripted, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Answers = [GOOD]
        self.bodies: list[bytes] = []

    def handle_error(self, *_: object) -> None:
        """Say nothing: connections break here on purpose."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Asked

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def asked() -> Iterator[Asked]:
    with Asked() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long was waited each time; nobody waits in these tests."""
    found: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", found.append)
    return found


@pytest.fixture
def ask(asked: Asked) -> Callable[..., Any]:
    service = ModelService(Address(f"http://127.0.0.1:{asked.server_address[1]}/", "t"), 2)
    return lambda **more: service.ask(Question("POST", "/upload", b"body", **more)).json()


def test_a_full_service_is_asked_again_when_it_says(asked: Asked, ask: Any, slept: list[float]) -> None:
    asked.answers = [FULL, (503, {"Retry-After": "7"}, b""), GOOD]
    assert ask() == []
    assert slept == [1, 7]
    assert asked.bodies == [b"body"] * 3


def test_no_answer_is_waited_for_longer_than_half_a_minute(asked: Asked, ask: Any, slept: list[float]) -> None:
    asked.answers = [(503, {"Retry-After": "86400"}, b""), GOOD]
    assert ask() == []
    assert slept == [30]


def test_one_that_stays_full_is_given_up(asked: Asked, ask: Any, slept: list[float]) -> None:
    asked.answers = [FULL]
    with pytest.raises(ModelsUnavailable, match=r"cannot answer now \(429\): the queue of sum is full: try again"):
        ask()
    assert len(asked.bodies) == len(slept) + 1 == model_service.RETRIES + 1


def test_a_question_is_repeated_when_the_connection_breaks(asked: Asked, ask: Any, slept: list[float]) -> None:
    asked.answers = [GOOD, None, GOOD]
    assert (ask(), ask()) == ([], [])
    assert len(asked.bodies) == 3


def test_a_push_is_not_repeated_when_nobody_knows_what_came_of_it(asked: Asked, ask: Any, slept: list[float]) -> None:
    asked.answers = [None, GOOD]
    with pytest.raises(ModelsUnavailable, match="does not answer"):
        ask(repeatable=False)
    assert len(asked.bodies) == 1


def test_a_push_that_was_turned_away_is_repeated(asked: Asked, ask: Any, slept: list[float]) -> None:
    asked.answers = [FULL, GOOD]
    assert ask(repeatable=False) == []
    assert len(asked.bodies) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((409, {}, b'{"error": "version 3 exists: leave version out"}'), "version 3 exists: leave version out"),
        ((500, {}, b"<html>oops</html>"), "oops"),
        ((500, {}, b""), r"the model service refuses \(500\)"),
        ((302, {"Location": "http://elsewhere.example/"}, b""), r"refuses \(302\)"),
        ((200, {}, b"<html>"), "no answer of a model service"),
    ],
)
def test_what_it_says_is_said(asked: Asked, ask: Any, answer: Any, said: str) -> None:
    asked.answers = [answer]
    with pytest.raises(ModelRefused, match=said):
        ask()
    assert len(asked.bodies) == 1


def test_one_that_is_not_there_yet_is_waited_for(slept: list[float]) -> None:
    service = ModelService(Address(f"http://127.0.0.1:{free_port()}", "t"), 1)
    with pytest.raises(ModelsUnavailable, match="refused"):
        service.ask(Question("GET", "/v2"))
    assert 15 < sum(slept) < 40
