"""The life of a server of the Hub: created, found, adopted, stopped, deleted; and what it asks of the cluster."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub import orm

from af_client.hub import names, start
from af_client.hub.errors import NotStarted
from tests.support.fake_api import BASE, refusal
from tests.support.fake_transport import condition
from tests.support.spawner_bench import Bench, refused, session_path, until

PATH = session_path("alice-z")
OTHER = session_path(names.session_names("alice", "z")[1])
SECRET = "/api/v1/namespaces/alice/secrets/alice-z-hub"
MADE_BY_OPERATOR = "/api/v1/namespaces/alice/secrets/alice-z-notebook"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench.opened() as bench:
        yield bench


def token_in(secret: dict[str, Any]) -> str:
    return base64.b64decode(secret["data"]["JUPYTERHUB_API_TOKEN"]).decode()


async def make_secret(bench: Bench, path: str, token: str, owner: str, label: str = "") -> None:
    data = {"JUPYTERHUB_API_TOKEN": base64.b64encode(token.encode()).decode()}
    marks = {"ownerReferences": [{"uid": owner}], "labels": {"analysisfacility.io/session-uid": label or owner}}
    await bench.api.put(path, {"metadata": marks, "data": data})


async def test_a_start_costs_three_writes_and_no_read(bench: Bench) -> None:
    spawner = bench.spawner("z")
    await spawner.form()  # as a browser does; the watch is there then
    bench.api.requests.clear()
    url, _ = await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert url == "http://alice-z-notebook.alice.svc:8888"
    assert [(r.verb, r.path) for r in bench.api.requests] == [
        ("POST", f"{BASE}/namespaces/alice/analysissessions"),
        ("POST", SECRET.rpartition("/")[0]),
        ("PATCH", PATH),
    ]
    created = bench.api.requests[0].body
    assert created["spec"]["suspend"] is True  # its server must not run before its environment is there
    assert created["spec"]["user"] == "alice"
    assert created["spec"]["notebook"]["serverName"] == "z"


async def test_the_secret_is_the_hubs_environment_and_goes_with_the_session(bench: Bench) -> None:
    await bench.started(PATH, "z")
    secret, session = bench.api.objects[SECRET], bench.api.objects[PATH]
    environment = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    assert environment["JUPYTERHUB_API_TOKEN"] == "t" * 32
    assert environment["JUPYTERHUB_SERVICE_URL"].startswith("http://0.0.0.0:8888/")
    assert environment["JUPYTERHUB_USER"] == "alice"
    assert not {"PATH", "LANG"} & environment.keys()  # those of the Hub
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("AnalysisSession", session["metadata"]["uid"])
    # As the operator knows all that is a session's: it refers to no Secret but this.
    assert owner["controller"] is True
    assert secret["metadata"]["labels"] == {"analysisfacility.io/session-uid": owner["uid"]}


async def test_stop_suspends_and_start_brings_the_same_session_back_with_a_new_token(bench: Bench) -> None:
    spawner = await bench.started(PATH, "z")
    uid = bench.api.objects[PATH]["metadata"]["uid"]
    assert await spawner.poll() is None
    await spawner.stop()
    assert bench.api.objects[PATH]["spec"]["suspend"] is True
    assert await spawner.poll() == 0
    again = bench.spawner("z", token="n" * 32)
    await asyncio.gather(again.start(), bench.operate(PATH))
    assert bench.api.objects[PATH]["metadata"]["uid"] == uid
    assert token_in(bench.api.objects[SECRET]) == "n" * 32


async def test_the_secret_is_written_while_the_session_is_suspended_and_only_then(bench: Bench) -> None:
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z"})
    spawner = bench.spawner("z")
    await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert bench.api.writes == ["POST alice", "PATCH analysissessions"]


async def test_a_session_applied_by_kubectl_is_adopted_with_the_operators_token(bench: Bench) -> None:
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", body["metadata"]["uid"])
    spawner = bench.spawner("z")
    await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert spawner.api_token == "operator-token-of-it"
    assert bench.api.writes == []
    spawner.start_polling()
    await spawner.stop()
    assert bench.api.objects[PATH]["spec"]["suspend"] is True


async def test_the_hubs_own_token_comes_before_the_operators(bench: Bench) -> None:
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", body["metadata"]["uid"])
    await make_secret(bench, SECRET, "token-of-an-earlier-hub", body["metadata"]["uid"])
    spawner = bench.spawner("z")
    await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert spawner.api_token == "token-of-an-earlier-hub"


async def test_a_secret_of_an_earlier_session_of_the_name_is_not_believed(bench: Bench) -> None:
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    await make_secret(bench, SECRET, "token-of-a-deleted-session", "another-uid")
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", body["metadata"]["uid"])
    spawner = bench.spawner("z")
    await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert spawner.api_token == "operator-token-of-it"


async def test_a_secret_that_only_says_that_it_is_the_sessions_is_not_believed(bench: Bench) -> None:
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    uid = body["metadata"]["uid"]
    await make_secret(bench, SECRET, "a-token-that-mallory-knows", uid, label="none")
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", uid)
    spawner = bench.spawner("z")
    await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert spawner.api_token == "operator-token-of-it"


async def test_it_waits_for_the_right_to_read_the_token(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator gives it with the server, and the API server hears of it a moment later."""
    monkeypatch.setattr(start, "LOOK_SECONDS", 0.05)
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", body["metadata"]["uid"])
    spawner = bench.spawner("z")
    await spawner.form()
    bench.api.refuse["GET"] = [refusal(403, "Forbidden", 'User "hub" cannot get resource "secrets"')] * 3
    await asyncio.gather(spawner.start(), bench.operate(PATH))
    assert spawner.api_token == "operator-token-of-it"
    assert bench.api.refuse["GET"] == []


