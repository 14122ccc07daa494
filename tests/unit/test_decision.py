"""What the cache is told of a file: the features, the answer, and what happens when there is none."""

from __future__ import annotations

import ast
import asyncio
import json
import math
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from af_decision import metrics, policy, server
from af_decision.history import DAY, DECAYS, FEATURES, History, dataset_of
from af_decision.model import Model, Unavailable
from af_decision.policy import FAILURES, MOST_ROWS, PAUSE, REMEMBERED, SECONDS, Policy
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN = "secret"
FILE = "/store/mc/Run2/DYJets/MINIAOD/v1/0001/a.root"


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def named(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(FEATURES, values, strict=True))


@pytest.mark.parametrize(
    ("path", "dataset", "tier"),
    [
        (FILE, "/store/mc/Run2/DYJets/MINIAOD", "MINIAOD"),
        ("/data/zmumu/a.root", "/data/zmumu", ""),
        ("/AOD", "/", ""),
        ("a", "", ""),
    ],
)
def test_data_set_and_tier_of_a_path(path: str, dataset: str, tier: str) -> None:
    assert dataset_of(path) == (dataset, tier)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100 * DAY)), max_size=40))
def test_features_are_what_was_before_counted_anew(opens: list[tuple[int, float]]) -> None:
    """Against the definition, over all accesses kept: nothing of an access itself is in its features."""
    history, before, now = History(), list[tuple[str, float]](), 0.0
    for number, step in opens:
        now += step
        path = FILE.replace("a.root", f"{number}.root")
        found = named(history.opened(path, now))
        of_file = [when for name, when in before if name == path]
        for which, times in (("file", of_file), ("dataset", [when for _, when in before])):
            for name, decay in DECAYS.items():
                count = sum(math.exp(-(now - when) / decay) for when in times)
                assert found[f"{which}_accesses_{name}"] == pytest.approx(math.log1p(count), abs=1e-9)
        if before:
            assert found["dataset_idle"] == pytest.approx(math.log1p(now - before[-1][1]), abs=1e-9)
            assert found["dataset_age"] == pytest.approx(math.log1p(now - before[0][1]), abs=1e-9)
        assert found["dataset_files"] == pytest.approx(math.log1p(len({name for name, _ in before})))
        assert [found[name] for name in FEATURES if name.startswith("is_")] == [0, 0, 0, 1]
        before.append((path, now))


def test_a_history_is_bounded_and_forgets_who_was_not_seen_for_longest() -> None:
    history = History(files=3, datasets=2)
    for number in range(1000):
        history.opened(f"/d{number}/f.root", float(number))
        assert named(history.opened("/kept/f.root", float(number)))["file_accesses_91d"] > 0 or number == 0
    assert named(history.opened("/d0/f.root", 1000.0))["file_accesses_91d"] == 0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers is not late, however busy the machine is."""
    monkeypatch.setattr(policy, "SECONDS", 30.0)


def outcomes(found: Policy) -> dict[str, int]:
    return {"_".join(outcome): count for outcome, count in found.counts.items() if count}


async def test_what_is_probable_enough_is_kept() -> None:
    answers = iter((0.5, 0.49))
    found = Policy(lambda _: [next(answers)], 0.5, Clock())
    assert await found.keep("/a/1")
    assert not await found.keep("/a/2")
    assert outcomes(found) == {"cache_model": 1, "past_model": 1}


async def test_an_answer_holds_for_a_while_and_then_the_file_is_asked_for_again() -> None:
    clock, answers = Clock(), iter((0.0, 1.0))
    found = Policy(lambda _: [next(answers)], 0.5, clock)
    assert not await found.keep("/a/1")
    clock.now += REMEMBERED - 1
    assert not await found.keep("/a/1")
    clock.now += 2
    assert await found.keep("/a/1")
    assert outcomes(found) == {"past_model": 1, "past_remembered": 1, "cache_model": 1}


async def test_all_that_wait_are_asked_of_in_one_request() -> None:
    asked = list[int]()

    def probabilities(rows: Sequence[Sequence[float]]) -> list[float]:
        asked.append(len(rows))
        return [1.0 if named(row)["dataset_files"] > 1 else 0.0 for row in rows]

    found = Policy(probabilities, 0.5, Clock())
    kept = await asyncio.gather(*(found.keep(f"/a/{number}") for number in range(100)))
    # Each has its own answer. ln(1 + 2) > 1: of this data set two files were opened before.
    assert kept == [False] * 2 + [True] * 98
    assert asked == [MOST_ROWS, 100 - MOST_ROWS]


class Broken:
    """A service whose requests fail at once, or which holds them until it is let go."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.asked, self._clock, self._seconds = 0, clock, seconds
        self.fails = True

    def __call__(self, rows: Sequence[Sequence[float]]) -> list[float]:
        self.asked += 1
        self._clock.now += self._seconds
        if self.fails:
            raise Unavailable("no")
        return [0.0] * len(rows)


