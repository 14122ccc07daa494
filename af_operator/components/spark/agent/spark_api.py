"""How Spark is asked: the master, drivers and workers, over HTTP.

Drivers and workers are the users' own programs: nothing that they say is trusted to be there, to be of its type, or
to come in time. What is not understood is left out, or counts as nothing.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from .jws import signed
from .model import Driver, Executor, Needs, Worker

MASTER_UI = "http://127.0.0.1:8080"
"""Workers may be decommissioned from the master's own pod only (``spark.master.ui.decommission.allow.mode``)."""

SECONDS = 1.0
"""For which one of them is waited for at a time."""
MAX_BYTES = 8_388_608
"""Of what one of them says; of a thousand executors it is two million."""
MAX_WORKERS = 2000
VALID = 60
"""Seconds for which a token is. Workers and drivers are asked by the addresses of their pods, and when one has gone its
address may be somebody else's pod's: who gets a token so has it no longer than that."""
TARGET = 5.0
"""Seconds of work for which a slot is worth having, as Dask's ``target-duration``."""
LEAST = 0.001
"""Of a resource that a task may ask for: a thousand share one GPU."""
GPU = {"gpu": "GPU"}
"""Spark's name of a resource, and that of pools."""
NAME = re.compile(r"[A-Za-z0-9-]{1,63}")
UI_LINK = re.compile(r'href="http://([0-9a-fA-F.:\[\]]{1,60})/?"[^>]*>Application Detail UI<')
"""On the master's page of an application, which alone says where a driver's UI is. Addresses only: no name is looked
up for a driver, since that cannot be ended when it takes its time."""
SILENT = (OSError, HTTPException, ValueError, RecursionError)
"""What is raised where somebody does not answer, or not as expected; the last is for JSON of great depth."""


class Unready(Exception):
    """The master cannot say which workers there are: it has just started, and waits for them."""


@dataclass(frozen=True)
class Spark:
    """How a session's Spark is asked.

    Attributes
    ----------
    connect
        Where the UI of the Connect server is.
    key
        By which tokens for Spark's pages are signed; empty where they ask for none.
    """

    master: str = MASTER_UI
    connect: str = ""
    key: str = field(default="", repr=False)

    def look(self) -> tuple[list[Worker], list[str]]:
        """Return the workers that the master knows, and the ids of its applications; raises Unready."""
        try:
            said = json.loads(self._fetch(f"{self.master}/json/"))
        except SILENT as error:
            raise Unready(f"the master does not answer: {error}") from error
        if not isinstance(said, dict) or said.get("status") != "ALIVE":
            raise Unready("the master has just started, and waits for its workers")
        workers = [worker for each in _objects(said.get("workers")) for worker in _worker(each)]
        apps = [str(each.get("id")) for each in _objects(said.get("activeapps"))]
        return workers[:MAX_WORKERS], [app for app in apps if NAME.fullmatch(app)]

    def decommission(self, workers: Sequence[Worker]) -> None:
        """Let the master tell workers to go; raises one of ``SILENT``."""
        self._fetch(f"{self.master}/workers/kill/", [("host", worker.host) for worker in workers])

    def has_no_executor(self, worker: Worker) -> bool:
        """Ask a worker; raises one of ``SILENT``."""
        said = json.loads(self._fetch(worker.ui))
        # Its address may be another one's by now.
        return isinstance(said, dict) and said.get("id") == worker.id and said.get("executors") == []

    def ask_driver(self, app: str, known: Driver) -> Driver:
        """Return what a driver says; raises one of ``SILENT``. Where it is not known where it is, ask `connect`."""
        ui = known.ui or self._driver_ui(app) or self.connect
        api = f"{ui}/api/v1/applications/{app}"
        executors = [_executor(each) for each in _objects(json.loads(self._fetch(f"{api}/executors")))]
        slots: Counter[int] = Counter()
        for stage in _objects(json.loads(self._fetch(f"{api}/stages?status=active"))):
            slots[_count(stage, "resourceProfileId")] += _slots(stage)
        is_known = known.needs.keys() >= slots.keys()
        needs = known.needs if is_known else _needs(json.loads(self._fetch(f"{api}/environment")))
        return Driver(ui, tuple(executors), +slots, needs)

    def _driver_ui(self, app: str) -> str:
        link = UI_LINK.search(self._fetch(f"{self.master}/app/?appId={app}").decode(errors="replace"))
        return f"http://{link[1]}" if link else ""

    def _fetch(self, url: str, form: Sequence[tuple[str, str]] = ()) -> bytes:
        """Return what is there, or is answered to the form; raises one of ``SILENT``. It follows nobody elsewhere."""
        parts = urlsplit(url)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        if self.key:
            headers["Authorization"] = f"Bearer {signed(self.key, exp=int(time.time()) + VALID)}"
        with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)) as connection:
            path = parts._replace(scheme="", netloc="").geturl()
            connection.request("POST" if form else "GET", path, urlencode(form) or None, headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ValueError(f"{url} answers {response.status}")
            return response.read(MAX_BYTES)  # what is cut off there is no JSON


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float:
    """Return a number that is not negative; 0 for whatever else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return float(value) if is_number else 0.0


def _count(said: Mapping[str, Any], *names: str) -> int:
    return int(sum(_number(said.get(name)) for name in names))


def _worker(said: Mapping[str, Any]) -> Iterator[Worker]:
    try:
        ui, address = urlsplit(str(said.get("webuiaddress"))), ipaddress.ip_address(str(said.get("host")))
        host, name = f"[{address}]" if address.version == 6 else str(address), ui.hostname or ""
        url = f"http://{host}:{ui.port}/json/"
    except ValueError:
        return
    if NAME.fullmatch(name):
        yield Worker(str(said.get("id")), name, str(address), url, str(said.get("state")), _count(said, "coresused"))


def _executor(said: Mapping[str, Any]) -> Executor:
    host = str(said.get("hostPort")).rpartition(":")[0].strip("[]")
    memory = _count(said, "memoryUsed")
    held = memory + _count(said, "diskUsed", "totalShuffleWrite")
    cached = memory if _count(said, "rddBlocks") else 0  # without any, these are copies of what the driver has
    running, started = _count(said, "activeTasks"), _count(said, "totalTasks")
    cores, storage = _count(said, "totalCores"), _count(said, "maxMemory")
    return Executor(str(said.get("id")), host, cores, running, started, held, cached, storage)


def _slots(stage: Mapping[str, Any]) -> int:
    """Return how many tasks of a stage should run at a time: many short ones need not each have a slot of their own."""
    tasks = max(0, _count(stage, "numTasks") - _count(stage, "numCompletedIndices"))
    done, seconds = _count(stage, "numCompleteTasks"), _number(stage.get("executorRunTime")) / 1000
    return math.ceil(tasks * min(1.0, seconds / done / TARGET)) if done else tasks


def _needs(environment: Any) -> dict[int, Needs]:
    """Return what tasks ask for, by the id of their resource profile."""
    profiles = environment.get("resourceProfiles") if isinstance(environment, dict) else None
    found: dict[int, Needs] = {}
    for profile in _objects(profiles):
        asked = profile.get("taskResources")
        resources = _objects(list(asked.values())) if isinstance(asked, dict) else []
        amounts = {str(each.get("resourceName")): _number(each.get("amount")) for each in resources}
        needs = ((GPU.get(name, name), amount) for name, amount in amounts.items() if amount >= LEAST)
        found[_count(profile, "id")] = tuple(sorted(needs))
    return found
