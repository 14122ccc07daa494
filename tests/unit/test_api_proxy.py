"""The proxy before the API server: what it forwards and counts, and each way in which it can go wrong."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from aiohttp import web

from tests.support.api_proxy import ApiProxy
from tests.support.exchange import Call
from tests.support.faults import (
    PAGE_GONE,
    WATCH_GONE,
    Cut,
    Delay,
    Drop,
    Fault,
    Hold,
    Match,
    Pages,
    Repeat,
    Silence,
    When,
    too_many,
)
from tests.support.web_server import WebServer

PODS = "/api/v1/namespaces/physics/pods"
WATCH = f"{PODS}?watch=true&resourceVersion=7"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/af-system/leases/af-operator"
EVENT = b'{"type": "ADDED"}\n'
LIST = {"items": ["x" * 100] * 100}
GONE = (http.client.RemoteDisconnected, ConnectionResetError)


class Server(WebServer):
    """An API server that remembers what it was asked, and whose watches say one event, and one more when told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes, str]] = []
        self.watching = 0
        self._again = asyncio.Event()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._read)
        app.router.add_route("*", "/{path:.*}", self._write)
        super().__init__(app)

    def speak(self) -> None:
        """Have each watch say an event more."""
        self.run(self._speak())

    async def _speak(self) -> None:
        self._again.set()

    async def _write(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.raw_path, await request.read(), request.headers["Authorization"]))
        return web.json_response({"kind": "Pod"}, status=201)

    async def _read(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path, b"", request.headers["Authorization"]))
        if "watch" not in request.query:
            return web.json_response(LIST)
        answer = web.StreamResponse()
        await answer.prepare(request)
        self.watching += 1
        await answer.write(EVENT)
        await self._again.wait()
        await answer.write(EVENT)
        return answer


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        yield found


@pytest.fixture
def proxy(server: Server) -> Iterator[ApiProxy]:
    with ApiProxy(server.url, "secret") as found:
        yield found


