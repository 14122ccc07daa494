"""Sessions and JupyterHub: what the condition says, what is asked, and that a session needs no Hub to be ready."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from af_operator.components import notebook
from af_operator.hub import Hub
from af_operator.model import Health, Key, Session
from af_operator.observed import Observed
from af_operator.reconcile import QUIET
from af_operator.views import HubRefusal, HubServer, HubView
from tests.support.bench import NOW, Bench

SPEC: dict[str, Any] = {"profile": "default", "user": "alice", "mode": "Interactive", "notebook": {}}
SHOWN = HubServer("alice", "zmumu")
AWAY = HubView("http://hub/hub/api", trouble="JupyterHub's API at http://hub/hub/api does not answer")
EMPTY = HubView("http://hub/hub/api", servers=frozenset())
FULL = replace(EMPTY, servers=frozenset({SHOWN}))


class ScriptedHub:
    """A Hub that the test moves."""

    def __init__(self, view: HubView | None) -> None:
        self.now = view
        self.started: list[HubServer] = []
        self.looks = 0

    def view(self) -> HubView | None:
        return self.now

    def start(self, server: HubServer) -> None:
        self.started.append(server)

    def look(self) -> None:
        self.looks += 1


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Say whether the notebook is ready: what its readiness is made of has tests of its own."""
    state = {"ready": True}

    def health(session: Session, observed: Observed) -> Health:
        return Health(True, "Ready", "up") if state["ready"] else Health(False, "Starting", "its pod is starting")

    monkeypatch.setattr(notebook, "health", health)
    return state


def bench(hub: Hub, **spec: Any) -> Bench:
    return Bench({**SPEC, **spec}, hub=hub)


def registered(of: Bench) -> tuple[str, str]:
    found = of.condition("HubRegistered")
    return found["status"], found["reason"]


async def test_without_a_hub_nothing_is_said() -> None:
    hub = ScriptedHub(None)
    found = bench(hub)
    await found.settle()
    assert found.condition("Ready")["status"] == "True"
    assert "HubRegistered" not in [c["type"] for c in found.status["conditions"]]
    assert hub.started == []


async def test_a_session_without_a_notebook_is_nothing_to_a_hub() -> None:
    hub = ScriptedHub(EMPTY)
    found = Bench(hub=hub)
    await found.settle()
    assert "HubRegistered" not in [c["type"] for c in found.status["conditions"]]
    assert hub.started == []


async def test_a_hub_that_is_away_and_comes_back() -> None:
    hub = ScriptedHub(AWAY)
    found = bench(hub)
    await found.settle()
    assert found.condition("Ready")["status"] == "True", "a session needs no Hub to work"
    assert found.status["phase"] == "Ready"
    assert registered(found) == ("False", "HubUnavailable")
    message = found.condition("HubRegistered")["message"]
    assert "does not answer" in message
    assert "`af open zmumu`" in message
    assert hub.started == [], "who is away is asked nothing"

    hub.now = EMPTY
    await found.settle()
    assert set(hub.started) == {SHOWN}
    assert registered(found) == ("False", "Registering")
    hub.now = FULL
    hub.started.clear()
    await found.settle()
    assert registered(found) == ("True", "Registered")
    assert found.condition("HubRegistered")["message"] == "shown in JupyterHub as server 'zmumu' of user 'alice'"
    found.cluster.writes.clear()
    for _ in range(3):
        found.now += timedelta(minutes=5)
        await found.reconcile(found.key)
    assert (found.cluster.writes, hub.started) == ([], []), "what is shown costs nothing any more"


async def test_a_hub_that_is_away_for_long_costs_one_write() -> None:
    found = bench(ScriptedHub(AWAY))
    await found.settle()
    found.cluster.writes.clear()
    for _ in range(3):
        found.now += timedelta(minutes=5)
        await found.reconcile(found.key)
    assert found.cluster.writes == []


async def test_a_session_is_shown_when_its_notebook_is_ready_and_not_before(ready: dict[str, bool]) -> None:
    ready["ready"] = False
    hub = ScriptedHub(EMPTY)
    found = bench(hub)
    await found.settle()
    assert registered(found) == ("False", "NotReady")
    assert hub.started == []
    ready["ready"] = True
    await found.settle()
    assert set(hub.started) == {SHOWN}


@pytest.mark.parametrize("ready_now", [True, False])
async def test_what_the_hub_itself_starts_is_shown_from_the_first(ready: dict[str, bool], ready_now: bool) -> None:
    ready["ready"] = ready_now
    hub = ScriptedHub(FULL)
    found = bench(hub)
    await found.settle()
    assert registered(found) == ("True", "Registered")
    assert hub.started == []