async def test_a_service_that_fails_is_left_in_peace_and_asked_again_after_a_pause() -> None:
    clock = Clock()
    service = Broken(clock)
    found = Policy(service, 0.5, clock)
    for number in range(FAILURES + 5):
        assert await found.keep(f"/a/{number}")
    assert outcomes(found) == {"cache_unavailable": FAILURES, "cache_paused": 5}
    clock.now += PAUSE + 1
    # One asks, in vain; the next pause is twice as long.
    assert all(await asyncio.gather(*(found.keep(f"/b/{number}") for number in range(5))))
    clock.now += PAUSE + 1
    assert await found.keep("/c")
    assert service.asked == FAILURES + 1
    clock.now += PAUSE
    service.fails = False
    assert not await found.keep("/d")
    assert not await found.keep("/e")
    assert outcomes(found) == {"cache_unavailable": FAILURES + 1, "cache_paused": 10, "past_model": 2}


async def test_a_service_that_always_answers_too_late_is_left_in_peace_too() -> None:
    clock = Clock()
    service = Broken(clock, seconds=2 * policy.SECONDS)
    service.fails = False
    found = Policy(service, 0.5, clock)
    for number in range(FAILURES + 5):
        await found.keep(f"/a/{number}")
    assert service.asked == FAILURES
    assert outcomes(found)["cache_paused"] == 5


async def test_nobody_waits_behind_a_request_that_has_had_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "SECONDS", SECONDS)
    clock, begun, go = Clock(), threading.Event(), threading.Event()

    def hang(rows: Sequence[Sequence[float]]) -> list[float]:
        begun.set()
        assert go.wait(30)
        return [0.0] * len(rows)

    found = Policy(hang, 0.5, clock)
    assert await found.keep("/a")
    assert begun.is_set()
    clock.now += 2 * SECONDS
    assert all([await found.keep(f"/b/{number}") for number in range(100)])
    assert outcomes(found) == {"cache_late": 1, "cache_paused": 100}
    go.set()


class Service(BaseHTTPRequestHandler):
    """A model as the Open Inference Protocol shows it: what it answers is set on the class."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    status, closes = 200, False
    metadata: Any
    answer: Any
    asked: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self._send(self.metadata)

    def do_POST(self) -> None:
        self._send(self.answer, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, content: Any, body: Any = None) -> None:
        text = json.dumps(content).encode()
        authorized = self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.asked.append((self.path, body))
        self.send_response(self.status if authorized else 401)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        # Without a word of it: as a server that is restarted, or tired of idle connections.
        self.close_connection = self.closes


Served = tuple[type[Service], str]


@pytest.fixture
def service() -> Iterator[Served]:
    metadata = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, len(FEATURES)]}]}
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
    ]
    handler = type("Handler", (Service,), {"metadata": metadata, "answer": {"outputs": outputs}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join(10)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """The file with the session's token, as the kubelet keeps it."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def probabilities(url: str, token: Path, times: int = 1) -> list[float]:
    with closing(Model(url, token, "pop/ularity", 5)) as model:
        return [value for _ in range(times) for value in model.probabilities([VALUES])]


VALUES = [float(number) for number in range(len(FEATURES))]


def test_a_classifier_is_asked_with_its_own_input_and_says_the_last_class(service: Served, token: Path) -> None:
    handler, url = service
    assert probabilities(url, token, times=2) == [0.75, 0.75]
    row = {"name": "X", "datatype": "FP32", "shape": [1, len(FEATURES)], "data": VALUES}
    infer = ("/v2/models/pop%2Fularity/infer", {"inputs": [row]})
    assert handler.asked == [("/v2/models/pop%2Fularity", None), infer, infer]


def test_a_connection_that_was_closed_meanwhile_is_no_failure(service: Served, token: Path) -> None:
    handler, url = service
    handler.closes = True
    assert probabilities(url, token, times=3) == [0.75] * 3


OUTPUT = {"name": "p", "datatype": "FP32", "shape": [1, 1]}


