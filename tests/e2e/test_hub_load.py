"""Twenty people come at once: all get their servers, and JupyterHub answers throughout. And what one alone waits."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from local_cluster.facility import SYSTEM_NAMESPACE
from local_cluster.settings import CHECKOUT
from tests.support import catalogue
from tests.support.audit import READS, Audit
from tests.support.hub_api import HubUser
from tests.support.hub_place import Hub, sessions_of
from tests.support.tenant import Body, Tenant, condition

HUB = f"system:serviceaccount:{SYSTEM_NAMESPACE}:hub"
PEOPLE = [f"load-{number:02}" for number in range(20)]
SERVER = "load"
EVERY_SECONDS = 0.5
HEALTHY_SHARE = 0.1
"""Of the time that all starts take: a Hub that serves nobody meanwhile would take all of it."""
READS_AT_MOST = 10
"""Of the Hub, however many start: it watches."""
OUTPUT = CHECKOUT / "out" / "hub"

# They count all requests of the Hub, and need an idle machine: twenty notebooks, and times that are recorded.
pytestmark = [pytest.mark.timeout(420), pytest.mark.alone]


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    """A profile of servers that ask for next to nothing, and homes that are gone with them."""
    sizes = [{"name": "tiny", "cpu": "10m", "memory": "512Mi"}]
    with catalogue.profile(sizes=sizes, storage={}, defaults={"image": "analysis", "size": "tiny"}) as name:
        yield name


class Health:
    """What JupyterHub takes to say that it is well."""

    def __init__(self, hub: Hub) -> None:
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self._url = f"{hub.base}/hub/health"
        self._over = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[Health]:
        """Ask all the time."""
        thread = threading.Thread(target=self._ask_and_ask)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _ask_and_ask(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            begin = time.monotonic()
            try:
                answer = requests.get(self._url, timeout=10)
                self.wrong += [] if answer.ok else [f"status {answer.status_code}"]
            except requests.RequestException as error:
                self.wrong.append(str(error))
            self.seconds.append(time.monotonic() - begin)


def test_twenty_sessions_at_once(hub: Hub, physics: Tenant, tiny: str) -> None:
    with hub.users(physics, *PEOPLE) as people, Audit() as audit, ThreadPoolExecutor(len(people)) as pool:
        begin = time.monotonic()
        with Health(hub).watched() as health:
            times = list(pool.map(lambda user: _come_up(user, tiny, begin), people))
        assert all(user.notebook("GET", SERVER, "api/status") for user in people)
        calls = Counter((call.verb, call.resource) for call in audit.calls(HUB))
        sessions = sessions_of(physics, *PEOPLE)
    found = {
        "sessions": len(sessions),
        "seconds until the first, the last": [round(min(times), 1), round(max(times), 1)],
        "/hub/health: asked, slowest": [len(health.seconds), round(max(health.seconds), 3)],
        "requests of the Hub": {" ".join(kind): count for kind, count in calls.items()},
    }
    _record("twenty.json", found)
    assert len(sessions) == len(PEOPLE)
    assert not health.wrong
    assert max(health.seconds) < HEALTHY_SHARE * max(times)
    writes = {kind: count for kind, count in calls.items() if kind[0] not in READS}
    assert writes == {
        ("create", "analysissessions"): len(PEOPLE),
        ("create", "secrets"): len(PEOPLE),
        ("patch", "analysissessions"): len(PEOPLE),
    }
    assert sum(calls.values()) - sum(writes.values()) <= READS_AT_MOST, calls


def _come_up(user: HubUser, profile: str, begin: float) -> float:
    user.launch(SERVER, {"profile": profile})
    *_, last = user.progress(SERVER, 240)
    assert last.get("ready"), f"{user.name}: {last}"
    return time.monotonic() - begin


def test_how_long_one_takes(hub: Hub, physics: Tenant) -> None:
    """Recorded, not judged: what else this machine does is in the numbers."""
    with hub.users(physics, "solo") as [user]:
        times = [_timed(user, physics, server) for server in ("first", "second")]
    _record("one.json", {"seconds from the request": times})


def _timed(user: HubUser, physics: Tenant, server: str) -> dict[str, float]:
    begin = time.monotonic()
    user.launch(server, {"size": "small"})
    [session] = [s for s in sessions_of(physics, user.name) if s["spec"]["notebook"]["serverName"] == server]
    name = session["metadata"]["name"]

    def ready(body: Body) -> bool:
        return condition(body, "Ready").get("status") == "True"

    physics.wait(name, ready)
    session_ready = time.monotonic() - begin
    *_, last = user.progress(server)
    assert last.get("ready"), last
    hub_ready = time.monotonic() - begin
    assert user.ask("GET", user.path(server, "lab")).status_code == 200
    found = {"session ready": session_ready, "Hub ready": hub_ready, "JupyterLab's page": time.monotonic() - begin}
    user.stop(server)
    return {what: round(seconds, 2) for what, seconds in found.items()}


def _record(name: str, found: Body) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2)
    (OUTPUT / name).write_text(text + "\n")
    print(text)
