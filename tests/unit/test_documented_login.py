"""The login that the how-to documents, at JupyterHub with the chart's configuration and a provider of a few lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlencode, urljoin
from urllib.request import urlopen

import pytest
import yaml
from aiohttp import BasicAuth, ClientSession, CookieJar, web

from tests.support.hubs import free_port

CHECKOUT = Path(__file__).parents[2]
HOW_TO = CHECKOUT / "docs" / "how-to" / "jupyterhub.md"
PROGRAM = CHECKOUT / "helm" / "af-operator" / "hub" / "jupyterhub_config.py"
PUBLIC, PROVIDER = "https://hub.example.org", "https://iam.example.org"
CLIENT, SECRET = "analysis-facility", "only-the-hub-knows"
PEOPLE = {
    "ann": {"preferred_username": "ann", "groups": ["physics-users"]},
    "carol": {"preferred_username": "carol", "groups": ["facility-admins"]},
    "mallory": {"preferred_username": "mallory", "groups": ["somebody-else"]},
}
# Last, what ties the program to its pod: where its files are, and the proxy.
HERE = """
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {{}}

load_subconfig("{program}")
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.cookie_secret_file = "cookie-secret"
c.JupyterHub.hub_bind_url = c.JupyterHub.hub_connect_url = "{root}"
"""


class Provider:
    """OpenID Connect's authorization code flow; `who` has logged in there."""

    def __init__(self) -> None:
        self.root = f"http://127.0.0.1:{free_port()}"
        self.who = ""

    async def authorize(self, request: web.Request) -> web.Response:
        assert request.query["client_id"] == CLIENT
        assert {"openid", "groups"} <= set(request.query["scope"].split())
        answer = {"code": f"code-of-{self.who}", "state": request.query["state"]}
        raise web.HTTPFound(f"{request.query['redirect_uri']}?{urlencode(answer)}")

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = request.headers.get("Authorization", "")
        secret = BasicAuth.decode(given).password if given else form["client_secret"]
        if secret != SECRET or form["redirect_uri"] != f"{PUBLIC}/hub/oauth_callback":
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response({"access_token": str(form["code"]), "token_type": "Bearer"})

    async def userinfo(self, request: web.Request) -> web.Response:
        return web.json_response(PEOPLE[request.headers["Authorization"].removeprefix("Bearer code-of-")])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
def hub(root: str, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Hub, as the how-to's values make it."""
    folder = tmp_path_factory.mktemp("hub")
    program = folder / "program" / PROGRAM.name
    program.parent.mkdir()
    program.write_text(PROGRAM.read_text())
    values = {
        "hubUrl": root,
        "proxyUrl": "http://127.0.0.1:1",
        "baseUrl": "/",
        "limitProfiles": False,
        "extraConfig": {},
    }
    values |= yaml.safe_load(documented().replace(PROVIDER, provider.root))["hub"]
    values["config"].setdefault("JupyterHub", {})["db_url"] = "sqlite:///hub.sqlite"
    program.with_name("values.yaml").write_text(yaml.safe_dump(values))
    (folder / "jupyterhub_config.py").write_text(HERE.format(program=program, root=root))
    secrets = {"OAUTH_CLIENT_ID": CLIENT, "OAUTH_CLIENT_SECRET": SECRET, "AF_SHARED_PASSWORD": "not-used-here"}
    secrets |= {"AF_OPERATOR_HUB_TOKEN": "0123456789", "CONFIGPROXY_AUTH_TOKEN": "no-proxy"}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **secrets}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "jupyterhub"], cwd=folder, env=env, stdout=log, stderr=log)
    try:
        wait_for(f"{root}/hub/health", process, folder / "log")
        yield root
    finally:
        process.kill()
        process.wait()


def documented() -> str:
    """Return the values of the how-to that name the provider."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", HOW_TO.read_text(), flags=re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if PROVIDER in block)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(url, timeout=1):  # noqa: S310 - ours, on loopback
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"JupyterHub did not start:\n{log.read_text()}")


@pytest.fixture
async def browser(hub: str, provider: Provider) -> AsyncIterator[ClientSession]:
    app = web.Application()
    app.router.add_get("/authorize", provider.authorize)
    app.router.add_post("/token", provider.token)
    app.router.add_get("/userinfo", provider.userinfo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(provider.root.rpartition(":")[2]), reuse_address=True).start()
    # Cookies are for https alone; this Hub stands where a site's TLS ends.
    async with ClientSession(cookie_jar=CookieJar(unsafe=True, treat_as_secure_origin=hub)) as session:
        yield session
    await runner.cleanup()


async def open_page(browser: ClientSession, hub: str, path: str) -> tuple[int, str, str]:
    """Follow redirects as a browser does, with the public name leading to this Hub; return status, URL and page."""
    url = f"{hub}{path}"
    for _ in range(15):
        async with browser.get(url, allow_redirects=False) as answer:
            if answer.status not in (302, 303, 307):
                return answer.status, url, await answer.text()
            url = urljoin(url, answer.headers["Location"]).replace(PUBLIC, hub)
    raise AssertionError(f"redirected for ever, at last to {url}")


@pytest.mark.parametrize(("who", "home", "admin"), [("ann", 200, 403), ("carol", 200, 200)])
async def test_members_get_in(
    browser: ClientSession, hub: str, provider: Provider, who: str, home: int, admin: int
) -> None:
    provider.who = who
    status, url, page = await open_page(browser, hub, "/hub/home")
    assert (status, url) == (home, f"{hub}/hub/home"), page
    assert f'user: "{who}"' in page
    assert (await open_page(browser, hub, "/hub/admin"))[0] == admin


async def test_others_do_not(browser: ClientSession, hub: str, provider: Provider) -> None:
    provider.who = "mallory"
    status, url, page = await open_page(browser, hub, "/hub/home")
    assert status == 403
    assert "/hub/oauth_callback" in url, page
    assert (await open_page(browser, hub, "/hub/home"))[0] == 403
