"""The spawner in the real JupyterHub: what its API answers, what its pages show, and what survives its restart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_api import BASE, FakeApi
from tests.support.fake_transport import condition
from tests.support.forms import Form
from tests.support.hub_in_process import HubBrowser, HubInProcess
from tests.support.spawner_bench import PROFILE, session_path, until

PATH = session_path("alice-z", "physics")
SERVER = "/users/alice/servers/z"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubInProcess]:
    api = FakeApi()
    await api.put(f"{BASE}/analysisprofiles/default", dict(PROFILE))
    async with HubInProcess.opened(api, tmp_path) as hub:
        for user in ("alice", "bob"):
            await hub.ask("POST", f"/users/{user}")
        yield hub


async def progress(hub: HubInProcess, path: str = SERVER) -> list[dict[str, Any]]:
    _, text = await hub.ask("GET", f"{path}/progress")
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def test_start_stop_and_remove_over_rest(hub: HubInProcess) -> None:
    status, text = await hub.ask("POST", SERVER, {"pools": {"cpu": {"workers": 2}}})
    assert status == 201, text
    assert hub.api.objects[PATH]["spec"]["dask"]["pools"][0]["workers"]["max"] == 2
    assert (await hub.server("alice", "z"))["ready"]
    assert (await hub.ask("DELETE", SERVER))[0] == 204
    assert hub.api.objects[PATH]["spec"]["suspend"] is True
    assert (await hub.ask("DELETE", SERVER, {"remove": True}))[0] == 204
    assert PATH not in hub.api.objects


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "evil"}, "image: 'evil' is not offered: allowed: analysis, ml"),
        ({"pools": {"cpu": {"workers": 99}}}, "pools.cpu.workers: 99 is over the limit: allowed: at most 8"),
        ({"command": ["sh"]}, "'command' is unknown"),
    ],
)
async def test_a_bad_value_is_a_400_that_names_field_and_choices(hub: HubInProcess, options: Any, message: str) -> None:
    status, text = await hub.ask("POST", SERVER, options)
    assert status == 400
    assert message in json.loads(text)["message"]
    assert hub.api.writes == []


async def test_failures_of_sessions_are_no_failures_of_the_hub(hub: HubInProcess) -> None:
    hub.operator = ("Refused", condition("Accepted", False, "LimitExceeded", "too many of them"))
    for _ in range(3):  # consecutive_failure_limit is 2
        status, text = await hub.ask("POST", SERVER, {})
        assert (status, "too many of them" in text) == (400, True)
        assert PATH not in hub.api.objects
    assert hub.hub.tornado_application.settings["failure_count"] == 0
    *_, last = await progress(hub)
    assert last["failed"]
    assert "too many of them. Next: choose again" in last["message"]


async def test_with_the_operator_away_a_start_waits_and_comes_good(hub: HubInProcess) -> None:
    good, hub.operator = hub.operator, None
    hub.answer_before_the_end()
    status, _ = await hub.ask("POST", SERVER, {})
    assert status == 202
    told = asyncio.create_task(progress(hub))
    hub.operator = good
    events = await told
    assert events[-1]["ready"], events
    assert (await hub.server("alice", "z"))["ready"]


async def test_who_stops_a_server_that_is_still_starting_has_it_stopped(hub: HubInProcess) -> None:
    good, hub.operator = hub.operator, None
    hub.answer_before_the_end()
    assert (await hub.ask("POST", SERVER, {}))[0] == 202
    await until(lambda: hub.api.objects.get(PATH, {}).get("spec", {}).get("suspend") is False)
    assert (await hub.ask("DELETE", SERVER))[0] == 204
    assert hub.api.objects[PATH]["spec"]["suspend"] is True
    hub.operator = good
    assert (await hub.ask("POST", SERVER, {}))[0] in (201, 202)  # and comes back as any other
    await hub.until("alice", "z", ready=True)
    assert hub.api.objects[PATH]["spec"]["suspend"] is False


async def test_what_kubectl_does_under_the_hub_is_seen_at_once(hub: HubInProcess) -> None:
    assert hub.hub.spawner_class.poll_interval.default_value > hub.UNTIL_SECONDS, "it is not JupyterHub that looks"
    for server in ("z", "y"):
        assert (await hub.ask("POST", f"/users/alice/servers/{server}", {}))[0] == 201
    await hub.api.drop(PATH)
    other = hub.api.objects[session_path("alice-y", "physics")]
    await hub.api.put(session_path("alice-y", "physics"), {**other, "spec": {**other["spec"], "suspend": True}})
    for server in ("z", "y"):
        await hub.until("alice", server, ready=False, pending=None)
    assert (await hub.ask("POST", SERVER, {}))[0] == 201  # and can be started again


async def test_a_restart_of_the_hub_finds_servers_and_stops_none(hub: HubInProcess) -> None:
    for user in ("alice", "bob"):
        assert (await hub.ask("POST", f"/users/{user}/servers/z", {}))[0] == 201
    tokens = {p: b for p, b in hub.api.objects.items() if "/secrets/" in p}
    await hub.end()
    hub.api.requests.clear()
    await hub.begin()
    for user in ("alice", "bob"):
        assert (await hub.until(user, "z", ready=True))["ready"]
    assert hub.api.writes == []
    assert tokens == {p: b for p, b in hub.api.objects.items() if "/secrets/" in p}
    assert (await hub.ask("DELETE", SERVER))[0] == 204
    assert hub.api.objects[PATH]["spec"]["suspend"] is True


async def test_a_server_that_does_not_answer_after_a_restart_is_left_alone(hub: HubInProcess) -> None:
    assert (await hub.ask("POST", SERVER, {}))[0] == 201
    await hub.end()
    hub.answers = False
    await hub.begin()
    assert not (await hub.until("alice", "z", pending=None)).get("ready")
    assert hub.api.objects[PATH]["spec"]["suspend"] is False
    hub.answers = True
    assert (await hub.ask("POST", SERVER))[0] == 201
    assert "PATCH secrets" not in hub.api.writes[3:]  # the running server keeps its environment


async def test_a_hub_that_lost_its_database_adopts_what_runs(hub: HubInProcess) -> None:
    assert (await hub.ask("POST", SERVER, {}))[0] == 201
    secret = hub.api.objects["/api/v1/namespaces/physics/secrets/alice-z-hub"]
    await hub.end()
    (hub.folder / "hub.sqlite").unlink()
    await hub.begin()
    await hub.ask("POST", "/users/alice")
    assert (await hub.ask("POST", SERVER))[0] == 201
    assert hub.api.objects["/api/v1/namespaces/physics/secrets/alice-z-hub"] == secret
    assert hub.api.objects[PATH]["spec"]["suspend"] is False


async def test_twenty_starts_at_once_cost_sixty_writes_and_the_hub_answers(hub: HubInProcess) -> None:
    await hub.ask("POST", "/users/alice/servers/first", {})
    hub.api.requests.clear()
    waits, done = [0.0], asyncio.Event()

    async def health() -> None:
        while not done.is_set():
            began = time.monotonic()
            async with hub.http.get(f"{hub.url}/hub/health") as answer:
                assert answer.status == 200
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    watching, first = asyncio.create_task(health()), time.monotonic()
    await asyncio.gather(*(hub.ask("POST", f"/users/alice/servers/s{n}", {}) for n in range(20)))
    for n in range(20):
        await hub.until("alice", f"s{n}", ready=True)
    done.set()
    await watching
    assert len(hub.api.writes) == 60
    assert [r for r in hub.api.requests if r.verb == "GET" and "watch" not in r.query] == []
    assert max(waits) < (time.monotonic() - first) / 3, "nobody else is served while servers start"


@pytest.fixture
async def alice(hub: HubInProcess) -> AsyncIterator[HubBrowser]:
    browser = HubBrowser(hub)
    await browser.login("alice")
    yield browser
    await browser.http.close()


async def test_the_page_shows_the_form_and_sending_it_starts_the_server(hub: HubInProcess, alice: HubBrowser) -> None:
    status, page = await alice.get("/spawn/alice/z")
    assert (status, "Workers on cpu" in page) == (200, True)
    status, page = await alice.send("/spawn/alice/z", {"size": "large", "workers.cpu": "3"})
    assert status == 302, page
    await hub.until("alice", "z", ready=True)
    spec = hub.api.objects[PATH]["spec"]
    assert spec["notebook"] == {"size": "large", "serverName": "z"}
    assert spec["dask"]["pools"][0]["workers"] == {"min": 1, "max": 3}


async def test_one_click_is_a_notebook_and_the_next_form_remembers_what_was_chosen(
    hub: HubInProcess, alice: HubBrowser
) -> None:
    _, page = await alice.get("/spawn/alice/z")
    assert (await alice.send("/spawn/alice/z", Form(page).values()))[0] == 302
    await hub.until("alice", "z", ready=True)
    assert hub.api.objects[PATH]["spec"].keys() & {"dask", "spark", "inference"} == set()
    _, page = await alice.get("/spawn/alice/y")
    assert (await alice.send("/spawn/alice/y", Form(page).values() | {"start": "gpu", "size": "large"}))[0] == 302
    await hub.until("alice", "y", ready=True)
    for _ in range(2):  # whatever was begun for it, nothing is stored of it before it is sent
        _, page = await alice.get("/spawn/alice/new")
        assert {"start": "gpu", "size": "large"}.items() <= Form(page).values().items()


async def test_a_form_that_is_refused_comes_back_with_the_reason(hub: HubInProcess, alice: HubBrowser) -> None:
    status, page = await alice.send("/spawn/alice/z", {"workers.cpu": "99"})
    assert status == 400
    assert "pools.cpu.workers: 99 is over the limit: allowed: at most 8" in page
    assert "Workers on cpu" in page
    assert hub.api.writes == []


async def test_a_link_fills_in_the_form_and_starts_nothing(hub: HubInProcess, alice: HubBrowser) -> None:
    status, page = await alice.get("/spawn/alice/z?opt-size=large&opt-workers.cpu=3")
    assert status == 200
    assert '<option value="large" selected>' in page
    assert 'name="workers.cpu" value="3"' in page
    assert "spawn-error-msg" not in page
    status, page = await alice.get("/spawn/alice/z?opt-image=%3Cscript%3E")
    assert status == 400
    assert "allowed: analysis, ml" in page
    assert "&lt;script&gt;" in page
    assert hub.api.writes == []


async def test_a_stopped_server_shows_what_it_is_and_comes_back(hub: HubInProcess, alice: HubBrowser) -> None:
    await hub.ask("POST", SERVER, {"size": "large"})
    await hub.ask("DELETE", SERVER)
    _, page = await alice.get("/spawn/alice/z")
    assert "comes back as it was" in page
    assert (await alice.send("/spawn/alice/z", {}))[0] == 302
    await hub.until("alice", "z", ready=True)
    assert hub.api.objects[PATH]["spec"]["notebook"]["size"] == "large"


async def test_the_page_of_a_failed_start_says_why(hub: HubInProcess, alice: HubBrowser) -> None:
    hub.operator = ("Refused", condition("Accepted", False, "LimitExceeded", "too many <b>of them</b>"))
    await hub.ask("POST", SERVER, {})
    _, page = await alice.get("/spawn-pending/alice/z")
    assert "too many &lt;b&gt;of them&lt;/b&gt;" in page
    assert "<strong>Next:</strong>" in page
