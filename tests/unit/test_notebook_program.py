"""``af-notebook`` as a process: who gets in, without a Hub, while the Hub is away, and when it is there."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from af_client.pod import notebook
from af_client.pod.web_pages import pages
from af_operator.components.notebook.secret import hub_env
from af_operator.views import HubView
from tests.support.hubs import RealHub
from tests.support.notebooks import Browser, NotebookServer, notebook_server
from tests.support.objects import session
from tests.support.tenant import poll

SCHEDULER = "zmumu-scheduler.physics.svc"
DASK = {"DASK_SCHEDULER_ADDRESS": f"tcp://{SCHEDULER}:8786"}
PATH = "/user/alice/zmumu/"

pytestmark = pytest.mark.timeout(300)


# --- what it makes of its environment -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/"),
        ({"AF_BASE_URL": PATH}, PATH),
        ({"AF_BASE_URL": PATH, "JUPYTERHUB_SERVICE_PREFIX": "/jupyter/user/alice/"}, "/jupyter/user/alice/"),
    ],
)
def test_base_url(env: dict[str, str], expected: str) -> None:
    assert notebook.base_url(env) == expected


def test_kernels_link_to_the_dashboard_through_this_server(tmp_path: Path) -> None:
    link = notebook.environment(tmp_path, {**DASK, "AF_BASE_URL": PATH})["DASK_DISTRIBUTED__DASHBOARD__LINK"]
    assert link == f"/user/alice/zmumu/proxy/{SCHEDULER}:8787/status"


def test_without_dask_there_is_no_dashboard(tmp_path: Path) -> None:
    assert not [name for name in notebook.environment(tmp_path, {"AF_BASE_URL": PATH}) if name.startswith("DASK_")]
    settings = json.loads((notebook.lab_settings(tmp_path, {}) / "overrides.d/af-session.json").read_text())
    assert settings["dask-labextension:plugin"]["defaultURL"] == ""


def test_pages_of_spark_are_where_its_connect_server_and_its_master_are() -> None:
    host = "zmumu-spark.physics.svc"
    found = pages({"AF_SPARK_UI": f"http://{host}:4040", "AF_SPARK_AGENT": f"http://{host}:8790"})
    assert {name: shown.page.url for name, shown in found.items()} == {
        "spark-ui": f"http://{host}:4040",
        "spark-driver": "http://localhost:4040",
        "spark-master": f"http://{host}:8080",
    }
    assert pages({}) == {}


def test_settings_of_the_image_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "lab" / "settings"
    image.mkdir(parents=True)
    (image / "overrides.json").write_text("{}")
    monkeypatch.setattr(notebook, "get_app_dir", lambda: str(tmp_path / "lab"))
    found = notebook.lab_settings(tmp_path / "session", DASK)
    assert sorted(str(p.relative_to(found)) for p in found.rglob("*.json")) == [
        "overrides.d/af-session.json",
        "overrides.json",
    ]


def test_sessions_that_share_a_home_keep_their_layouts_apart(tmp_path: Path) -> None:
    def workspaces(name: str) -> list[str]:
        given = notebook.arguments(tmp_path, {"HOME": "/home/analysis", "AF_SESSION": name})
        return [argument for argument in given if "workspaces" in argument]

    assert workspaces("a") == ["--LabApp.workspaces_dir=/home/analysis/.jupyter/lab/workspaces/a"]
    assert workspaces("b") != workspaces("a")


def test_what_is_said_on_the_command_line_goes(tmp_path: Path) -> None:
    found = notebook.arguments(tmp_path, {}, ["--ServerApp.port=9999", "--debug"])
    assert [argument for argument in found if "ServerApp.port=" in argument] == ["--ServerApp.port=9999"]
    assert "--debug" in found


def test_the_cookie_secret_is_the_sessions_own(tmp_path: Path) -> None:
    for name, token in (("one", "a"), ("again", "a"), ("other", "b")):
        notebook.write_cookie_secret(tmp_path / name, {"JUPYTER_TOKEN": token})
    one, again, other = ((tmp_path / name).read_bytes() for name in ("one", "again", "other"))
    assert one == again != other
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    notebook.write_cookie_secret(tmp_path / "none", {})
    assert not (tmp_path / "none").exists()


# --- without a Hub --------------------------------------------------------------------------------------------------


class SparkUI(BaseHTTPRequestHandler):
    """Leads from / to /jobs/ as Spark does: at whatever host it was asked for, without the path before its own."""

    def do_GET(self) -> None:
        context = {"path": self.path, "below": self.headers["X-Forwarded-Context"]}
        self.send_response(302 if self.path == "/" else 200)
        if self.path == "/":
            self.send_header("Location", f"http://{self.headers['Host']}/jobs/")
        self.end_headers()
        self.wfile.write(json.dumps(context).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def spark() -> Iterator[dict[str, str]]:
    """Spark's UI, at a host that is not the notebook server's; what the operator says of it."""
    with ThreadingHTTPServer(("127.0.0.2", 0), SparkUI) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield {"AF_SPARK_UI": f"http://127.0.0.2:{found.server_port}", "AF_SPARK_AGENT": "http://127.0.0.2:8790"}
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, spark: dict[str, str]) -> Iterator[NotebookServer]:
    folder = tmp_path_factory.mktemp("plain")
    own = folder / ".jupyter" / "jupyter_server_config.py"
    own.parent.mkdir()
    own.write_text("c.ServerProxy.servers = {'mine': {'port': 1}}")
    with notebook_server(folder, PATH, {"JUPYTER_TOKEN": "token-of-plain", **DASK, **spark}) as server:
        yield server


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    """JupyterHub, not started yet."""
    found = RealHub(tmp_path_factory.mktemp("hub"))
    yield found
    found.end()


@pytest.fixture(scope="module")
def reserved(hub: RealHub) -> Iterator[socket.socket]:
    """The Hub's port, at which nobody answers: kernels take any that is free."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", int(hub.root.rpartition(":")[2])))
        yield held


