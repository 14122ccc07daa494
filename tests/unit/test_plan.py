"""needs_apply, ownership and stamping: tables."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import drift, names, ownership, plan
from af_operator.model import Manifest
from af_operator.observed import Observed
from af_operator.world import parse_session
from tests.support.bench import SPEC

SESSION = parse_session(
    {
        "metadata": {
            "namespace": "physics",
            "name": "zmumu",
            "uid": "s-1",
            "generation": 1,
            "creationTimestamp": "2026-11-21T12:00:00Z",
        },
        "spec": SPEC,
    }
)


def child(name: str, uid: str, owner: str, applied: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": "physics",
            "uid": uid,
            "ownerReferences": [{"uid": owner, "controller": True, "kind": "X", "name": "x", "apiVersion": "v1"}],
            "managedFields": [{"manager": names.MANAGER, "operation": "Apply"}] if applied else [],
        },
    }


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"a": 2}, True),
        ({"a": 1}, {}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "defaulted": True}}, False),
        ({"a": [{"n": 1}]}, {"a": [{"n": 1, "defaulted": True}]}, False),
        ({"a": [{"n": 1}]}, {"a": [{"n": 1}, {"n": 2}]}, True),
        ({"a": []}, {"a": None}, True),
        ({"a": "1"}, {"a": 1}, True),
    ],
)
def test_needs_apply_compares_what_we_want_with_what_is(want: Any, have: Any, expected: bool) -> None:
    assert drift.needs_apply(want, {"metadata": {}, **have}) is expected


def test_needs_apply_creates_what_is_missing_and_waits_for_what_is_going() -> None:
    assert drift.needs_apply({"a": 1}, None)
    assert not drift.needs_apply({"a": 1}, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})


def test_ownership_is_by_uid_and_by_who_applied() -> None:
    mine = child("mine", "c-1", "s-1")
    adopted = child("adopted", "c-2", "c-1")
    others = child("others", "c-3", "c-1", applied=False)
    foreign = child("foreign", "c-4", "s-2")
    copied = child("copied", "c-5", "s-1", applied=False)
    world = Observed(children=(mine, adopted, others, foreign, copied))
    assert [ownership.of_session(SESSION, c, world) for c in world.children] == [True, True, False, False, False]


def test_a_stamped_object_keeps_the_owner_that_dask_kubernetes_gave_it() -> None:
    cluster, group = child("cluster", "c-1", "s-1"), child("group", "c-2", "c-1")
    bare = Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "group"}, "data": {}})
    before = plan.stamp(SESSION, "dask", bare, Observed())
    after = plan.stamp(SESSION, "dask", bare, Observed(children=(cluster, group)))
    assert before.body["metadata"]["ownerReferences"][0]["uid"] == "s-1"
    assert after.body["metadata"]["ownerReferences"][0]["uid"] == "c-1"
    hashes = {m.body["metadata"]["annotations"][names.APPLIED_HASH] for m in (before, after)}
    assert len(hashes) == 1, "a change of owner is no change of ours"


def test_the_hash_changes_with_the_content() -> None:
    def digest(data: dict[str, str]) -> str:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}
        stamped = plan.stamp(SESSION, "run", Manifest(body), Observed())
        return str(stamped.body["metadata"]["annotations"][names.APPLIED_HASH])

    assert digest({"a": "1"}) == digest({"a": "1"})
    assert digest({"a": "1"}) != digest({"a": "2"})
