"""Names: valid, short enough for what others append, and never equal for different things."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_operator import names, ownership
from tests.support.objects import session

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
session_names = st.from_regex(r"[a-z]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True)
pool_names = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)


@given(session_names, pool_names)
def test_every_name_is_a_dns_label(name: str, pool: str) -> None:
    s = session(name)
    plain = [names.run_job(s), names.run_source(s), names.run_log(s), names.xcache(s), names.xcache_config(s)]
    plain += [names.notebook(s), names.notebook_pod(s), names.notebook_hub_secret(s), names.home(name)]
    service = f"{names.dask_cluster(s)}-scheduler"
    worker = f"{names.dask_group(s, pool, 'abcdef')}-worker-0123456789"
    for found in [*plain, service, worker]:
        assert len(found) <= 63
        assert DNS_LABEL.fullmatch(found)
    assert len(names.dask_cluster(s)) <= 53  # dask-kubernetes refuses longer ones


@given(st.lists(st.text(min_size=1, max_size=100), min_size=2, max_size=2, unique=True), st.integers(20, 63))
def test_different_texts_get_different_names(texts: list[str], limit: int) -> None:
    one, other = (names.fit(text, limit) for text in texts)
    assert one != other


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("zmumu", 63, "zmumu"),
        ("a" * 63, 63, "a" * 63),
        ("a.b", 63, r"a-b-[0-9a-f]{8}"),
        ("1abc", 63, r"s-1abc-[0-9a-f]{8}"),
        ("a" * 64, 63, r"a{54}-[0-9a-f]{8}"),
        ("UPPER", 63, r"upper-[0-9a-f]{8}"),
    ],
)
def test_fit(text: str, limit: int, expected: str) -> None:
    assert re.fullmatch(expected, names.fit(text, limit))


@given(st.text(min_size=1, max_size=253))
def test_label_values_are_valid(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", names.label_value(text))


def test_results_of_two_sessions_of_one_name_never_meet() -> None:
    s = session("zmumu")
    assert names.results_url(s, "root://x//r/") == f"root://x//r/physics/zmumu-{s.uid}"


def test_pool_is_only_on_what_belongs_to_a_pool() -> None:
    assert names.POOL not in names.labels(session(), "dask")
    assert names.labels(session(), "dask", "cpu")[names.POOL] == "cpu"


LONG = "x" * 200


@pytest.mark.parametrize(
    ("user", "server", "path"),
    [
        ("alice", None, "/user/alice/zmumu/"),
        ("alice", "", "/user/alice/"),
        ("alice", "Plots.2", "/user/alice/Plots.2/"),
        ("../admin", None, "/user/..%2Fadmin/zmumu/"),
        (LONG, None, f"/user/{LONG}/zmumu/"),
        ("ada@example.org", None, "/user/ada@example.org/zmumu/"),
        ("~zμ \U0001f680", None, "/user/~z%CE%BC%20%F0%9F%9A%80/zmumu/"),
        ("a?b#c%2F&d", None, "/user/a%3Fb%23c%252F%26d/zmumu/"),
        ("system:serviceaccount:physics:alice", None, "/user/system%3Aserviceaccount%3Aphysics%3Aalice/zmumu/"),
    ],
)
def test_where_the_hub_has_the_server(user: str, server: str | None, path: str) -> None:
    s = session(user=user, notebook={} if server is None else {"serverName": server})
    assert names.hub_path(s) == names.hub_path(s, "") == path
    assert names.hub_path(s, "/lab/") == names.hub_path(s, "/lab") == f"/lab{path}"


# A user may be called what the volume of another one is called: then the volume says whose it is.
UGLY = [
    "alice",
    "Alice",
    "ALICE",
    "alice ",
    "a/lice",
    "../alice",
    "alice@x",
    "alice@y",
    LONG,
    LONG + "x",
    "zμ",
    "1",
    "-",
]


def test_each_user_has_a_home_of_their_own() -> None:
    assert len({names.home(user) for user in UGLY}) == len(UGLY)
    assert len({names.label_value(user) for user in UGLY}) == len(UGLY)
    assert names.home("alice") == "home-alice"


def claim(user: str | None, manager: str = "af-operator", operation: str = "Update", **more: Any) -> dict[str, Any]:
    annotations = {} if user is None else {names.USER: user}
    entry = {"manager": manager, "operation": operation, **more}
    return {"metadata": {"annotations": annotations, "labels": {names.USER: "alice"}, "managedFields": [entry]}}


@pytest.mark.parametrize(
    ("found", "same"),
    [
        (claim("alice"), True),
        (claim("Alice"), False),
        (claim(None), False),
        (claim(""), False),
        (claim("alice", "kubectl"), False),
        (claim("alice", operation="Apply"), True),
        (claim("alice", subresource="status"), False),
        ({"metadata": claim("alice")["metadata"] | {"labels": {}}}, False),
        ({"metadata": {}}, False),
    ],
)
def test_what_is_shared_belongs_to_its_user(found: dict[str, Any], same: bool) -> None:
    assert ownership.same_owner(found, claim("alice")) is same
    assert ownership.same_owner(found, claim(None)) is False, "nobody's is nobody's"


def owned(uid: str, label: str | None = None, manager: str = "af-operator") -> dict[str, Any]:
    return {
        "metadata": {
            "ownerReferences": [{"uid": uid, "controller": True}],
            "labels": {names.SESSION_UID: label or uid},
            "managedFields": [{"manager": manager, "operation": "Update"}],
        }
    }


def test_what_a_session_owns_belongs_to_it_alone() -> None:
    assert ownership.same_owner(owned("1"), owned("1"))
    assert not ownership.same_owner(owned("2"), owned("1"))
    assert not ownership.same_owner(owned("1", label="2"), owned("1")), "the label is what nobody else may set"
    assert not ownership.same_owner(owned("1", manager="kubectl"), owned("1"))
    assert not ownership.same_owner(claim("alice"), owned("1"))
    assert not ownership.same_owner(owned("1"), claim("alice"))