@pytest.fixture(scope="module")
def hubless(
    hub: RealHub, reserved: socket.socket, tmp_path_factory: pytest.TempPathFactory, spark: dict[str, str]
) -> Iterator[NotebookServer]:
    """A server whose Hub is away when it starts; its environment is the operator's."""
    env = hub_env(session(user="alice"), HubView(hub.url))
    env |= {"JUPYTER_TOKEN": "token-of-hubless", "JUPYTERHUB_API_TOKEN": "token-of-hubless", **DASK, **spark}
    with notebook_server(tmp_path_factory.mktemp("hubless"), PATH, env) as server:
        yield server


@pytest.fixture(params=["plain", "hubless"])
def server(request: pytest.FixtureRequest) -> NotebookServer:
    found: NotebookServer = request.getfixturevalue(request.param)
    return found


def test_the_token_opens_it(server: NotebookServer) -> None:
    assert Browser().get(f"{server.url}/api/contents", server.token).status == 200
    assert Browser().get(f"{server.url}/api/kernels", server.token, b"{}").status == 201


@pytest.mark.parametrize("wrong", ["wrong", "{}x", "x{}", "tøken"])
def test_no_other_token_opens_it(server: NotebookServer, wrong: str) -> None:
    given = wrong.format(server.token).encode().decode("latin-1")
    # 500 and more: the Hub cannot be asked about it.
    assert Browser().get(f"{server.url}/api/contents", given).status in (403, 500, 503)


def test_nobody_gets_in_without(server: NotebookServer) -> None:
    # Where there is a Hub, it sends to the Hub's login, which is not at this address.
    page = Browser().get(f"{server.url}/lab")
    assert "jupyter-config-data" not in page.body
    assert Browser().get(f"{server.url}/api/contents").status == 403


OPEN = {
    # The kubelet asks it, and learns Jupyter's version.
    "/api": 200,
    # Files of the programs, the same in every session, which a page to log in with needs.
    "/static/favicons/favicon.ico": 200,
    "/lab/extensions/dask-labextension/package.json": 200,
}
CLOSED = (
    *("/api/status", "/api/contents", "/api/sessions", "/api/kernelspecs", "/api/terminals", "/api/me", "/metrics"),
    *("/lab", "/lab/api/settings", "/lab/api/workspaces", "/lab/api/licenses", "/files/x", "/view/x", "/lsp/status"),
    *("/dask/clusters", "/server-proxy/servers-info", "/proxy/8080/", "/proxy/localhost:8080/", "/nbconvert/html/x"),
    # Of these Jupyter and an extension asked nobody who they are; there is a file of the user's behind the first.
    *("/custom/custom.css", "/server-proxy/icon/x", "/api/of-another-extension"),
)


def test_what_a_stranger_may_see(server: NotebookServer) -> None:
    assert {path: answer(server, path) for path in OPEN} == OPEN
    # The login, or where there is a Hub the way to it.
    assert [path for path in CLOSED if answer(server, path) not in (302, 403)] == []


def answer(server: NotebookServer, path: str) -> int:
    """Return the code of the first answer: no redirection is followed."""
    host, _, below = server.url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    with closing(connection):
        connection.request("GET", f"/{below}{path}")
        return connection.getresponse().status


