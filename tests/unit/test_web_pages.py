"""What the notebook's server passes on to pages of the session's other pods, and what of it the browser sees."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tornado.httputil import HTTPHeaders

from af_client.pod.agents import dask_token
from af_client.pod.web_pages import introduced, without_login
from af_names import DASK_DASHBOARD_PORT
from tests.support.notebooks import Browser, NotebookServer, notebook_server
from tests.support.web_server import WebServer

PATH = "/user/alice/zmumu/"
TOKEN = "token-of-the-scheduler"
HOST = "127.19.87.1"
"""Of the one host to which Dask's token goes; Dask's ports are the same everywhere."""
ELSEWHERE = "127.19.87.2"
LOGIN = ("token-of-the-notebook", "cookie-of-the-hub")
OLD = "proxy/127.19.87.1:8787"

pytestmark = pytest.mark.timeout(120)


async def said(request: web.Request) -> web.StreamResponse:
    """Tell what the page was told of who asks: in a page, or in the first message of a websocket."""
    told = {"path": request.path, "query": request.query_string, "headers": dict(request.headers)}
    if request.path == "/moved":
        raise web.HTTPFound(f"http://{request.host}/there")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return web.json_response(told)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_json(told)
    await socket.close()
    return socket


def page() -> web.Application:
    """Return one that tells what it was asked."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", said)
    return app


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the operator mounts the session's Secret."""
    folder = tmp_path_factory.mktemp("dask")
    (folder / "token").write_text(TOKEN)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[NotebookServer]:
    """A notebook whose session has Dask and Spark, and both pages."""
    env = {
        "JUPYTER_TOKEN": LOGIN[0],
        "DASK_SCHEDULER_ADDRESS": f"tls://{HOST}:8786",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(certificates / "ca.crt"),
        "AF_SPARK_TOKEN": "token-of-spark",
    }
    with WebServer(page(), HOST, DASK_DASHBOARD_PORT), WebServer(page(), ELSEWHERE) as spark:
        env |= {"AF_SPARK_UI": spark.url, "AF_SPARK_AGENT": f"http://{ELSEWHERE}:8790"}
        with notebook_server(tmp_path_factory.mktemp("notebook"), PATH, env) as found:
            yield found


def asked(server: NotebookServer, path: str, **headers: str) -> dict[str, Any]:
    """Ask for a page with all that a logged-in browser says of its user; return what the page was told."""
    login = {
        "Cookie": f"jupyterhub-user-alice={LOGIN[1]}",
        "X-XSRFToken": LOGIN[1],
        "Referer": f"/lab?token={LOGIN[0]}",
    }
    answer = Browser().get(f"{server.url}/{path}", server.token, **login, **headers)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


PAGES = [(OLD, TOKEN), ("spark-ui", "token-of-spark")]


@pytest.mark.parametrize(("path", "token"), PAGES)
def test_a_page_is_told_the_sessions_token_and_nothing_of_its_user(
    server: NotebookServer, path: str, token: str
) -> None:
    told = asked(server, f"{path}/status?theme=dark&token={LOGIN[0]}&_xsrf=x&height=3")
    assert told["headers"]["Authorization"] == f"Bearer {token}"
    assert told["query"] == "theme=dark&height=3"
    assert not [login for login in LOGIN if login in json.dumps(told)]


@pytest.mark.parametrize(("path", "token"), PAGES)
async def test_so_is_a_websocket(server: NotebookServer, path: str, token: str) -> None:
    url = f"{server.url}/{path}/status/ws?token={LOGIN[0]}"
    login = {"Authorization": f"token {server.token}", "Cookie": f"jupyterhub-user-alice={LOGIN[1]}"}
    async with aiohttp.ClientSession(headers=login) as client, client.ws_connect(url) as socket:
        told = await socket.receive_json(timeout=10)
    assert told["headers"]["Authorization"] == f"Bearer {token}"
    assert not [word for word in LOGIN if word in json.dumps(told)]


def test_a_redirection_stays_below_the_page(server: NotebookServer) -> None:
    assert asked(server, f"{OLD}/moved")["path"] == "/there"


@pytest.mark.parametrize("host", [HOST, ELSEWHERE, f"{HOST}@{ELSEWHERE}"])
@pytest.mark.parametrize("path", ["proxy/{}:8786/", "proxy/{}:8788/", "proxy/absolute/{}:8787/"])
def test_no_other_port_or_host_is_passed_on_to(server: NotebookServer, host: str, path: str) -> None:
    assert Browser().get(f"{server.url}/{path.format(host)}", server.token).status in (403, 404)


def test_nobody_comes_to_a_page_without_the_login(server: NotebookServer) -> None:
    for path, _ in PAGES:
        for login in ("", "wrong"):
            assert '"headers"' not in Browser().get(f"{server.url}/{path}/status", login).body


def test_a_session_that_was_begun_without_a_token_has_its_dashboard(server: NotebookServer, certificates: Path) -> None:
    (certificates / "token").rename(certificates / "away")
    try:
        assert "Authorization" not in asked(server, f"{OLD}/status")["headers"]
    finally:
        (certificates / "away").rename(certificates / "token")


def test_where_the_token_is(tmp_path: Path) -> None:
    environ: Mapping[str, str] = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(tmp_path / "ca.crt")}
    assert (dask_token({}), dask_token(environ)) == ("", "")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert dask_token(environ) == TOKEN


def test_what_a_page_is_not_told() -> None:
    given = HTTPHeaders({"authorization": "token x", "COOKIE": "y", "x-xsrftoken": "z", "Accept": "*/*"})
    assert dict(introduced(given, "")) == {"Accept": "*/*"}
    assert without_login("http://a/b?token=1") == "http://a/b"
    assert without_login("http://a/b?c=%20&d&token=1&e=token") == "http://a/b?c=%20&d&e=token"
    assert without_login("http://a/b") == "http://a/b"
