"""A CI job's token: from GitHub and from GitLab, its end, and what is said where there is none."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from af_client import ci_token

AUDIENCE = "https://kubernetes.facility.example.org"
PROGRAM = [sys.executable, "-c", "from af_client.ci_token import main; main()", "--audience", AUDIENCE]


def jwt(end: int) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": end, "sub": "ß>?"}).encode()).decode().rstrip("=")
    return f"header.{claims}.signature"


class GitHub(BaseHTTPRequestHandler):
    """What a runner's URL answers: what `answers` has, one after the other."""

    answers: list[tuple[int, str]]
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        code, text = self.answers.pop(0)
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[GitHub]]:
    handler = type("Answering", (GitHub,), {"answers": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setattr(ci_token, "PAUSES", (0.0, 0.0))
    monkeypatch.delenv(ci_token.GIVEN, raising=False)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{server.server_port}/t?api-version=2")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-job's-secret")
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_github_is_asked_for_the_audience(github: type[GitHub]) -> None:
    github.answers[:] = [(200, json.dumps({"value": jwt(1)}))]
    assert ci_token.token(AUDIENCE, os.environ) == jwt(1)
    query = "audience=https%3A%2F%2Fkubernetes.facility.example.org"
    assert github.seen == [(f"/t?api-version=2&{query}", "bearer the-job's-secret")]


def test_one_answer_that_does_not_come_ends_no_job(github: type[GitHub]) -> None:
    github.answers[:] = [(503, "busy"), (200, "no json"), (200, json.dumps({"value": jwt(1)}))]
    assert ci_token.token(AUDIENCE, os.environ) == jwt(1)


@pytest.mark.parametrize("answers", [[(403, "the-job's-secret")], 3 * [(500, "")], 3 * [(200, "[]")]])
def test_a_refusal_holds_no_secret(github: type[GitHub], answers: list[tuple[int, str]]) -> None:
    github.answers[:] = answers
    with pytest.raises(ci_token.NoToken) as refused:
        ci_token.token(AUDIENCE, os.environ)
    assert "GitHub gave no token" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert github.answers == []


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in (ci_token.GIVEN, *ci_token.GITHUB)} | variables
    return subprocess.run(PROGRAM, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_what_a_client_gets_of_gitlabs_token() -> None:
    done = run(AF_CI_TOKEN=jwt(1_800_000_000) + "\n")
    assert json.loads(done.stdout) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": jwt(1_800_000_000), "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_without_a_token_is_told_how_to_get_one() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "permissions: {id-token: write}" in done.stderr
    assert f"id_tokens: {{AF_CI_TOKEN: {{aud: {AUDIENCE}}}}}" in done.stderr


@pytest.mark.parametrize("given", ["opaque-secret", "a.b.c", "a.e30.c", jwt(10**20)])
def test_what_is_no_token_is_not_repeated(given: str) -> None:
    done = run(AF_CI_TOKEN=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no JSON web token" in done.stderr
    assert given not in done.stderr