def test_nothing_of_a_server_listens_but_its_own_port(server: NotebookServer) -> None:
    """Kernels have ports of their own, at which they run what is signed with a key: on this machine alone."""
    assert Browser().get(f"{server.url}/api/kernels", server.token, b"{}").status == 201
    process, own = psutil.Process(server.process.pid), int(server.url.split(":")[2].split("/")[0])

    def ports() -> set[tuple[str, int]]:
        family = [process, *process.children(recursive=True)]
        found = (c for each in family for c in each.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN)
        return {c.laddr for c in found if c.laddr.port != own}

    poll(ports, "the kernel listens", 30)
    assert {address for address, _ in ports()} == {"127.0.0.1"}


def test_the_url_logs_a_browser_in(server: NotebookServer) -> None:
    browser = Browser()
    assert "jupyter-config-data" in browser.get(f"{server.url}/lab?token={server.token}").body
    assert "jupyter-config-data" in browser.get(f"{server.url}/lab").body
    # Another page on this machine could send it, so a change takes more than the cookie.
    assert browser.get(f"{server.url}/api/kernels", "", b"{}").status == 403
    xsrf = browser.cookie("_xsrf")
    assert browser.get(f"{server.url}/api/kernels", "", b"{}", **{"X-XSRFToken": xsrf}).status == 201


def test_a_login_ends_with_a_logout(server: NotebookServer) -> None:
    browser = Browser()
    browser.get(f"{server.url}/lab?token={server.token}")
    browser.get(f"{server.url}/logout")
    assert browser.get(f"{server.url}/api/contents").status == 403


def test_a_login_is_worth_nothing_to_another_session(plain: NotebookServer, hubless: NotebookServer) -> None:
    browser = Browser()
    browser.get(f"{hubless.url}/lab?token={hubless.token}")
    assert browser.get(f"{hubless.url}/api/contents").status == 200
    [(name, value)] = [(c.name, c.value) for c in browser.cookies if c.name.startswith("username")]
    # The port is part of the name: sent as one of the other's own.
    here, there = (server.url.split("/")[2].split(":")[1] for server in (hubless, plain))
    stolen = {"Cookie": f"{name.replace(here, there)}={value}"}
    assert Browser().get(f"{plain.url}/api/contents", **stolen).status == 403


def test_the_dask_pane_opens_with_the_sessions_own_dashboard(server: NotebookServer) -> None:
    answer = Browser().get(f"{server.url}/lab/api/settings/dask-labextension:plugin", server.token)
    schema = json.loads(answer.body)["schema"]["properties"]
    assert schema["defaultURL"]["default"] == f"/user/alice/zmumu/proxy/{SCHEDULER}:8787"
    assert schema["hideClusterManager"]["default"] is True


def test_it_passes_on_to_the_sessions_scheduler_and_to_itself_only(server: NotebookServer) -> None:
    def status(host: str) -> int:
        return Browser().get(f"{server.url}/proxy/{host}/status", server.token).status

    assert status("10.96.0.1:443") == 403
    assert status("hub.af-system.svc:8081") == 403
    assert status(f"{SCHEDULER}:8787") == 500  # allowed; that name is unknown here
    assert Browser().get(f"{server.url}/proxy/{SCHEDULER}:8787/status").status != 500  # the login, if anything


def test_it_shows_the_ui_of_spark_at_an_address_of_its_own(server: NotebookServer) -> None:
    page = Browser().get(f"{server.url}/spark-ui/", server.token)
    assert json.loads(page.body) == {"path": "/jobs/", "below": "/user/alice/zmumu/spark-ui"}
    # Allowed; at that port is nobody here.
    assert Browser().get(f"{server.url}/spark-master/", server.token).status == 500
    assert '"below":' not in Browser().get(f"{server.url}/spark-ui/jobs/").body, "it is shown to anybody"


def test_the_launcher_has_the_ui_of_spark_beside_what_a_user_has(plain: NotebookServer) -> None:
    answer = Browser().get(f"{plain.url}/server-proxy/servers-info", plain.token)
    entries = [(p["name"], p["launcher_entry"]) for p in json.loads(answer.body)["server_processes"]]
    cards = {name: (entry["title"], entry["path_info"]) for name, entry in entries if entry["enabled"]}
    assert cards == {"spark-ui": ("Spark UI", "spark-ui/"), "mine": ("mine", "mine/")}


# --- with a Hub -----------------------------------------------------------------------------------------------------


def test_a_hub_that_comes_later_is_used(hub: RealHub, hubless: NotebookServer, reserved: socket.socket) -> None:
    reserved.close()
    asyncio.run(hub.come_back())
    tokens = {user: hub.request("POST", f"/users/{user}/tokens", "test", {})[1]["token"] for user in ("alice", "bob")}
    assert Browser().get(f"{hubless.url}/api/contents", tokens["alice"]).status == 200
    assert Browser().get(f"{hubless.url}/api/contents", tokens["bob"]).status == 403
    assert Browser().get(f"{hubless.url}/api/contents", "wrong").status == 403
    assert Browser().get(f"{hubless.url}/api/contents", hubless.token).status == 200
