"""Requests over the network: what is sent, what comes back, and what is said when it does not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from af_kube import connection as connection_module
from af_kube.connection import Connection, call
from af_kube.credentials import KubeConfig, ServiceAccount, service_account
from af_kube.errors import Expired, HttpError, NoCredentials, Unreachable
from af_kube.request import APPLY_PATCH, Request
from local_cluster import pki
from tests.support.lingering_tls import lingering_tls, write_certificates
from tests.support.list_watch_server import connection, refusing, reset, saying, until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GET = Request("GET", "/api/v1/pods")


class Server:
    """Answers each request as the test says; `seen` is the last one, with its body."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Handler = refusing(500)
        self.seen: web.Request
        self.body = b""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen, self.body = request, await request.read()
        return await self.answer(request)


async def serve(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server("")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async for server in serve():
        yield server


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret")
    return path


@pytest.fixture
async def api(server: Server, token: Path) -> AsyncIterator[Connection]:
    api = connection(server.url, token)
    yield api
    await api.close()


def recorded_sockets(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Return those that are made from now on."""
    made: list[socket.socket] = []
    kept_alive = connection_module._kept_alive
    monkeypatch.setattr(connection_module, "_kept_alive", lambda address: made.append(kept_alive(address)) or made[-1])
    return made


async def said(api: Connection, request: Request = GET, got: list[bytes] | None = None) -> list[bytes]:
    """Return the lines of a stream; `got` has those before an error, too."""
    got = [] if got is None else got
    async with api.lines(request) as lines:
        async for line in lines:
            got.append(line)
    return got


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


class TestCall:
    async def test_what_is_sent(self, server: Server, api: Connection) -> None:
        server.answer = saying(b'{"kind": "Pod"}')
        query = {"labelSelector": "a=b,c", "force": "true"}
        request = Request("PATCH", "/api/v1/pods/x", query, {"ä": [1, None]}, APPLY_PATCH)
        assert await call(api, request) == {"kind": "Pod"}
        assert (server.seen.method, server.seen.path, dict(server.seen.query)) == ("PATCH", "/api/v1/pods/x", query)
        assert server.body == b'{"\\u00e4":[1,null]}'
        headers = server.seen.headers
        assert headers["Authorization"] == "Bearer secret"
        assert headers["Content-Type"] == APPLY_PATCH
        assert (headers["Accept"], headers["Accept-Encoding"]) == ("application/json", "identity")

    async def test_of_a_long_answer_its_end_may_be_asked_for(self, server: Server, api: Connection) -> None:
        server.answer = saying(*(b"x" * 100_000 for _ in range(30)), b"\nthe last line\n")
        assert await api.read(Request("GET", "/log", last_bytes=20)) == b"xxxxx\nthe last line\n"
        server.answer = saying(b"short")
        assert await api.read(Request("GET", "/log", last_bytes=20)) == b"short"

    async def test_the_way_may_lead_through_a_proxy(self, server: Server, token: Path) -> None:
        server.answer = saying(b'{"kind": "Pod"}')

        async def behind() -> ServiceAccount:
            return ServiceAccount("http://api.invalid:6443", True, token, proxy=server.url)

        api = Connection(behind)
        assert await call(api, GET) == {"kind": "Pod"}
        assert server.seen.headers["Host"] == "api.invalid:6443"
        await api.close()

    async def test_a_request_without_a_body_has_none(self, server: Server, api: Connection) -> None:
        server.answer = saying(b"text of a log")
        assert await api.read(Request("GET", "/log", accept="*/*")) == b"text of a log"
        assert server.body == b""
        assert server.seen.headers["Accept"] == "*/*"

    @pytest.mark.parametrize(("text", "found"), [(b"", {}), (b"[1]", {}), (b'{"a": 1}', {"a": 1})])
    async def test_what_is_no_object_is_an_empty_one(
        self, server: Server, api: Connection, text: bytes, found: dict[str, Any]
    ) -> None:
        server.answer = saying(text)
        assert await call(api, GET) == found

    async def test_a_page_of_somebody_else_is_no_answer(self, server: Server, api: Connection) -> None:
        server.answer = saying(b"<html>please log in</html>")
        with pytest.raises(Unreachable, match="please log in"):
            await call(api, GET)


class TestRefusals:
    async def test_they_have_status_text_and_how_long_to_wait(self, server: Server, api: Connection) -> None:
        server.answer = refusing(429, Retry_After="3")
        with pytest.raises(HttpError, match=r"429: .*no: 429") as error:
            await api.read(GET)
        assert (error.value.status, error.value.retry_after) == (429, 3.0)

    async def test_a_date_to_wait_for_is_not_understood(self, server: Server, api: Connection) -> None:
        server.answer = refusing(503, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")
        with pytest.raises(HttpError) as error:
            await api.read(GET)
        assert error.value.retry_after is None

    async def test_a_version_that_is_too_old_has_its_own(self, server: Server, api: Connection) -> None:
        server.answer = refusing(410)
        with pytest.raises(Expired, match="410"):
            await api.read(GET)
        with pytest.raises(Expired):
            await said(api)

    async def test_the_token_does_not_follow_to_another_server(self, server: Server, api: Connection) -> None:
        server.answer = refusing(302, Location=f"{server.url}/elsewhere")
        with pytest.raises(HttpError) as error:
            await call(api, GET)
        assert error.value.status == 302
        assert server.seen.path == "/api/v1/pods"

    async def test_a_stream_is_refused_on_entering(self, server: Server, api: Connection) -> None:
        server.answer = refusing(403)
        with pytest.raises(HttpError, match="403"):
            async with api.lines(GET):
                pytest.fail("entered")


class TestNoAnswer:
    async def test_nobody_listens(self, token: Path) -> None:
        api = connection("http://127.0.0.1:1", token)
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 does not answer"):
            await api.read(GET)
        with pytest.raises(Unreachable):
            await said(api)
        await api.close()

    async def test_it_hangs_up(self, server: Server, api: Connection) -> None:
        server.answer = reset
        with pytest.raises(Unreachable):
            await api.read(GET)
        with pytest.raises(Unreachable):
            await said(api)

    async def test_it_breaks_off_in_the_middle(self, server: Server, api: Connection) -> None:
        server.answer = saying(b'{"kind": ', then=reset)
        with pytest.raises(Unreachable):
            await api.read(GET)

    async def test_it_takes_too_long(self, server: Server, api: Connection) -> None:
        request = Request("GET", "/", read_seconds=0.1)
        server.answer = saying(b'{"kind": ', then=hang)
        with pytest.raises(Unreachable, match="Timeout"):
            await api.read(request)
        server.answer = hang  # not even headers
        with pytest.raises(Unreachable, match="Timeout"):
            await api.read(request)
        with pytest.raises(Unreachable, match="Timeout"):
            await said(api, request)

    async def test_it_takes_the_connection_and_goes_no_further(
        self, token: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.1)
        over = asyncio.Event()

        async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()

        async with await asyncio.start_server(ignore, "127.0.0.1", 0) as listening:
            api = connection(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", token)
            with pytest.raises(Unreachable, match="Timeout"):
                await said(api)  # whose own time-out is for what comes after
            over.set()
            await api.close()

    async def test_a_peer_that_is_gone_without_a_word_is_asked_for(
        self, server: Server, api: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = recorded_sockets(monkeypatch)
        server.answer = saying(b"{}")
        await call(api, GET)
        assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = connection_module.KEEPALIVE
        assert {option: made[0].getsockopt(socket.IPPROTO_TCP, option) for option in options} == options
        # Noticed well before the watch itself would have to end.
        assert sum((options[socket.TCP_KEEPIDLE], options[socket.TCP_KEEPINTVL] * options[socket.TCP_KEEPCNT])) <= 60

    async def test_without_credentials_nothing_is_sent(self) -> None:
        async def none() -> KubeConfig:
            raise NoCredentials("no kubeconfig")

        with pytest.raises(NoCredentials):
            await Connection(none).read(GET)


class TestStreams:
    async def test_lines_come_whole_however_they_were_cut(self, server: Server, api: Connection) -> None:
        server.answer = saying(b'{"a"', b": 1}\n\n{", b'"b": 2}\n', b"last")
        assert await said(api) == [b'{"a": 1}', b'{"b": 2}', b"last"]

    async def test_a_line_may_be_of_the_size_of_an_object(self, server: Server, api: Connection) -> None:
        server.answer = saying(*[b"x" * 65_536] * 48, b"\n", b"next\n")
        assert [len(line) for line in await said(api)] == [3 * 1024**2, 4]

    async def test_a_line_without_an_end_is_not_kept_for_ever(
        self, server: Server, api: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection_module, "MAX_LINE", 1000)
        server.answer = saying(b"x" * 1001, then=hang)
        with pytest.raises(Unreachable, match="without an end"):
            await said(api)

    async def test_each_line_comes_at_once(self, server: Server, api: Connection) -> None:
        server.answer = saying(b"one\n", then=hang)
        async with api.lines(GET) as lines:
            assert await asyncio.wait_for(anext(aiter(lines)), 5) == b"one"

    async def test_silence_between_two_lines_is_bounded_and_not_the_whole(
        self, server: Server, api: Connection
    ) -> None:
        async def slowly(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(4):
                await response.write(b"line\n")
                await asyncio.sleep(0.2)
            await hang(request)
            return response

        server.answer = slowly
        got: list[bytes] = []
        with pytest.raises(Unreachable, match="Timeout"):
            await said(api, Request("GET", "/", read_seconds=0.5), got)
        assert got == [b"line"] * 4

    async def test_one_that_breaks_off_gives_what_was_whole(self, server: Server, api: Connection) -> None:
        server.answer = saying(b"whole\n", b"ha", then=reset)
        got: list[bytes] = []
        with pytest.raises(Unreachable):
            await said(api, GET, got)
        assert got == [b"whole"]

    async def test_an_error_of_whoever_reads_it_stays_what_it_is(self, server: Server, api: Connection) -> None:
        server.answer = saying(b"line\n", then=hang)

        async def read() -> None:
            async with api.lines(GET) as lines:
                async for _ in lines:
                    raise FileNotFoundError("mine")

        with pytest.raises(FileNotFoundError):
            await read()

    async def test_leaving_it_ends_it_at_the_server(self, server: Server, api: Connection) -> None:
        server.answer = saying(b"line\n", then=hang)
        async with api.lines(GET) as lines:
            await anext(aiter(lines))
            transport = server.seen.transport
        assert transport is not None
        await until(transport.is_closing)


class TestTls:
    @pytest.fixture
    async def secured(self, tmp_path: Path, token: Path) -> AsyncIterator[tuple[Server, Path]]:
        tls, _ = write_certificates(tmp_path)
        async for server in serve(tls):
            server.answer = saying(b"{}")
            yield server, tmp_path

    async def test_the_ca_of_the_service_account_vouches_for_the_server(
        self, secured: tuple[Server, Path], token: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server, directory = secured
        host, _, port = server.url.removeprefix("https://").partition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)

        async def mounted() -> ServiceAccount:
            return service_account(directory)

        api = Connection(mounted)
        assert await call(api, GET) == {}
        assert server.seen.headers["Authorization"] == "Bearer secret"
        await api.close()

    async def test_a_server_that_another_ca_vouches_for_is_not_told_the_token(
        self, secured: tuple[Server, Path], token: Path
    ) -> None:
        server, directory = secured
        another = pki.Authority.create("another")
        pki.write_pair(directory, "ca", another.key, another.certificate)
        api = connection(server.url, token, ssl.create_default_context(cafile=str(directory / "ca.crt")))
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await call(api, GET)
        assert not hasattr(server, "seen")
        await api.close()

    async def test_a_certificate_for_another_name(self, secured: tuple[Server, Path], token: Path) -> None:
        server, directory = secured
        trusted = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        url = server.url.replace("127.0.0.1", "localhost")
        api = connection(url, token, trusted)
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await call(api, GET)
        await api.close()

        async def named() -> ServiceAccount:
            return ServiceAccount(url, trusted, token, "kubernetes")

        api = Connection(named)
        assert await call(api, GET) == {}
        await api.close()


async def test_its_end_waits_for_that_of_tls(
    server: Server, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an event loop that ends with it, as in a program of one command, leaves sockets open."""
    server.answer = saying(b"line\n", then=hang)
    made = recorded_sockets(monkeypatch)
    tls, trusted = write_certificates(tmp_path)
    with lingering_tls(server.url, tls, linger=0.5) as url:
        api = connection(url, token, trusted)
        async with api.lines(GET) as lines:
            await anext(aiter(lines))
        assert [each.fileno() >= 0 for each in made] == [True]
        await api.close()
        assert [each.fileno() for each in made] == [-1]
