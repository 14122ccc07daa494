"""Bodies as bytes: they come out as they went in, whatever came first, and alike ones cost little."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_kube import packing as packing_module
from af_kube.packing import WINDOW, Packing
from af_kube.store import Key, Store

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """Return a body of about the size and the sort of a pod."""
    metadata = {"name": name, "namespace": "physics", "uid": f"uid-{name}", "resourceVersion": "7"}
    environment = [{"name": f"VARIABLE_{n}", "value": f"value of {n}"} for n in range(40)]
    return {"metadata": metadata, "spec": {"containers": [{"name": "main", "env": environment}]} | spec}


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), min_size=1, max_size=5))
def test_whatever_goes_in_comes_out(bodies: list[dict[str, Any]]) -> None:
    packing = Packing()
    packed = [packing.pack(body) for body in bodies]
    assert [packing.unpack(each) for each in packed] == bodies


@pytest.mark.parametrize("size", [WINDOW - 1, WINDOW, 10 * WINDOW])
def test_a_first_one_of_any_size_serves_as_the_dictionary(size: int) -> None:
    packing = Packing()
    large = pod("large", text="x" * size)
    assert packing.unpack(packing.pack(large)) == large
    assert packing.unpack(packing.pack(pod("next"))) == pod("next")


def test_one_that_is_like_the_first_costs_a_tenth_of_its_text() -> None:
    packing = Packing()
    packing.pack(pod("first"))
    assert len(packing.pack(pod("second"))) < len(json.dumps(pod("second"))) / 10


def test_what_several_look_at_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = Packing()
    packed = packing.pack(pod("seen-again"))
    first = packing.unpack(packed)
    monkeypatch.setattr(packing_module.json, "loads", lambda _: pytest.fail("unpacked again"))
    assert packing.unpack(packed) is first


def test_two_kinds_do_not_share_a_dictionary() -> None:
    pods, jobs = Packing(), Packing()
    pods.pack(pod("first"))
    jobs.pack({"kind": "Job", "spec": {"completions": 1}})
    assert pods.unpack(pods.pack(pod("a"))) == pod("a")
    assert jobs.unpack(jobs.pack(pod("a"))) == pod("a")


def test_it_is_what_a_store_keeps_its_bodies_in() -> None:
    packing = Packing()
    store = Store(packing.pack, packing.unpack, {"node": lambda body: body["spec"].get("nodeName")})
    store.put(pod("one", nodeName="n"))
    store.put(pod("two"))
    assert store.get(Key("physics", "two")) == pod("two")
    assert list(store.by("node", "n")) == [pod("one", nodeName="n")]
