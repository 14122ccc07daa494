"""The agent beside the Spark master, asked over HTTP, against an imitation of Spark's own HTTP that can be broken."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from af_operator.components.spark.agent import agent as memory
from af_operator.components.spark.agent import spark_api
from af_operator.components.spark.agent.__main__ import serve

FOLDER = Path(__file__).parents[2] / "af_operator" / "components" / "spark"
CPU, GPU = "zmumu-spark-cpu-1a2b3c", "zmumu-spark-gpu-4d5e6f"
GROUPS = {"cpu": CPU, "gpu": GPU}
MIB = 1 << 20
APP = "app-20261126132527-0001"
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

    def start(self, connect: str = "") -> None:
        """Start the agent, or another one that knows nothing."""
        self.agent = memory.Agent(f"http://127.0.0.1:{self.spark.port}", connect)
        self._port = self._listen(serve(self.agent, 0))

    def ask(self, **pools: dict[str, Any]) -> States:
        """Ask about the pools `cpu` and `gpu`; without any, about `cpu`."""
        status, said = self.post({"pools": {GROUPS[name]: pool for name, pool in (pools or {"cpu": {}}).items()}})
        assert status == 200, said
        self.said = said
        return {name: said["pools"][GROUPS[name]] for name in pools or ["cpu"]}

    def post(self, body: Any, path: str = "/af/v1/pools", method: str = "POST") -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body))
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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.setattr(memory, "PACE", 0.0)
    with ExitStack() as stack:
        yield Asked(stack)


@pytest.fixture
def spark(asked: Asked) -> Spark:
    return asked.spark


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


def test_idle_workers_go_first_and_then_those_that_hold_least(asked: Asked, spark: Spark) -> None:
    names = [spark.worker(CPU, number, cores_used=1) for number in range(5)]
    busy, cached, shuffled, little = (
        executor(0, running=1),
        executor(1, memoryUsed=9 * MIB, rddBlocks=1),
        executor(2, diskUsed=MIB, totalShuffleWrite=9 * MIB),
        executor(3, memoryUsed=MIB),
    )
    spark.driver(executors=[busy, cached, shuffled, little, executor(4)])
    for keep, gone in ((4, {4}), (3, {3, 4}), (2, {1, 3, 4}), (1, {1, 2, 3, 4})):
        found = asked.ask(cpu={"keep": keep})["cpu"]
        assert found["retiring"] == [names[number] for number in sorted(gone)]
    assert [len(hosts) for hosts in spark.told] == [1, 1, 1, 1]
    assert asked.ask(cpu={"keep": 5})["cpu"]["retiring"] == names[1:], "it cannot be taken back"
    assert len(spark.told) == 4, "nobody is told twice"
    assert found["workers"] == names


def test_only_those_of_the_pool_go(asked: Asked, spark: Spark) -> None:
    cpu, gpu = spark.worker(CPU, 0), spark.worker(GPU, 1)
    spark.worker("other", 2)
    found = asked.ask(cpu={"keep": 0}, gpu={"keep": 1})
    assert found["cpu"]["retiring"] == [cpu]
    assert (found["gpu"]["workers"], found["gpu"]["retiring"]) == ([gpu], [])
    assert spark.told == [["127.0.0.10"]]


def test_retired_is_who_has_no_executor_left(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    assert asked.ask(cpu={"keep": 0, "quiet": 0.0})["cpu"] == {
        "wanted": 0,
        "workers": [name],
        "retiring": [name],
        "retired": [],
        "stuck": [],
    }
    spark.let_executors_end(0)
    assert asked.ask()["cpu"]["retired"] == [name]
    spark.set_state(0, "DEAD")
    found = asked.ask()["cpu"]
    assert (found["retired"], found["workers"]) == ([name], []), "its pod may still be there"
    assert asked.said["lost"] == 0


def test_who_comes_again_under_its_name_is_a_new_one(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    spark.set_state(0, "DEAD")
    assert asked.ask()["cpu"]["retired"] == [name], "what it held went with it"
    spark.workers["before"] = spark.workers["127.0.0.10"]
    spark.worker(CPU, 0, start=1)
    found = asked.ask()["cpu"]
    assert (found["workers"], found["retiring"], found["retired"]) == ([name], [], [])


def test_another_one_at_its_address_does_not_speak_for_it(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    spark.instead["/json/"] = lambda: json.dumps(
        {"id": "worker-other", "executors": [], "status": "ALIVE", "workers": list(spark.workers.values())}
    ).encode()
    found = asked.ask()["cpu"]
    assert (found["retiring"], found["retired"]) == ([name], [])


def test_after_its_time_a_worker_is_retired_whatever_it_runs(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0, "drain": 3600.0})
    assert asked.ask(cpu={"keep": 0, "drain": 3600.0})["cpu"]["retiring"] == [name]
    assert asked.ask(cpu={"keep": 0, "drain": 0.0})["cpu"]["retired"] == [name]


def test_an_agent_that_starts_again_learns_from_the_master_who_goes(asked: Asked, spark: Spark) -> None:
    names = [spark.worker(CPU, number, cores_used=1) for number in range(3)]
    asked.ask(cpu={"keep": 2})
    asked.start()
    assert asked.ask(cpu={"keep": 2})["cpu"]["retiring"] == [names[0]]
    assert len(spark.told) == 1


def test_a_master_that_starts_again_is_told_again(asked: Asked, spark: Spark) -> None:
    """Spark gives such workers executors again, which they do not start: whatever waits for them waits for ever."""
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    spark.status = "RECOVERING"
    status, said = asked.post({"pools": {CPU: {"keep": 0}}})
    assert status == 503
    assert "workers" in said["error"]
    spark.status = "ALIVE"
    spark.set_state(0, "ALIVE")
    assert asked.ask()["cpu"]["retiring"] == [name]
    assert spark.told == [["127.0.0.10"], ["127.0.0.10"]]
    assert asked.said["lost"] == 0


def test_who_could_not_be_told_does_not_go(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0)
    spark.refused = 405
    assert asked.ask(cpu={"keep": 0})["cpu"]["retiring"] == []
    spark.refused = 0
    assert asked.ask(cpu={"keep": 0})["cpu"]["retiring"] == [name]


def test_a_worker_that_is_not_there_yet_is_not_lost(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    asked.ask()
    known = spark.workers.copy()
    spark.workers.clear()
    asked.ask()
    spark.workers.update(known)
    asked.ask()
    assert asked.said["lost"] == 0


def test_lost_is_who_ends_without_having_been_told(asked: Asked, spark: Spark) -> None:
    for number in range(3):
        spark.worker(CPU, number)
    spark.set_state(2, "DEAD")
    asked.ask()
    assert asked.said["lost"] == 0, "nobody has seen it alive"
    spark.set_state(0, "DEAD")
    asked.ask()
    spark.worker(CPU, 1, start=1)
    asked.ask()
    asked.ask()
    assert asked.said["lost"] == 2


def test_who_comes_and_dies_while_nobody_asks_is_lost_too(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    asked.agent.look()
    spark.worker(CPU, 0, start=1)
    asked.agent.look()
    spark.set_state(0, "DEAD")
    asked.ask()
    assert asked.said["lost"] == 2


def test_it_looks_by_itself_and_on_where_the_master_was_away(
    asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOOK_EVERY", 0.01)
    ended, looked = threading.Event(), threading.Event()
    looking = threading.Thread(target=asked.agent.keep_looking, args=(ended,))

    def away() -> bytes:
        looked.set()
        return b"<html>"

    spark.instead["/json/"] = away
    try:
        looking.start()
        assert looked.wait(20)
        looked.clear()
        assert looked.wait(20), "it goes on"
    finally:
        ended.set()
        looking.join(20)
    assert not looking.is_alive()


def test_whoever_is_told_to_go_is_not_lost_whoever_looks(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    asked.ask(cpu={"keep": 0})
    asked.agent.look()
    spark.set_state(0, "DEAD")
    asked.agent.look()
    asked.ask()
    assert asked.said["lost"] == 0


def test_a_master_that_does_not_answer_is_not_one_without_workers(asked: Asked, spark: Spark) -> None:
    spark.instead["/json/"] = lambda: b"<html>"
    assert asked.post({"pools": {CPU: {}}})[0] == 503


def test_tasks_that_have_not_ended_want_workers(asked: Asked, spark: Spark) -> None:
    driver = spark.driver(stages=[stage(7, done=2, seconds=9.0), stage(1)])
    spark.driver("app-2", stages=[stage(2)])
    pool = {"pool": "cpu", "most": 9, "quiet": 0.0}
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 8}
    assert wanted(asked.ask(cpu=pool | {"threads": 3})) == {"cpu": 3}
    assert wanted(asked.ask(cpu=pool | {"leaving": True})) == {"cpu": 0}
    driver["stages"] = [stage(1000, done=500, seconds=0.05)]
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 7}, "many short ones need not each have a slot"
    spark.drivers.clear()
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 0}


def test_less_is_wanted_after_the_quiet_time_only(asked: Asked, spark: Spark) -> None:
    driver = spark.driver(stages=[stage(4)])
    assert wanted(asked.ask(cpu={"quiet": 3600.0})) == {"cpu": 4}
    driver["stages"] = []
    assert wanted(asked.ask(cpu={"quiet": 3600.0})) == {"cpu": 4}
    assert wanted(asked.ask(cpu={"quiet": 0.0})) == {"cpu": 0}


def test_what_one_pool_cannot_do_is_wanted_of_the_next_like_it(asked: Asked, spark: Spark) -> None:
    spark.driver(stages=[stage(5)])
    first, next_one = {"pool": "cpu", "most": 3, "quiet": 0.0}, {"pool": "gpu", "most": 9, "quiet": 0.0}
    assert wanted(asked.ask(cpu=first, gpu=next_one)) == {"cpu": 5, "gpu": 2}
    assert wanted(asked.ask(cpu=first | {"most": 5}, gpu=next_one)) == {"cpu": 5, "gpu": 0}
    assert wanted(asked.ask(cpu=first, gpu=next_one | {"resources": {"GPU": 1}})) == {"cpu": 5, "gpu": 0}


def test_what_a_pool_of_a_fixed_size_can_do_is_wanted_of_nobody_else(asked: Asked, spark: Spark) -> None:
    spark.worker(GPU, 0)
    spark.driver(stages=[stage(5)])
    elastic, fixed = {"pool": "cpu", "most": 9, "quiet": 0.0}, {"threads": 2}
    assert wanted(asked.ask(cpu=elastic, gpu=fixed))["cpu"] == 3


def test_tasks_that_ask_for_gpus_want_the_pool_that_has_them(asked: Asked, spark: Spark) -> None:
    profiles = {"resourceProfiles": [profile(0, cpus=2.0), profile(1, cpus=1.0, gpu=0.5), profile(2, fpga=1.0)]}
    spark.driver(stages=[stage(8), stage(6, profile=1), stage(99, profile=2)], environment=profiles)
    cpu, gpu = {"pool": "cpu", "most": 9, "threads": 4}, {"pool": "gpu", "most": 9, "threads": 4}
    assert wanted(asked.ask(cpu=cpu, gpu=gpu | {"resources": {"GPU": 1}})) == {"cpu": 4, "gpu": 3}


def test_workers_stay_that_hold_cached_blocks(asked: Asked, spark: Spark) -> None:
    for number in range(4):
        spark.worker(CPU, number, cores_used=1)
    blocks = [executor(number, memoryUsed=30 * MIB, rddBlocks=2) for number in range(4)]
    driver = spark.driver(executors=blocks)
    pool = {"quiet": 0.0}
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 3}
    driver["executors"] = [each | {"memoryUsed": 90 * MIB} for each in blocks]
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 4}, "more workers would not change where they are"
    driver["executors"] = [each | {"rddBlocks": 0} for each in blocks]
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 0}, "what is there are copies of what the driver has"


def test_who_works_in_the_session_says_how_many(asked: Asked) -> None:
    pools: dict[str, dict[str, Any]] = {"cpu": {}, "gpu": {"pool": "gpu"}}
    asked.ask(**pools)
    for workers, found in ((2, 2), (10**9, 10**6), (None, 0)):
        assert asked.post({"pool": "gpu", "workers": workers}, "/af/v1/scale") == (200, {})
        assert asked.ask(**pools)["gpu"]["wanted"] == found
    status, said = asked.post({"pool": "cpu", "workers": 2}, "/af/v1/scale")
    assert status == 400
    assert "`af scale`" in said["error"]
    for wrong in (-1, "2", True, 1.5):
        assert asked.post({"pool": "gpu", "workers": wrong}, "/af/v1/scale")[0] == 400


def test_an_executor_of_which_no_driver_speaks_may_run_anything(asked: Asked, spark: Spark) -> None:
    names = [spark.worker(CPU, number, cores_used=1) for number in range(3)]
    spark.driver(executors=[executor(1, memoryUsed=99), executor(2)])
    spark.drivers["app-20260101000000-0001"] = {}  # it does not answer: the third executor may be its own
    asked.agent._active = 600.5
    found = asked.ask(cpu={"keep": 1, "quiet": 0.0})["cpu"]
    assert (found["wanted"], found["retiring"]) == (1, names[1:])
    assert asked.said["active"] > 600


def test_an_executor_that_has_only_just_started_goes_before_one_that_holds_blocks(asked: Asked, spark: Spark) -> None:
    """Were it thought busy until its driver speaks of it, who holds blocks would go before it can take any."""
    names = [spark.worker(CPU, number, cores_used=1) for number in range(3)]
    spark.driver(executors=[executor(1, memoryUsed=99)])
    found = asked.ask(cpu={"keep": 1, "quiet": 0.0})["cpu"]
    assert found["retiring"] == [names[0], names[2]]


def test_a_driver_of_which_the_master_does_not_say_where_it_is_is_the_connect_server(
    asked: Asked, spark: Spark
) -> None:
    spark.driver(stages=[stage(3)])
    spark.instead["/app/"] = lambda: b'<a href="http://127.0.0.1.example:4040">Application Detail UI</a>'
    assert wanted(asked.ask()) == {"cpu": 0}
    asked.start(connect=f"http://127.0.0.1:{spark.port}")
    assert wanted(asked.ask()) == {"cpu": 3}


@pytest.mark.parametrize(
    ("before", "after", "active"),
    [
        ({}, {}, False),
        ({}, {"stages": [stage(1)]}, True),
        ({}, {"executors": [executor(0, running=1)]}, True),
        ({}, {"executors": [executor(0, totalTasks=1)]}, True),
        ({"executors": [executor(0, totalTasks=1)]}, {"executors": [executor(0, totalTasks=1)]}, False),
        ({"executors": [executor(0, totalTasks=1)]}, {"executors": [executor(0, totalTasks=2)]}, True),
        ({"executors": [executor(0, totalTasks=1)]}, {"executors": []}, False),
    ],
)
def test_it_is_told_when_something_was_computed_last(
    asked: Asked, spark: Spark, before: dict[str, Any], after: dict[str, Any], active: bool
) -> None:
    spark.driver(**before)
    asked.ask()
    asked.agent._active = 600.5
    spark.driver(**after)
    asked.ask()
    found = asked.said["active"]
    assert found % 300 == 0
    assert (time.time() - found < 600) if active else found == 600


def test_what_a_driver_said_last_stands_while_it_does_not_answer(
    asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes while driver and worker still hang: they are let go by the end of the test only."""
    monkeypatch.setattr(memory, "SECONDS", 0.2)
    name = spark.worker(CPU, 0, cores_used=1)
    spark.driver(stages=[stage(4)], executors=[executor(0)])
    pool = {"pool": "cpu", "most": 9, "quiet": 0.0}
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 4}
    end = threading.Event()

    def hang() -> bytes:
        end.wait(60)
        return b"[]"

    spark.instead[f"/api/v1/applications/{APP}/executors"] = hang
    found = asked.ask(cpu=pool | {"keep": 0})["cpu"]
    assert (found["wanted"], found["retiring"]) == (4, [name])
    end.set()