class Asked:
    """A request that has been sent, and its answer as far as it came."""

    def __init__(self, proxy: ApiProxy, verb: str, path: str, body: bytes | None = None, seconds: float = 10) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=seconds)
        self.connection.request(verb, path, body)

    def answer(self) -> http.client.HTTPResponse:
        return self.connection.getresponse()

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def ask(proxy: ApiProxy, verb: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return status and content; raises when there is no answer."""
    with Asked(proxy, verb, path, body) as asked:
        answer = asked.answer()
        return answer.status, json.loads(answer.read())


def create(proxy: ApiProxy, name: str) -> tuple[int, Any]:
    return ask(proxy, "PATCH", f"{PODS}/{name}", b"{}")


@pytest.fixture
def watch(proxy: ApiProxy, server: Server) -> Iterator[http.client.HTTPResponse]:
    """A watch that has said its first event."""
    with Asked(proxy, "GET", WATCH) as asked:
        answer = asked.answer()
        assert answer.readline() == EVENT
        assert (proxy.under_way(), server.watching) == (1, 1)
        yield answer
    proxy.until(lambda: proxy.under_way() == 0, "the proxy has let go of the watch that its client has left")


def test_a_write_goes_through_with_the_token_and_its_query(proxy: ApiProxy, server: Server) -> None:
    assert ask(proxy, "PATCH", f"{PODS}/a?fieldManager=af%2Doperator", b"{}") == (201, {"kind": "Pod"})
    assert server.seen == [("PATCH", f"{PODS}/a?fieldManager=af%2Doperator", b"{}", "Bearer secret")]
    assert proxy.writes == [Call("PATCH", f"{PODS}/a", 201)]


def test_a_watch_comes_event_by_event(watch: http.client.HTTPResponse, server: Server, proxy: ApiProxy) -> None:
    # The fixture has the first event of an answer that has not ended: without streaming it would time out.
    server.speak()
    assert watch.read() == EVENT
    assert proxy.writes == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/pods?limit=500", "list"),
        (f"{PODS}?limit=500&continue=abc", "list"),
        (f"{PODS}?watch=true", "watch"),
        (f"{PODS}/a", "get"),
        (f"{PODS}/a/log", "get"),
        ("/api/v1/namespaces", "list"),
        ("/api/v1/namespaces/physics", "get"),
        ("/api/v1/nodes/one", "get"),
        (LEASE, "get"),
        ("/apis/batch/v1/jobs", "list"),
        ("/apis/batch/v1", "other"),
        ("/version", "other"),
    ],
)
def test_reads_are_counted_by_what_they_are(proxy: ApiProxy, path: str, kind: str) -> None:
    if kind == "watch":
        with Asked(proxy, "GET", path) as asked:
            asked.answer()
    else:
        ask(proxy, "GET", path)
    (call,) = proxy.calls
    assert (call.kind, call.page, call.status) == (kind, "continue" in path, 200)
    assert proxy.writes == []


@pytest.mark.parametrize(("when", "carried_out"), [("before", ["a"]), ("after", ["a", "b"])])
def test_a_crash_at_the_second_write(proxy: ApiProxy, server: Server, when: When, carried_out: list[str]) -> None:
    crashed = []
    proxy.at(2, when, lambda: crashed.append(len(server.seen)))
    create(proxy, "a")
    with pytest.raises(GONE):
        create(proxy, "b")
    assert proxy.sprung.is_set()
    assert crashed == [len(carried_out)]
    assert [path.rpartition("/")[2] for _, path, _, _ in server.seen] == carried_out
    assert create(proxy, "b")[0] == 201, "only once"


def test_renewals_of_the_lease_do_not_count(proxy: ApiProxy) -> None:
    proxy.at(1, "before", lambda: None)
    assert ask(proxy, "PATCH", LEASE, b"{}")[0] == 201
    assert not proxy.sprung.is_set()
    assert proxy.writes == []


def test_a_rule_strikes_what_matches_as_often_as_it_is_told(proxy: ApiProxy) -> None:
    rule = proxy.rule(too_many(1), Match("list", "/pods$", "GET"), times=2)
    found = [ask(proxy, "GET", path)[0] for path in (f"{PODS}/a", "/api/v1/nodes", PODS, PODS, PODS)]
    assert found == [200, 200, 429, 429, 200]
    assert rule.hits == 2


def test_a_rule_ends(proxy: ApiProxy) -> None:
    proxy.rule(too_many(1), seconds=0.0)
    assert ask(proxy, "GET", PODS)[0] == 200
    rule = proxy.rule(too_many(1))
    assert ask(proxy, "GET", PODS)[0] == 429
    rule.remove()
    assert ask(proxy, "GET", PODS)[0] == 200


def test_a_delay_is_before_the_server_hears_of_it(proxy: ApiProxy) -> None:
    proxy.rule(Delay(0.3), times=1)
    began = time.monotonic()
    assert ask(proxy, "GET", PODS)[0] == 200
    assert time.monotonic() - began >= 0.3


def test_a_request_is_held_until_it_is_released(proxy: ApiProxy, server: Server) -> None:
    hold = Hold()
    proxy.rule(hold, Match("list"))
    with Asked(proxy, "GET", PODS) as one, Asked(proxy, "GET", PODS) as impatient, Asked(proxy, "GET", PODS) as two:
        proxy.until(lambda: len(proxy.calls) == 3, "three requests")
        impatient.connection.close()
        proxy.until(lambda: proxy.under_way(Match("list")) == 2, "one that gives up")
        assert create(proxy, "a")[0] == 201, "others go through"
        assert [verb for verb, *_ in server.seen] == ["PATCH"]
        hold.release()
        assert one.answer().status == two.answer().status == 200
    assert ask(proxy, "GET", PODS)[0] == 200


@pytest.mark.parametrize(("when", "carried_out"), [("before", 0), ("after", 1)])
def test_an_answer_that_is_dropped(proxy: ApiProxy, server: Server, when: When, carried_out: int) -> None:
    proxy.rule(Drop(when), Match("write"), times=1)
    with pytest.raises(GONE):
        create(proxy, "a")
    assert len(server.seen) == carried_out
    assert [call.status for call in proxy.writes] == [201 if carried_out else None]


def test_a_write_that_is_repeated(proxy: ApiProxy, server: Server) -> None:
    proxy.rule(Repeat(), Match("write"), times=1)
    assert create(proxy, "a")[0] == 201
    assert [body for _, _, body, _ in server.seen] == [b"{}", b"{}"]
    assert len(proxy.writes) == 1, "the client has sent it once"


def test_too_many_requests_says_when_to_come_again(proxy: ApiProxy, server: Server) -> None:
    proxy.rule(too_many(7))
    with Asked(proxy, "GET", PODS) as asked:
        answer = asked.answer()
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert json.loads(answer.read())["reason"] == "TooManyRequests"
    assert server.seen == []


def test_a_page_is_too_old_and_a_list_is_not(proxy: ApiProxy) -> None:
    proxy.rule(PAGE_GONE, Match("page"))
    assert ask(proxy, "GET", f"{PODS}?limit=1")[0] == 200
    code, body = ask(proxy, "GET", f"{PODS}?limit=1&continue=abc")
    assert (code, body["reason"], body["code"]) == (410, "Expired", 410)


def test_a_watch_that_begins_with_its_end(proxy: ApiProxy) -> None:
    proxy.rule(WATCH_GONE, Match("watch"))
    code, event = ask(proxy, "GET", WATCH)
    assert (code, event["type"], event["object"]["code"]) == (200, "ERROR", 410)


def test_an_open_watch_that_ends_with_an_error(watch: http.client.HTTPResponse, proxy: ApiProxy) -> None:
    assert proxy.end(Match("watch", "/nodes$")) == 0
    assert proxy.end(Match("watch", "/pods$")) == 1
    assert json.loads(watch.read())["object"]["code"] == 410


def test_an_answer_that_breaks_off(proxy: ApiProxy) -> None:
    proxy.rule(Cut(after=500), Match("list"), times=1)
    with Asked(proxy, "GET", PODS) as asked, pytest.raises(http.client.IncompleteRead) as found:
        asked.answer().read()
    assert found.value.partial == json.dumps(LIST).encode()[:500]
    assert ask(proxy, "GET", PODS) == (200, LIST)


def test_an_answer_that_is_shorter_breaks_off_before_its_end(proxy: ApiProxy) -> None:
    proxy.rule(Cut(after=10**6), Match("list"))
    with Asked(proxy, "GET", PODS) as asked, pytest.raises(http.client.IncompleteRead):
        asked.answer().read()


def test_an_open_watch_that_is_cut(watch: http.client.HTTPResponse, proxy: ApiProxy) -> None:
    assert proxy.cut() == 1
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        watch.read()


def silent(answer: http.client.HTTPResponse) -> bool:
    """Return whether nothing comes, and no end either."""
    with pytest.raises(TimeoutError):
        answer.read(1)
    return True


def test_a_watch_that_falls_silent_can_still_be_ended(server: Server, proxy: ApiProxy) -> None:
    with Asked(proxy, "GET", WATCH, seconds=0.3) as asked:
        answer = asked.answer()
        assert answer.readline() == EVENT
        assert proxy.silence() == 1
        server.speak()  # which ends the server's side, too
        assert silent(answer)
        assert proxy.under_way() == 1
    proxy.until(lambda: proxy.under_way() == 0, "it is over with its client")


def test_a_watch_that_was_silent_says_its_last_words(
    watch: http.client.HTTPResponse, proxy: ApiProxy, server: Server
) -> None:
    proxy.silence()
    server.speak()
    proxy.end()
    assert json.loads(watch.read())["type"] == "ERROR"


def test_a_watch_that_is_silent_from_the_beginning(proxy: ApiProxy) -> None:
    proxy.rule(Silence(), Match("watch"))
    with Asked(proxy, "GET", WATCH, seconds=0.3) as asked:
        answer = asked.answer()
        assert answer.status == 200
        assert silent(answer)


def test_lists_have_pages(proxy: ApiProxy, server: Server) -> None:
    proxy.rule(Pages(50), Match("list"))
    ask(proxy, "GET", f"{PODS}?limit=500&labelSelector=a%3Db")
    ask(proxy, "GET", PODS)
    asked = [path for _, path, _, _ in server.seen]
    assert asked == [f"{PODS}?limit=50&labelSelector=a%3Db", f"{PODS}?limit=50"]


@pytest.mark.parametrize("faults", [(Delay(0.1), too_many(1)), (too_many(1), Delay(0.1))])
def test_all_rules_that_match_apply(proxy: ApiProxy, server: Server, faults: tuple[Fault, Fault]) -> None:
    rules = [proxy.rule(fault) for fault in faults]
    assert ask(proxy, "GET", PODS)[0] == 429
    assert [rule.hits for rule in rules] == [1, 1]
    assert server.seen == []


def test_an_api_server_that_is_away_and_comes_back(
    watch: http.client.HTTPResponse, proxy: ApiProxy, server: Server
) -> None:
    proxy.go_away()
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        watch.read()
    before = len(server.seen)
    with pytest.raises(GONE):
        create(proxy, "a")
    assert len(server.seen) == before
    proxy.come_back()
    assert create(proxy, "a")[0] == 201


def test_waiting_for_requests_is_bounded_and_says_what_came(proxy: ApiProxy) -> None:
    create(proxy, "a")
    with pytest.raises(AssertionError, match=r"(?s)within 0.1 s: a second one.*PATCH /api.*/pods/a 201"):
        proxy.until(lambda: len(proxy.calls) == 2, "a second one", 0.1)


def test_hundreds_of_connections_at_once(proxy: ApiProxy) -> None:
    def each(number: int) -> Callable[[], None]:
        asked = Asked(proxy, "PATCH", f"{PODS}/{number}", b"{}", seconds=60)
        return lambda: finish(asked)

    def finish(asked: Asked) -> None:
        with asked:
            assert asked.answer().status == 201

    with ThreadPoolExecutor(8) as pool:
        waiting = list(pool.map(each, range(200)))
        list(pool.map(lambda rest: rest(), waiting))
    assert len(proxy.writes) == 200


def test_the_kubeconfig_leads_to_the_proxy(proxy: ApiProxy, tmp_path: Path) -> None:
    config = yaml.safe_load(proxy.kubeconfig(tmp_path / "config").read_text())
    assert config["clusters"][0]["cluster"]["server"] == proxy.url
    assert "secret" not in str(config)