async def test_a_right_to_the_token_that_never_comes_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "LOOK_SECONDS", 0.05)
    bench.config.AnalysisSessionSpawner.start_timeout = 4  # 3 of which are kept for JupyterHub
    await bench.apply(PATH, notebook={"serverName": "z"})
    spawner = bench.spawner("z")
    await spawner.form()
    bench.api.refuse["GET"] = [refusal(403, "Forbidden", 'User "hub" cannot get resource "secrets"')] * 1000
    failed, _ = await asyncio.gather(refused(spawner), bench.operate(PATH))
    assert "JupyterHub has no right to do this in namespace 'alice'" in failed.jupyterhub_message


async def test_a_session_without_a_token_is_a_clear_error(bench: Bench) -> None:
    await bench.apply(PATH, notebook={"serverName": "z"})
    failed, _ = await asyncio.gather(refused(bench.spawner("z")), bench.operate(PATH))
    assert failed.reason == "no-token"


async def test_another_users_session_is_never_adopted(bench: Bench) -> None:
    await bench.apply(PATH, user="mallory", notebook={"serverName": "z"})
    spawner = bench.spawner("z")
    task = asyncio.create_task(spawner.start())
    await until(lambda: len([p for p in bench.api.objects if "/analysissessions/alice-z-" in p]) == 1)
    (own,) = (p for p in bench.api.objects if "/analysissessions/alice-z-" in p)
    await bench.operate(own)
    assert "alice-z-" in await task
    assert bench.api.objects[PATH]["spec"]["user"] == "mallory"


async def test_of_two_sessions_for_one_server_the_oldest_is_shown_and_one_that_ended_last(bench: Bench) -> None:
    first, second = session_path("one"), session_path("two")
    for path in (first, second):
        body = await bench.apply(path, notebook={"serverName": "z"})
        secret = f"/api/v1/namespaces/alice/secrets/{path.rsplit('/', maxsplit=1)[1]}-notebook"
        await make_secret(bench, secret, f"token-of-{path[-3:]}", body["metadata"]["uid"])
        await bench.operate(path)
    spawner = bench.spawner("z")
    assert "one-notebook" in await spawner.start()
    await bench.api.say(first, "Failed", condition("Ready", False, "Finished", "the lifetime is over"))
    assert "two-notebook" in await bench.spawner("z").start()