DEEP = b"[" * 100_000
NONSENSE = [b"", b"null", b"7", b"{}", b"[[]]", b'[{"id": {}}]', b'"', b"\xff", DEEP, b'[{"numTasks": 1e999}]']


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("what", ["executors", "stages", "environment"])
def test_a_driver_may_say_anything(asked: Asked, spark: Spark, what: str, nonsense: bytes) -> None:
    name = spark.worker(CPU, 0)
    spark.driver(stages=[stage(1, profile=3)])
    spark.instead[f"/api/v1/applications/{APP}/{what}"] = lambda: nonsense
    assert asked.ask(cpu={"keep": 0})["cpu"]["retiring"] == [name]


def test_a_driver_may_say_any_amount(asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_api, "MAX_BYTES", 2000)
    spark.driver(stages=[stage(1)] * 20)
    assert wanted(asked.ask()) == {"cpu": 0}
    next_to_nothing = {"resourceProfiles": [profile(0, cpus=5e-324)]}
    spark.driver(stages=[stage(2**60), stage(10**6), stage(10**6)], environment=next_to_nothing)
    assert wanted(asked.ask(cpu={"pool": "cpu"})) == {"cpu": 10**6}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_worker_may_say_anything(asked: Asked, spark: Spark, nonsense: bytes) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    master = json.dumps(spark._master()).encode()
    said = iter([master, nonsense])
    spark.instead["/json/"] = lambda: next(said)
    assert asked.ask()["cpu"]["retiring"] == [name]


