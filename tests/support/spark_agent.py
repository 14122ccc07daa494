"""An imitation of Spark's own HTTP that can be broken: master, workers and drivers, as its agent looks at them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt

from af_operator.components.spark.agent import agent as memory
from af_operator.components.spark.agent import spark_api
from af_operator.components.spark.agent.__main__ import serve

CPU, GPU = "zmumu-spark-cpu-1a2b3c", "zmumu-spark-gpu-4d5e6f"
GROUPS = {"cpu": CPU, "gpu": GPU}
MIB = 1 << 20
APP = "app-20261126132527-0001"
TOKEN, PAGE_KEY = "token-of-the-session", "0123456789abcdef" * 4
BEARER = f"Bearer {TOKEN}"
States = dict[str, dict[str, Any]]


class Spark:
    """Master, workers and drivers: what they would answer. Each worker has an address of its own."""

    def __init__(self) -> None:
        self.status = "ALIVE"
        self.workers: dict[str, dict[str, Any]] = {}
        self.left: dict[str, list[dict[str, Any]]] = {}
        self.drivers: dict[str, dict[str, Any]] = {}
        self.told: list[list[str]] = []
        self.instead: dict[str, Callable[[], bytes]] = {}
        """Path -> what is answered there instead."""
        self.port = 0
        self.refused = 0
        self.key = PAGE_KEY
        """By which tokens are signed that its pages let in; empty, they let in everybody."""

    def worker(self, group: str, number: int, cores_used: int = 0, start: int = 0) -> str:
        """Start one; return its name."""
        host, name = f"127.0.0.{number + 10}", f"{group}-worker-{number:010x}"
        ui = f"http://{name}:{self.port}"
        said = {"id": f"worker-{start}-{host}", "host": host, "webuiaddress": ui, "state": "ALIVE"}
        self.workers[host] = {**said, "coresused": cores_used}
        self.left[host] = [{"id": n, "appid": APP} for n in range(cores_used)]
        return name

    def driver(self, app: str = APP, **said: Any) -> dict[str, Any]:
        self.drivers[app] = {"executors": [], "stages": [], "environment": {}} | said
        return self.drivers[app]

    def set_state(self, number: int, state: str) -> None:
        self.workers[f"127.0.0.{number + 10}"]["state"] = state

    def let_executors_end(self, number: int) -> None:
        self.left[f"127.0.0.{number + 10}"].clear()

    def get(self, host: str, url: str) -> bytes:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if path in self.instead:
            return self.instead[path]()
        if path == "/app/":
            link = f'<li><a href="http://127.0.0.1:{self.port}">Application Detail UI</a></li>'
            return link.encode() if query["appId"][0] in self.drivers else b"<p>UI disabled</p>"
        if path.startswith("/api/v1/applications/"):
            app, what = path.split("/")[-2:]
            return json.dumps(self.drivers[app][what]).encode()
        return json.dumps(self._worker(host) if host in self.workers else self._master()).encode()

    def lets_in(self, shown: str) -> bool:
        """Return whether its filter takes this for a token that is still one, and has an end."""
        bearer, _, token = shown.partition(" ")
        try:
            jwt.decode(token, base64.urlsafe_b64decode(self.key), ["HS384"], options={"require": ["exp"]})
        except jwt.InvalidTokenError:
            return False
        return bearer == "Bearer"

    def kill(self, hosts: list[str]) -> int:
        if self.refused:
            return self.refused
        alive = [host for host in hosts if self.workers[host]["state"] == "ALIVE"]
        self.told.append(alive)
        for host in alive:
            self.workers[host]["state"] = "DECOMMISSIONED"
        return 200 if alive else 404

    def _master(self) -> dict[str, Any]:
        workers = list(self.workers.values()) if self.status == "ALIVE" else []
        return {"status": self.status, "workers": workers, "activeapps": [{"id": app} for app in self.drivers]}

    def _worker(self, host: str) -> dict[str, Any]:
        return {"id": self.workers[host]["id"], "executors": self.left[host]}


class SparkHandler(BaseHTTPRequestHandler):
    spark: Spark

    def parse_request(self) -> bool:
        """As the filter before all pages: who is not let in gets nowhere."""
        fine = super().parse_request()
        if not fine or not self.spark.key or self.spark.lets_in(self.headers.get("Authorization", "")):
            return fine
        self.send_error(403)
        return False

    def do_GET(self) -> None:
        try:
            body = self.spark.get(self.connection.getsockname()[0], self.path)
            self.send_response(200)
        except KeyError:
            body = b""
            self.send_response(404)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        assert self.path.startswith("/workers/kill/")
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(self.spark.kill(form["host"]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Asked:
    """The agent, and the Spark that it looks at."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.spark = Spark()
        handler = type("Handler", (SparkHandler,), {"spark": self.spark})
        self.spark.port = self._listen(ThreadingHTTPServer(("", 0), handler))
        self.start()

    def start(self, connect: str = "", token: str = TOKEN, key: str = PAGE_KEY) -> None:
        """Start the agent, or another one that knows nothing."""
        self.agent = memory.Agent(spark_api.Spark(f"http://127.0.0.1:{self.spark.port}", connect, key))
        self._port = self._listen(serve(self.agent, token, 0))

    def ask(self, **pools: dict[str, Any]) -> States:
        """Ask about the pools `cpu` and `gpu`; without any, about `cpu`."""
        status, said = self.post({"pools": {GROUPS[name]: pool for name, pool in (pools or {"cpu": {}}).items()}})
        assert status == 200, said
        self.said = said
        return {name: said["pools"][GROUPS[name]] for name in pools or ["cpu"]}

    def post(self, body: Any, path: str = "/af/v1/pools") -> tuple[int, dict[str, Any]]:
        return self.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), BEARER)

    def request(
        self, method: str, path: str, body: bytes = b"", authorization: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request(method, path, body, {"Authorization": authorization} if authorization is not None else {})
        response = connection.getresponse()
        said = json.loads(response.read())
        connection.close()
        return response.status, said

    def _listen(self, server: ThreadingHTTPServer) -> int:
        # Whoever hangs is a daemon thread, and is not waited for.
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return int(server.server_address[1])


def executor(number: int, running: int = 0, **said: Any) -> dict[str, Any]:
    """Return one on a worker of this number, as a driver speaks of it."""
    address = f"127.0.0.{number + 10}:4711"
    known = {"id": str(number), "hostPort": address, "totalCores": 1, "activeTasks": running, "maxMemory": 100 * MIB}
    return known | said


def stage(tasks: int, done: int = 0, seconds: float = 0.0, profile: int = 0) -> dict[str, Any]:
    return {
        "numTasks": tasks,
        "numCompletedIndices": done,
        "numCompleteTasks": done,
        "executorRunTime": seconds * done * 1000,
        "resourceProfileId": profile,
    }


def profile(number: int, **amounts: float) -> dict[str, Any]:
    asked_for = {name: {"resourceName": name, "amount": amount} for name, amount in amounts.items()}
    return {"id": number, "taskResources": asked_for}


def wanted(states: States) -> dict[str, int]:
    return {name: pool["wanted"] for name, pool in states.items()}