async def test_the_operator_gets_shown_what_runs_and_starts_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LOOK_SECONDS", 0.2)
    spawner = bench.spawner("z")
    spawner.handler = SimpleNamespace(current_user=orm.Service(name="af-operator"))
    assert (await refused(spawner)).reason == "no-session"
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z"})
    assert (await refused(spawner)).status_code == 409
    assert bench.api.writes == []
    uid = bench.api.objects[PATH]["metadata"]["uid"]
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", uid)
    body = bench.api.objects[PATH]
    await bench.api.put(PATH, {**body, "spec": {**body["spec"], "suspend": False}})
    await asyncio.gather(spawner.start(), bench.operate(PATH))


async def test_a_service_of_somebody_else_may_start_servers(bench: Bench) -> None:
    spawner = bench.spawner("z")
    spawner.handler = SimpleNamespace(current_user=orm.Service(name="portal"))
    await asyncio.gather(spawner.start(), bench.operate(PATH))


async def test_what_the_operator_refuses_leaves_nothing_behind(bench: Bench) -> None:
    no = condition("Accepted", False, "LimitExceeded", "9 workers: profile 'default' allows 8")
    failed, _ = await asyncio.gather(refused(bench.spawner("z")), bench.operate(PATH, "Refused", no))
    assert "profile 'default' allows 8" in failed.jupyterhub_message
    assert PATH not in bench.api.objects


async def test_what_never_fits_is_said_at_once_and_what_was_there_before_waits_on(bench: Bench) -> None:
    no = condition("HasRoom", False, "QuotaTooSmall", "it never fits: exceeded quota: few")
    failed, _ = await asyncio.gather(refused(bench.spawner("z")), bench.operate(PATH, "Starting", no))
    assert failed.jupyterhub_message == "it never fits: exceeded quota: few. Next: choose less."
    assert PATH not in bench.api.objects
    await bench.api.drop(SECRET)  # as the garbage collector does
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z"})
    bench.config.AnalysisSessionSpawner.start_timeout = 4  # 3 of which are kept for JupyterHub
    bench.restart()
    failed, _ = await asyncio.gather(refused(bench.spawner("z")), bench.operate(PATH, "Starting", no))
    assert failed.reason == "late"
    assert PATH in bench.api.objects


async def test_a_refused_session_that_was_there_before_stays(bench: Bench) -> None:
    await bench.apply(PATH, notebook={"serverName": "z"})
    no = condition("Accepted", False, "LimitExceeded", "too much")
    await bench.api.say(PATH, "Starting", no)
    assert "too much" in (await refused(bench.spawner("z"))).jupyterhub_message
    assert PATH in bench.api.objects


async def test_a_session_that_ended_makes_room_where_the_hub_has_made_it(bench: Bench) -> None:
    spawner = await bench.started(PATH, "z")
    await bench.api.say(PATH, "Failed", condition("Ready", False, "Finished", "the lifetime is over"))
    await until(lambda: spawner.sessions.find("alice", "z").ended)
    assert await spawner.poll() == 1
    # Under the other name of this server: the children of the first are still on their way out.
    await asyncio.gather(bench.spawner("z").start(), bench.operate(OTHER))
    assert PATH not in bench.api.objects


async def test_a_start_that_takes_too_long_suspends_nothing_and_the_late_session_is_found(bench: Bench) -> None:
    bench.config.AnalysisSessionSpawner.start_timeout = 4  # 3 of which are kept for JupyterHub
    spawner = bench.spawner("z")
    waits = condition("Ready", False, "Unschedulable", "Dask: 0 of 1 workers: no node with a GPU is free")
    failed, _ = await asyncio.gather(
        refused(spawner), bench.operate(PATH, "Starting", condition("Accepted", True), waits)
    )
    assert "no node with a GPU is free" in failed.jupyterhub_message
    spawner._spawn_future = asyncio.Future()
    await spawner.stop()  # which is what JupyterHub does after every start that failed, as part of it
    assert bench.api.objects[PATH]["spec"]["suspend"] is False
    bench.restart()
    late = bench.spawner("z", token="x" * 32)
    _, url = await asyncio.gather(bench.operate(PATH), late.start())
    assert url.startswith("http://alice-z-notebook")
    assert late.api_token == "t" * 32  # with which the server runs


async def test_a_server_that_jupyterhub_cannot_reach_is_not_suspended(bench: Bench) -> None:
    spawner = await bench.started(PATH, "z")
    spawner._waiting_for_response = True
    await spawner.stop()
    assert bench.api.objects[PATH]["spec"]["suspend"] is False
    spawner._waiting_for_response = False
    await spawner.stop()
    assert bench.api.objects[PATH]["spec"]["suspend"] is True


