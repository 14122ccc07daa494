"""The pages of a session's Dask, as processes serve them: in a notebook, and from one's own machine; to nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from bokeh.util.token import get_token_payload

from af_client.dashboard import Dashboard
from af_client.open_dask import here
from af_names import DASK_DASHBOARD_PORT
from tests.support.dask_processes import DaskProcesses
from tests.support.notebooks import Answer, Browser, notebook_server
from tests.support.web_server import WebServer

HOST = "127.19.88.1"
"""Dask's ports are the same everywhere."""
LOGIN = "token-of-the-notebook"
TOKEN = "0123456789abcdef" * 4
SHOWN = {"Authorization": f"Bearer {TOKEN}"}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    pages = (HOST, DASK_DASHBOARD_PORT)
    with DaskProcesses(tmp_path_factory.mktemp("dask"), TOKEN, pages=pages) as found:
        found.start_scheduler()
        found.start_worker()
        found.until(lambda: '"workers": 1' in Browser().get(f"{found.http}/json/counts.json", **SHOWN).body, "a worker")
        yield found


@pytest.fixture(scope="module")
def notebook(dask: DaskProcesses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the session's notebook shows the dashboard."""
    environment = {**dask.user_variables(), "JUPYTER_TOKEN": LOGIN, "DASK_SCHEDULER_ADDRESS": f"tls://{HOST}:8786"}
    with notebook_server(tmp_path_factory.mktemp("lab"), "/user/alice/lab/", environment) as server:
        yield f"{server.url}/proxy/{HOST}:{DASK_DASHBOARD_PORT}"


@pytest.fixture(scope="module")
def forwarded(dask: DaskProcesses) -> Iterator[str]:
    """Where `af dask` shows it; the port is forwarded to, which leads to the pod."""
    with Dashboard(DASK_DASHBOARD_PORT, TOKEN, HOST) as found:
        yield found.url


@pytest.fixture(params=["notebook", "forwarded"])
def at(request: pytest.FixtureRequest) -> str:
    """One of both."""
    found: str = request.getfixturevalue(request.param)
    return found


def get(url: str) -> Answer:
    return Browser().get(url, LOGIN)


def worker(dask: DaskProcesses) -> str:
    """Return where the scheduler shows its worker's pages."""
    found = json.loads(Browser().get(f"{dask.http}/json/identity.json", **SHOWN).body)
    [one] = found["workers"].values()
    return f"proxy/{one['services']['dashboard']}/{one['host']}"


def documents(page: str) -> list[str]:
    """Return what Bokeh has written into a page for its script to come back with."""
    return re.findall(r'"token":"([^"]+)"', page)


PAGES = ("status", "individual-task-stream", "info/main/workers.html")


def test_nobody_sees_a_page_without_the_token(dask: DaskProcesses) -> None:
    for path in (*PAGES, worker(dask), f"{worker(dask)}/status", "af/v1/versions", "metrics", "json/counts.json"):
        for said in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"token {TOKEN}"}):
            assert Browser().get(f"{dask.http}/{path}", **said).status == 401, path
    assert Browser().get(f"{dask.http}/health").body == "ok"


def test_pages_are_shown_and_the_browser_never_has_the_token(at: str) -> None:
    for path in PAGES:
        page = get(f"{at}/{path}")
        assert (page.status, TOKEN in page.body) == (200, False), path
        said = [get_token_payload(each) for each in documents(page.body)]
        # Bokeh writes down with which headers and cookies it was asked.
        assert not {"authorization", "cookie"} & {name.lower() for each in said for name in each.get("headers", ())}
        assert not [word for word in (TOKEN, LOGIN) if word in json.dumps(said)]
    assert get(f"{at}/status").body.count("token") >= 1


async def test_plots_move(at: str) -> None:
    await moves(at)


async def moves(at: str) -> None:
    """Open a page's websocket as its script does; Bokeh answers to who comes back with what it wrote."""
    [document] = documents(get(f"{at}/status").body)
    login = {"Authorization": f"token {LOGIN}"}
    async with (
        aiohttp.ClientSession(headers=login) as client,
        client.ws_connect(f"{at}/status/ws", protocols=("bokeh", document)) as socket,
    ):
        assert json.loads(await socket.receive_str(timeout=20))["msgtype"] == "ACK"


async def test_so_do_those_of_a_worker_behind_the_scheduler(dask: DaskProcesses, at: str) -> None:
    page = get(f"{at}/{worker(dask)}/status")
    assert (page.status, TOKEN in page.body) == (200, False)
    await moves(f"{at}/{worker(dask)}")


async def test_the_scheduler_tells_the_token_to_workers_alone(dask: DaskProcesses) -> None:
    heard: list[dict[str, str]] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(dict(request.headers))
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hear)
    with WebServer(app) as stranger:
        host, port = stranger.url.removeprefix("http://").split(":")
        elsewhere = f"{dask.http}/proxy/{port}/{host}/status"
        assert Browser().get(elsewhere, **SHOWN).status == 404
        async with aiohttp.ClientSession(headers=SHOWN) as client:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
                await client.ws_connect(elsewhere)
    assert heard == []


def test_it_says_which_versions_it_has(dask: DaskProcesses) -> None:
    found: dict[str, Any] = json.loads(Browser().get(f"{dask.http}/af/v1/versions", **SHOWN).body)
    assert found == here()
