"""Names of sessions and namespaces from what people are called, however they are called."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_client.hub import names
from af_operator.api.common import NAME
from af_operator.api.session import SERVER_NAME

UGLY = [
    ("alice", ""),
    ("alice", "zmumu"),
    ("Alice", "zmumu"),
    ("alice", "Zmumu"),
    ("alice", "z.mumu"),
    ("alice", "z_mumu"),
    ("a-b", "c"),
    ("a", "b-c"),
    ("a-b-c", ""),
    ("a", "b--c"),
    ("a", "b.c"),
    ("../admin", ""),
    ("admin", ""),
    ("..%2fadmin", ""),
    ("a" * 200, ""),
    ("a" * 201, ""),
    ("a" * 200, "x"),
    ("a" * 39, ""),
    ("a" * 40, ""),
    ("a" * 41, ""),
    ("", "alice"),
    ("björn", ""),
    ("bjorn", ""),
    ("Ω", ""),
    ("中", ""),
    ("1alice", ""),
    ("s-1alice", ""),
    ("alice@cern.ch", ""),
    ("alice-cern-ch", ""),
    ("https://iam.example.org#alice", ""),
    ("system:serviceaccount:physics:alice", ""),
    ("alice", "zmumu-f09c377749"),  # as if hashed: the name of alice's server zmumu if that had to be
    ("alice", "zmumu-0123456789"),
    ("alice", "zmumu-f09c377749-01234567"),  # the same of one that is random
]


def test_every_name_is_one_that_the_api_server_takes() -> None:
    for user, server in UGLY:
        for name in names.session_names(user, server):
            assert len(name) <= 40
            assert re.fullmatch(NAME, name), name


def test_no_two_servers_share_a_name() -> None:
    for one, other in combinations(UGLY, 2):
        assert not set(names.session_names(*one)) & set(names.session_names(*other)), (one, other)


def test_what_is_simple_stays_readable() -> None:
    assert names.session_names("alice", "zmumu")[0] == "alice-zmumu"
    assert names.session_names("alice", "")[0] == "alice"


ANY = st.text(max_size=60)
NEAR = st.text(alphabet="ab-1.", max_size=8)
"""Where collisions would be found, if there were any."""


@given(st.tuples(ANY | NEAR, ANY | NEAR), st.tuples(ANY | NEAR, ANY | NEAR))
def test_no_two_servers_share_a_name_whatever_they_are_called(one: tuple[str, str], other: tuple[str, str]) -> None:
    found = names.session_names(*one)
    assert all(len(name) <= 40 and re.fullmatch(NAME, name) for name in found)
    assert found == names.session_names(*one)
    if one != other:
        assert not set(found) & set(names.session_names(*other))


@given(st.tuples(ANY | NEAR, ANY | NEAR), st.tuples(ANY | NEAR, ANY | NEAR))
def test_a_further_name_is_new_each_time_and_no_other_servers(one: tuple[str, str], other: tuple[str, str]) -> None:
    found = names.another(*one)
    assert len(found) <= 40
    assert re.fullmatch(NAME, found)
    assert names.another(*one) != found
    assert names.made_here(found, *one)
    assert not set(names.session_names(*one)) & {found}
    if one != other:
        assert not names.made_here(found, *other)


@pytest.mark.parametrize(
    ("template", "user", "group", "expected"),
    [
        ("{username}", "alice", "", "alice"),
        ("{username}", "../admin", "", "admin-88a9d7c3"),
        ("af-{group}", "alice", "physics", "af-physics"),
        ("physics", "alice", "", "physics"),
    ],
)
def test_namespace(template: str, user: str, group: str, expected: str) -> None:
    found = names.namespace(template, user, group)
    assert found == expected


@given(ANY)
def test_namespaces_are_labels_of_at_most_63(user: str) -> None:
    found = names.namespace("team-{username}-x", user, "")
    assert len(found) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", found)


@given(ANY)
def test_server_names_are_those_of_the_crd(name: str) -> None:
    assert bool(names.SERVER_NAME.fullmatch(name)) == bool(re.fullmatch(SERVER_NAME, name))