async def test_a_suspended_session_is_not_brought_back() -> None:
    hub = ScriptedHub(FULL)
    found = bench(hub)
    await found.settle()
    assert hub.looks == 0
    found.change(suspend=True)
    await found.reconcile(found.key)
    assert hub.looks == 1, "its server is about to stop: the view of now must not outlive that"
    hub.now = EMPTY
    await found.settle()
    assert registered(found) == ("False", "Suspended")
    assert hub.started == []
    assert hub.looks == 1
    found.change(suspend=False)
    await found.settle()
    assert set(hub.started) == {SHOWN}


async def test_a_session_that_is_over_is_not_brought_back() -> None:
    hub = ScriptedHub(EMPTY)
    found = bench(hub, lifetimeSeconds=600)
    found.now = NOW + timedelta(seconds=601)
    await found.settle()
    assert registered(found) == ("False", "Finished")
    assert hub.started == []


@pytest.mark.parametrize("reason", ["UnknownUser", "Refused", "Stopped"])
async def test_a_refusal_is_said_and_not_asked_again(reason: str) -> None:
    hub = ScriptedHub(replace(EMPTY, refused={SHOWN: HubRefusal(reason, "because")}))
    found = bench(hub)
    await found.settle()
    assert registered(found) == ("False", reason)
    assert found.condition("HubRegistered")["message"] == "because"
    assert found.condition("Ready")["status"] == "True"
    assert hub.started == []
    hub.now = EMPTY
    await found.reconcile(found.key)
    assert hub.started == [SHOWN]


@pytest.mark.parametrize(
    ("server", "said"), [("", "the default server of user 'alice'"), ("lab", "server 'lab' of user 'alice'")]
)
async def test_the_server_has_the_name_that_the_session_gives_it(server: str, said: str) -> None:
    hub = ScriptedHub(EMPTY)
    found = bench(hub, notebook={"serverName": server})
    await found.settle()
    assert set(hub.started) == {HubServer("alice", server)}
    hub.now = replace(EMPTY, servers=frozenset({HubServer("alice", server)}))
    await found.settle()
    assert found.condition("HubRegistered")["message"] == f"shown in JupyterHub as {said}"


def put(of: Bench, namespace: str, name: str, hour: int, **spec: Any) -> Key:
    body = copy.deepcopy(of.session)
    body["metadata"] = {
        "name": name,
        "namespace": namespace,
        "generation": 1,
        "creationTimestamp": f"2026-11-{hour:02}T12:00:00Z",
    }
    of.cluster.store({**body, "spec": {**body["spec"], **spec}, "status": {}})
    of.deliver()
    return Key(namespace, name)


async def test_of_two_sessions_with_one_name_in_the_hub_the_older_is_shown() -> None:
    hub = ScriptedHub(FULL)
    found = bench(hub)
    other = put(found, "detector", "older", 1, notebook={"serverName": "zmumu"})
    put(found, "detector", "stranger", 1, user="bob", notebook={"serverName": "zmumu"})
    await found.settle()
    assert registered(found) == ("False", "NameTaken")
    assert "is session detector/older" in found.condition("HubRegistered")["message"]
    assert found.condition("Ready")["status"] == "True"
    hub.now = EMPTY
    await found.reconcile(found.key)
    assert hub.started == [], "the server of that name would be the other session"
    assert found.world.runs(SHOWN)
    found.cluster.events.append(("DELETED", found.cluster.objects.pop(("AnalysisSession", *other))))
    found.deliver()
    await found.settle()
    assert set(hub.started) == {SHOWN}


async def test_a_younger_namesake_and_one_that_is_over_take_nothing() -> None:
    found = bench(ScriptedHub(FULL))
    put(found, "detector", "younger", 28, notebook={"serverName": "zmumu"})
    over = put(found, "detector", "over", 1, notebook={"serverName": "zmumu"})
    body = found.cluster.objects["AnalysisSession", *over]
    found.cluster._put("MODIFIED", {**body, "status": {"phase": "Failed"}})
    found.deliver()
    await found.settle()
    assert registered(found) == ("True", "Registered")


async def test_what_the_hub_is_asked_again_just_before() -> None:
    found = bench(ScriptedHub(EMPTY))
    await found.settle()
    assert found.world.runs(SHOWN)
    assert not found.world.runs(HubServer("alice", "other"))
    found.change(suspend=True)
    assert not found.world.runs(SHOWN)


async def test_whose_sessions_are_looked_at_when_the_view_changes() -> None:
    found = bench(ScriptedHub(EMPTY))
    bobs = put(found, "physics", "bobs", 1, user="bob")
    put(found, "physics", "headless", 1, notebook=None, mode="Headless", run={"command": ["true"]})
    assert set(found.world.notebooks()) == {found.key, bobs}
    assert found.world.notebooks(frozenset({"alice"})) == [found.key]


async def test_progress_with_the_hub_waits_for_nobody_and_is_told_in_time() -> None:
    hub = ScriptedHub(EMPTY)
    found = bench(hub)
    await found.settle()
    hub.now = FULL
    due = await found.reconcile(found.key)
    assert due == found.now + QUIET, "one write with whatever else changes"
