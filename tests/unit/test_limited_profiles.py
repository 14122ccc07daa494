"""Where a facility limits its profiles to users, the Hub offers and takes those alone that its user may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from jupyterhub import orm

from af_client.errors import Forbidden
from af_client.hub.errors import NotStarted
from tests.support.spawner_bench import Bench, refused, session_path

PATH = session_path("alice-z")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(limit_profiles=True)
    for name in ("default", "large", "secret"):
        await bench.offer(name)
    yield bench
    await bench.close()


async def offered(bench: Bench, user: str = "alice") -> list[str]:
    return [offer.profile for offer in await bench.spawner("z", user).offers()]


async def test_what_a_user_may_use_is_offered_and_nothing_else(bench: Bench) -> None:
    bench.api.granted = {("alice", "large"), ("alice", "default"), ("bob", "secret"), ("a-group", "secret")}
    assert await offered(bench) == ["default", "large"]
    form = await bench.spawner("z").form()
    assert "large" in form
    assert "secret" not in form
    assert await offered(bench, "bob") == ["secret"]


async def test_it_is_asked_of_the_users_groups_too_in_the_namespace_of_their_session(bench: Bench) -> None:
    bench.api.granted = {("gpu-users", "large"), ("system:authenticated", "default"), ("system:masters", "secret")}
    row = bench.user().orm_user
    row.groups = [orm.Group(name="gpu-users"), orm.Group(name="system:masters")]
    bench.db.commit()
    assert await offered(bench) == ["default", "large"]
    asked = [r.body["spec"] for r in bench.api.requests if r.path.endswith("/subjectaccessreviews")]
    assert {spec["resourceAttributes"]["namespace"] for spec in asked} == {"alice"}
    assert [spec["groups"] for spec in asked] == [["gpu-users", "system:authenticated"]] * 3


async def test_what_is_not_offered_is_not_taken(bench: Bench) -> None:
    bench.api.granted = {("alice", "large")}
    spawner = bench.spawner("z")
    with pytest.raises(NotStarted, match="profile: 'secret' is not offered: allowed: large"):
        await spawner.check_options({"profile": "secret"})
    spawner.user_options = {"profile": "secret"}
    assert "profile: 'secret' is not offered" in (await refused(spawner)).jupyterhub_message
    assert PATH not in bench.api.objects
    await spawner.check_options({"profile": "large"})


async def test_who_may_use_none_is_told(bench: Bench) -> None:
    spawner = bench.spawner("z")
    assert "This facility offers you no profile: ask its admin" in await spawner.form()
    assert "offers you no profile" in (await refused(spawner)).jupyterhub_message


async def test_a_session_that_is_there_is_its_users_whatever_they_may_use_by_now(bench: Bench) -> None:
    bench.api.granted = {("alice", "default")}
    await bench.started(PATH, "z")
    bench.api.granted = set()
    await bench.spawner("z").check_options({})


async def test_a_right_that_the_hub_lacks_is_said(bench: Bench) -> None:
    bench.api.refuse["POST"] = [Forbidden('User "hub" cannot create resource "subjectaccessreviews"')]
    with pytest.raises(NotStarted, match="ask your facility's admin"):
        await bench.spawner("z").offers()


async def test_where_nothing_is_limited_nobody_is_asked() -> None:
    async with Bench.opened() as bench:
        assert await offered(bench) == ["default"]
        assert not [r for r in bench.api.requests if r.path.endswith("/subjectaccessreviews")]