def test_many_files_are_many_rows(service: Served, token: Path) -> None:
    handler, url = service
    output = {"name": "p", "datatype": "FP32", "shape": [3, 2], "data": [0.9, 0.1, 0.8, 0.2, 0.7, 0.3]}
    handler.answer = {"outputs": [output]}
    with closing(Model(url, token, "popularity", 5)) as model:
        assert model.probabilities([VALUES] * 3) == [0.1, 0.2, 0.3]
        with pytest.raises(Unavailable, match="one for each of 4 rows"):
            model.probabilities([VALUES] * 4)
    assert handler.asked[1][1]["inputs"][0]["shape"] == [3, len(FEATURES)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": 503}, "503"),
        ({"status": 404}, "404"),
        (
            {"metadata": {"inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 7]}]}},
            "not one input of rows of 18",
        ),
        ({"metadata": {"inputs": [{"name": "X", "datatype": "BYTES", "shape": [-1, -1]}]}}, "floats"),
        ({"metadata": {"inputs": []}}, "not one input"),
        ({"metadata": []}, "TypeError"),
        ({"answer": {"outputs": []}}, "IndexError"),
        ({"answer": {"error": "no"}}, "KeyError"),
        ({"answer": {"outputs": [OUTPUT | {"data": [math.nan]}]}}, "no probabilities"),
        ({"answer": {"outputs": [OUTPUT | {"data": [7.5]}]}}, "no probabilities"),
        ({"answer": {"outputs": [OUTPUT | {"data": []}]}}, "no probabilities"),
    ],
)
def test_what_is_no_probability_is_no_answer(service: Served, token: Path, changes: Any, words: str) -> None:
    handler, url = service
    for name, value in changes.items():
        setattr(handler, name, value)
    with pytest.raises(Unavailable, match=re.escape(words)):
        probabilities(url, token)


def test_a_token_that_changes_is_read_again(service: Served, token: Path) -> None:
    """The service's Secret goes when the session is suspended, and comes back with another token."""
    _, url = service
    with closing(Model(url, token, "popularity", 5)) as model:
        token.unlink()
        with pytest.raises(Unavailable, match="FileNotFound"):
            model.probabilities([VALUES])
        token.write_text("another")
        with pytest.raises(Unavailable, match="401"):
            model.probabilities([VALUES])
        token.write_text(TOKEN)
        assert model.probabilities([VALUES]) == [0.75]


def test_nobody_there_is_no_answer(token: Path) -> None:
    with pytest.raises(Unavailable, match="ConnectionRefused"):
        probabilities("http://127.0.0.1:1", token)


async def asked(socket: str, question: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(question)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_plugin_is_answered_with_one_byte(tmp_path: Path) -> None:
    found = Policy(lambda rows: [1.0 if row[0] > 0 else 0.0 for row in rows], 0.5, Clock())
    socket = str(tmp_path / "socket")
    async with await server.listen(found, socket):
        assert await asked(socket, b"miss /a/1\n") == b"0"
        assert await asked(socket, b"hit /a/2\n") == b""
        assert await asked(socket, b"miss /a/2\n") == b"1"
        assert await asked(socket, b"miss /\xff\n") == b"0"
        for garbage in (b"\n", b"what /a\n", b"x" * 100_000):
            assert await asked(socket, garbage) == b""
        assert await asked(socket, b"miss /a/3\n") == b"0"
    assert outcomes(found) == {"past_model": 3, "cache_model": 1, "cache_on_disk": 1}


async def got(page: asyncio.Server, path: str, header: str = "") -> tuple[str, str]:
    """Return head and body of the answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", page.sockets[0].getsockname()[1])
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode("latin-1"))
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Authorization: Bearer \r\n",
        f"Authorization: Bearer {'0' * 64}\r\n",
        f"Authorization: {TOKEN}\r\n",
        f"Authorization: Bearer {TOKEN[:-1]}\r\n",
        "Authorization: Bearer \xff\r\n",
        f"Authorization Bearer {TOKEN}\r\n",
        "".join(f"X-{n}: x\r\n" for n in range(200)),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/", "/health/../metrics", "//health", "/health?x"])
async def test_who_does_not_show_the_token_sees_no_counters(header: str, path: str) -> None:
    async with await server.publish(idle(), 0, TOKEN, "127.0.0.1") as page:
        head, body = await got(page, path, header)
    assert head.startswith("HTTP/1.1 401 Unauthorized\r\n")
    assert "xcache_" not in body


async def test_whether_it_lives_is_told_to_the_kubelet_which_has_no_token() -> None:
    async with await server.publish(idle(), 0, TOKEN, "127.0.0.1") as page:
        head, body = await got(page, "/health")
    assert (head.splitlines()[0], body) == ("HTTP/1.1 200 OK", "ok\n")


async def test_without_a_token_of_its_own_it_answers_nobody() -> None:
    async with await server.publish(idle(), 0, "", "127.0.0.1") as page:
        head, _ = await got(page, "/metrics", "Authorization: Bearer \r\n")
    assert head.startswith("HTTP/1.1 401 ")


def idle() -> Policy:
    """Return a policy that was asked nothing yet."""
    return Policy(lambda rows: [0.0] * len(rows), 0.5, Clock())


async def test_counters_as_prometheus_reads_them() -> None:
    found = Policy(lambda rows: [0.0] * len(rows), 0.5, Clock())
    await found.keep("/a/1")
    found.hit("/a/2")
    async with await server.publish(found, 0, TOKEN, "127.0.0.1") as page:
        head, body = await got(page, "/metrics", f"Authorization: Bearer {TOKEN}\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert body == metrics.text(found)
    assert 'xcache_opens_total{way="past",reason="model"} 1' in body
    assert 'xcache_opens_total{way="cache",reason="on_disk"} 1' in body
    assert 'xcache_opens_total{way="cache",reason="late"} 0' in body
    assert "xcache_decision_seconds_count 1" in body


def test_the_program_needs_nothing_but_python() -> None:
    """Its image has nothing else."""
    for file in Path(policy.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(str(node.module))
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names, file


def test_the_service_has_less_time_than_the_plugin_waits() -> None:
    plugin = (Path(policy.__file__).parents[1] / "decision.cc").read_text()
    [milliseconds] = re.findall(r"DEADLINE_MS = (\d+);", plugin)
    assert SECONDS * 1000 < int(milliseconds) == 50