@pytest.mark.parametrize(
    "worker",
    [
        7,
        {},
        {"webuiaddress": 7, "host": 7},
        {"webuiaddress": "http://[", "host": "127.0.0.1"},
        {"webuiaddress": f"http://{CPU}-worker-1:99999", "host": "127.0.0.1"},
        {"webuiaddress": f"http://{CPU}-worker-1:8081", "host": "metadata.example"},
        {"webuiaddress": f"http://{CPU}-worker-{'1' * 60}:8081", "host": "127.0.0.1"},
    ],
)
def test_a_worker_of_which_the_master_says_nonsense_is_left_out(asked: Asked, spark: Spark, worker: Any) -> None:
    name = spark.worker(CPU, 0)
    spark.workers["127.0.0.99"] = worker
    assert asked.ask()["cpu"]["workers"] == [name]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b'{"pools": {"a": {"keeep": 1}}}', b'{"pools": {"a": 7}}', b'{"pools": 7}', DEEP]
)
def test_what_is_not_understood_is_refused(asked: Asked, body: bytes) -> None:
    status, said = asked.post(body)
    assert status == 400
    assert said["error"]


def test_it_says_that_it_listens(asked: Asked, spark: Spark) -> None:
    spark.status = "STANDBY"
    assert asked.post(b"", "/health", "GET")[0] == 200
    assert asked.post(b"", "/elsewhere", "GET")[0] == 404
    assert asked.post({}, "/elsewhere")[0] == 404


def test_drivers_are_not_asked_each_time(asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PACE", 3600.0)
    spark.driver(stages=[stage(1)])
    for _ in range(2):
        assert wanted(asked.ask(cpu={"quiet": 0.0})) == {"cpu": 1}
        spark.drivers[APP]["stages"] = [stage(9)]


def test_it_runs_with_nothing_but_python() -> None:
    program = "import sys, agent.__main__; print(*(m for m in sys.modules if m.startswith('af_')))"
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
