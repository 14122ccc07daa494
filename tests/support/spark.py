"""Sessions with Spark: who drives it in a pod of the session's user, and what master and driver say of themselves."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from af_operator import names
from tests.support import programs
from tests.support.tenant import ENVIRONMENT, Body, Tenant, condition

PROGRAMS = Path(programs.__file__).parent
CLIENT = (PROGRAMS / "spark_client.py").read_text()  # not imported: it needs Spark
KILLER = """
import os, pathlib, signal, sys
lines = {p.parent.name: p.read_text().split("\\0") for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")}
javas = {number: words for number, words in lines.items() if words[0].endswith("java")}
[number] = [number for number, words in javas.items() if any(word.endswith(sys.argv[1]) for word in words)]
os.kill(int(number), signal.SIGKILL)
"""
ASKS = """
import os, sys, urllib.request
shown = {"Authorization": "Bearer " + os.environ["AF_SPARK_TOKEN"]}
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=shown), timeout=20).read().decode())
"""
"""Asks a page as the agent does, in its place: to all others Spark's pages are closed."""
SEEN = """
import json, pathlib
sockets = [pathlib.Path("/proc/net", kind).read_text().splitlines()[1:] for kind in ("tcp", "tcp6")]
lines = [line.split() for each in sockets for line in each]
bound = [fields[1].partition(":") for fields in lines if fields[3] == "0A"]
loopback = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
ports = sorted({int(port, 16) for address, _, port in bound if address not in loopback})
commands = [path.read_text().replace("\\0", " ") for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
print(json.dumps({"ports": ports, "commands": commands}))
"""
"""Says which ports of its pod others reach, and the command lines of its container."""
STRANGER = (PROGRAMS / "spark_stranger.py").read_text()  # sent into a pod
MASTER, CONNECT, WORKER = "deploy.master.Master", "SparkConnectServer", "deploy.worker.Worker"
"""How the command lines of Spark's programs are known, each in a container of its own."""
CONTAINERS = {MASTER: "master", CONNECT: "connect", WORKER: "worker"}
DRIVER_SIZE, WORKER_SIZE = "driver", "worker"
SIZES = [
    {"name": "small", "cpu": "50m", "cpuLimit": "2", "memory": "512Mi"},
    {"name": DRIVER_SIZE, "cpu": "50m", "cpuLimit": "2", "memory": "1Gi"},
    {"name": WORKER_SIZE, "cpu": "50m", "cpuLimit": "2", "memory": "1536Mi"},
]
"""For a profile of a test's own, so that a node which others use as well has room."""
PATIENCE = 300.0
"""Seconds in which a query of some seconds comes to its end, on a node that has other things to do."""


def pools(**bounds: tuple[int, int]) -> Body:
    """Return pools of one shape, each with its (least, most) workers."""
    shape = {"nodePool": "cpu", "size": WORKER_SIZE}
    named = [{"name": n, **shape, "workers": {"min": a, "max": b}} for n, (a, b) in bounds.items()]
    return {"size": DRIVER_SIZE, "pools": named}


def sizes(body: Body) -> dict[str, tuple[int, int]]:
    """Return (ready, desired) of each of Spark's pools, by a status that is not behind the spec."""
    status = body.get("status", {})
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return {}
    found = status.get("components", {}).get("spark", {}).get("pools", {})
    return {name: (pool["ready"], pool["desired"]) for name, pool in found.items()}


def settled(tenant: Tenant, name: str, seconds: float = PATIENCE, **asked: int) -> None:
    """Wait until these pools have the workers that were asked for, and the session is ready with them."""
    wanted = {pool: (number, number) for pool, number in asked.items()}

    def there(body: Body) -> bool:
        return wanted.items() <= sizes(body).items() and condition(body, "SparkReady").get("status") == "True"

    tenant.wait(name, there, seconds, f"Spark pools {wanted}")


def workers(tenant: Tenant, name: str) -> dict[str, str]:
    """Return name -> address of the pods of a session's Spark workers, but for those that go."""
    labels = f"analysisfacility.io/session={name},analysisfacility.io/component=spark,analysisfacility.io/role=worker"
    found = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    there = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    return {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in there}


def master_address(tenant: Tenant, name: str) -> str:
    """Return the address of the pod of master and Connect server."""
    labels = f"analysisfacility.io/session={name},analysisfacility.io/component=spark,analysisfacility.io/role=master"
    [pod] = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    return str(pod["status"]["podIP"])


def seen(tenant: Tenant, pod: str, container: str) -> Body:
    """Return which ports of a pod others reach, and the command lines of a container."""
    found: Body = json.loads(tenant.kubectl("exec", pod, f"--container={container}", "--", "python", "-c", SEEN))
    return found


def kill(tenant: Tenant, pod: str, program: str) -> None:
    """End a Java program of Spark's by SIGKILL; its container ends with it, and may take the exec along."""
    where = ("exec", pod, f"--container={CONTAINERS[program]}")
    said = tenant.kubectl(*where, "--", "python", "-c", KILLER, program, check=False)
    assert "Traceback" not in said, said


def master(tenant: Tenant, name: str) -> Body:
    """Return what the master says of workers and applications."""
    found: Body = json.loads(_served(tenant, name, names.SPARK_MASTER_UI_PORT, "json/"))
    return found


def driver(tenant: Tenant, name: str, path: str) -> Any:
    """Return what the Connect server says, under a path of Spark's REST API."""
    [app] = json.loads(_served(tenant, name, names.SPARK_UI_PORT, "api/v1/applications"))
    return json.loads(_served(tenant, name, names.SPARK_UI_PORT, f"api/v1/applications/{app['id']}/{path}"))


def running(tenant: Tenant, name: str) -> dict[str, int]:
    """Return how many tasks each executor of the Connect server runs, by the address of its worker."""
    executors = driver(tenant, name, "executors")
    busy = {e["hostPort"].rpartition(":")[0]: e["activeTasks"] for e in executors if e["id"] != "driver"}
    return {host: tasks for host, tasks in busy.items() if tasks}


def _served(tenant: Tenant, name: str, port: int, path: str) -> str:
    where = ("exec", f"deployment/{name}-spark", "--container=agent")
    return tenant.kubectl(*where, "--", "python", "-c", ASKS, f"http://127.0.0.1:{port}/{path}")


def run(tenant: Tenant, where: tuple[str, ...], *command: str, stdin: str = "", seconds: float = PATIENCE) -> str:
    """Run a command in a pod; return what it prints, all of it where it fails."""
    argv = ["kubectl", "--namespace", tenant.namespace, "exec", "-i", *where, "--", *command]
    done = subprocess.run(
        argv, input=stdin, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)[:200]}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Client:
    """A Python program in a pod of the session's user that drives Spark, and keeps what it has from one to the next."""

    def __init__(self, tenant: Tenant, *where: str) -> None:
        argv = ["kubectl", "--namespace", tenant.namespace, "exec", "-i", *where, "--", "python", "-c", CLIENT]
        self._process = subprocess.Popen(
            argv, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._reader.join(10)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()
        self._process.wait(10)

    def ask(self, command: str, *values: object) -> Any:
        """Let it do something; return what comes of it."""
        self.begin(command, *values)
        return self.answer()

    def begin(self, command: str, *values: object) -> None:
        """Let it begin something, of which `answer` says what came of it."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([command, *values]) + "\n")
        self._process.stdin.flush()

    def answer(self, seconds: float = PATIENCE) -> Any:
        """Return what comes of the last command."""
        said = json.loads(self._lines.get(timeout=seconds))
        assert "answer" in said, said
        return said["answer"]

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
