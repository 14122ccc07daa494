"""Starts that fail: each says why, what to do next, and leaves nothing to trip over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from jupyterhub import orm
from traitlets import TraitError

from af_client.hub.errors import NotStarted
from af_kube import reflector
from tests.support.fake_api import refusal
from tests.support.fake_transport import condition
from tests.support.spawner_bench import Bench, refused, session_path, until

PATH = session_path("alice-z")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench.opened() as bench:
        yield bench


@pytest.mark.parametrize("name", ["a/b", "-a", "a b", "ä", "a" * 101, "$(reboot)"])
async def test_server_names_that_the_api_refuses(bench: Bench, name: str) -> None:
    bench.user()._new_orm_spawner(name, "")
    assert (await refused(bench.spawner(name))).reason == "bad-name"
    assert bench.api.writes == []


async def test_a_missing_namespace_names_the_admins_step(bench: Bench) -> None:
    bench.api.refuse["POST"] = [
        refusal(404, "NotFound", 'namespaces "alice" not found', name="alice", kind="namespaces")
    ]
    said = (await refused(bench.spawner("z"))).jupyterhub_message
    assert "no namespace 'alice'" in said
    assert "ask your facility's admin to create it" in said


async def test_no_right_in_a_namespace_names_the_admins_step(bench: Bench) -> None:
    text = (
        'is forbidden: User "hub" cannot create resource "analysissessions" in API group "g" in the namespace "alice"'
    )
    bench.api.refuse["POST"] = [refusal(403, "Forbidden", text)]
    failed = await refused(bench.spawner("z"))
    assert "admin" in failed.jupyterhub_message
    assert failed.status_code == 403


async def test_a_start_that_cannot_write_its_secret_leaves_no_session(bench: Bench) -> None:
    bench.api.refuse["PATCH"] = [refusal(403, "Forbidden", "secrets is forbidden")]
    await refused(bench.spawner("z"))
    assert PATH not in bench.api.objects


async def test_an_api_server_that_is_away_is_said_and_no_server_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "GRACE_SECONDS", 0.2)
    spawner = await bench.started(PATH, "z")
    await bench.api.go_away()
    await until(lambda: not spawner.sessions.fresh, 10)
    assert await spawner.poll() is None
    failed = await refused(bench.spawner("other"))
    assert failed.status_code == 503
    assert "API server" in failed.jupyterhub_message


async def test_messages_are_escaped_on_the_page(bench: Bench) -> None:
    no = condition("Accepted", False, "Refused", "<script>alert(1)</script>")
    failed, _ = await asyncio.gather(refused(bench.spawner("z")), bench.operate(PATH, "Refused", no))
    assert "<script>" not in failed.jupyterhub_html_message


async def test_namespace_by_group_and_by_function(bench: Bench) -> None:
    bench.config.AnalysisSessionSpawner.namespace_template = "af-{group}"
    spawner = bench.spawner("z")
    assert (await refused(spawner)).reason == "no-group"
    spawner.user.orm_user.groups = [orm.Group(name="Physics & co"), orm.Group(name="zeta")]
    assert spawner.namespace().startswith("af-physics-co-")
    spawner.namespace_template = lambda it: f"of-{it.user.name}"
    assert spawner.namespace() == "of-alice"
    with pytest.raises(TraitError, match="only"):
        spawner.namespace_template = "{user}"


async def test_a_namespace_that_the_hub_does_not_watch(bench: Bench) -> None:
    bench.config.AnalysisSessionSpawner.namespaces = ["physics"]
    assert "c.AnalysisSessionSpawner.namespaces" in (await refused(bench.spawner("z"))).jupyterhub_message


async def test_a_form_that_cannot_be_made_says_why(bench: Bench) -> None:
    await bench.api.go_away()
    with pytest.raises(NotStarted, match="API server") as error:
        await bench.spawner("z").form()
    assert error.value.status_code == 503


async def test_a_session_whose_creation_was_answered_by_nobody_is_not_made_twice(bench: Bench) -> None:
    spawner = bench.spawner("z")
    await spawner.form()
    bench.api.blind = True
    await bench.apply(PATH, suspend=True, notebook={"serverName": "z"})
    assert spawner.sessions.find("alice", "z") is None
    start = asyncio.create_task(spawner.start())
    await until(lambda: bench.api.objects[PATH]["spec"]["suspend"] is False)
    bench.api.blind = False
    await bench.operate(PATH)
    assert await start
    assert len([path for path in bench.api.objects if "/analysissessions/" in path]) == 1


async def test_only_profiles_that_are_offered_can_be_had_the_default_one_first(bench: Bench) -> None:
    await bench.offer("secret")
    await bench.offer("a-first-one")
    bench.config.AnalysisSessionSpawner.profiles = ["default", "a-first-one"]
    spawner = bench.spawner("z")
    await until(lambda: len(spawner.sessions.profiles.objects) in (0, 3))
    assert [offer.profile for offer in await spawner.offers()] == ["default", "a-first-one"]
    with pytest.raises(NotStarted, match="profile: 'secret' is not offered"):
        await spawner.check_options({"profile": "secret"})