async def test_after_a_restart_of_the_hub_servers_are_found_and_none_is_stopped(bench: Bench) -> None:
    state = (await bench.started(PATH, "z")).get_state()
    assert set(state) == {"namespace", "name", "uid"}  # and no token
    bench.restart()
    spawner = bench.spawner("z")
    spawner.load_state(state)
    assert await spawner.poll() is None
    await spawner.stop()  # JupyterHub, when the server does not answer it at once
    assert bench.api.objects[PATH]["spec"]["suspend"] is False
    spawner.start_polling()
    await spawner.stop()
    assert bench.api.objects[PATH]["spec"]["suspend"] is True


async def test_without_a_state_there_is_no_server(bench: Bench) -> None:
    assert await bench.spawner("z").poll() == 0
    spawner = bench.spawner("y")
    spawner.load_state({})
    assert await spawner.poll() == 0
    assert spawner.get_state() == {}


async def test_poll_costs_no_request(bench: Bench) -> None:
    spawner = await bench.started(PATH, "z")
    bench.api.requests.clear()
    assert [await spawner.poll() for _ in range(50)] == [None] * 50
    assert bench.api.requests == []


@pytest.mark.parametrize("how", ["deleted", "suspended", "ended"])
async def test_what_ends_a_session_under_the_hub_is_noticed_at_once(bench: Bench, how: str) -> None:
    spawner = await bench.started(PATH, "z")
    stopped = asyncio.Event()
    spawner.add_poll_callback(stopped.set)
    body = bench.api.objects[PATH]
    if how == "deleted":
        await bench.api.drop(PATH)
    elif how == "suspended":
        await bench.api.put(PATH, {**body, "spec": {**body["spec"], "suspend": True}})
    else:
        await bench.api.say(PATH, "Failed", condition("Ready", False, "Finished", "over"))
    await asyncio.wait_for(stopped.wait(), 1)


async def test_who_polls_before_the_hub_listens_does_not_make_it_deaf(bench: Bench) -> None:
    spawner = await bench.started(PATH, "z")
    await bench.api.drop(PATH)
    await until(lambda: spawner.sessions.find("alice", "z") is None)
    assert await spawner.poll_and_notify() is None  # nobody is there yet to be told
    stopped = asyncio.Event()
    spawner.add_poll_callback(stopped.set)
    assert await spawner.poll_and_notify() == 0
    assert stopped.is_set()


async def test_removing_a_server_deletes_its_session_and_no_other(bench: Bench) -> None:
    await bench.started(PATH, "z")
    other = session_path("other")
    await bench.apply(other, user="bob", notebook={"serverName": "z"})
    await bench.spawner("z").delete_forever()
    assert PATH not in bench.api.objects
    assert other in bench.api.objects
    await bench.spawner("never-started").delete_forever()


async def test_a_server_of_a_session_is_not_renamed(bench: Bench) -> None:
    await bench.started(PATH, "z")
    with pytest.raises(NotStarted, match="cannot be renamed"):
        await bench.spawner("z").rename("z", "y")
    await bench.spawner("fresh").rename("fresh", "y")


async def test_extra_oauth_scopes_survive_the_adoption(bench: Bench) -> None:
    bench.config.AnalysisSessionSpawner.oauth_client_allowed_scopes = ["read:users!user"]
    body = await bench.apply(PATH, notebook={"serverName": "z"})
    await make_secret(bench, MADE_BY_OPERATOR, "operator-token-of-it", body["metadata"]["uid"])
    await bench.operate(PATH)
    user, spawner = bench.user(), bench.spawner("z")

    async def no_wait(_: Any) -> None:
        """Nothing answers behind a fake API server."""

    user.__dict__["_wait_up"] = no_wait
    await user.spawn("z", "", {})
    client = bench.db.query(orm.OAuthClient).filter_by(identifier=spawner.oauth_client_id).one()
    assert set(client.allowed_scopes) == {"read:users!user", "access:servers!server=alice/z"}
    assert orm.APIToken.find(bench.db, "operator-token-of-it").user.name == "alice"
