"""Rendering: values can never become structure, and every character survives."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from af_operator.components import run
from af_operator.render import parse, plain, render

NASTY = [
    "",
    "plain",
    "a: b",
    "- x",
    "yes",
    "null",
    "2026-01-01",
    "0x10",
    "1e3",
    "{{ x }}{% if %}",
    "line\nbreak\ttab\r\n",
    '"quoted" \\ back',
    "#comment",
    "---\nkind: Secret",
    "Z \u2192 \u03bc\u03bc",
    "\U0001f600 beyond",
    "\x7f\x85\u2028\u2029\ufeff\x00\x1b",
    "&anchor *alias !!python/object:os.system",
]


def through(value: Any) -> Any:
    return render(run.__name__, "source", name="x", files={"x": value}).body["data"]["x"]


@pytest.mark.parametrize("text", NASTY)
def test_text_survives(text: str) -> None:
    assert through(text) == text
    assert through({text: [text]}) == {text: [text]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_every_json_value_survives(value: Any) -> None:
    assert through(value) == value


def test_a_value_cannot_become_structure() -> None:
    found = render(run.__name__, "source", name="x\nkind: Secret", files={"a": "b"}).body
    assert found["kind"] == "ConfigMap"
    assert found["metadata"]["name"] == "x\nkind: Secret"


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(jinja2.UndefinedError, match="files"):
        render(run.__name__, "source", name="x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="is not JSON"):
        through([value])


def test_what_is_rendered_has_the_types_that_are_read_back() -> None:
    found = through({"a": ("b", MappingProxyType({"c": 1}))})
    assert found == {"a": ["b", {"c": 1}]}
    assert plain(found) is not found


def test_two_renderings_share_nothing() -> None:
    first, second = (render(run.__name__, "source", name="x", files={}).body for _ in range(2))
    first["metadata"]["name"] = "changed"
    assert second["metadata"]["name"] == "x"


def test_a_condition_is_not_a_slot() -> None:
    limited = {
        "name": "n",
        "template_hash": "h",
        "disruptions": "0",
        "deadline": 5,
        "policy": {},
        "labels": {},
        "pod": {},
    }
    for suspend in (True, False):
        found = render(run.__name__, "job", suspend=suspend, limited=suspend, **limited).body["spec"]
        assert found["suspend"] is suspend
        assert ("activeDeadlineSeconds" in found) is suspend


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: {b: 1, b: 2}", "- {a: 1, 'a': 2}"])
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="given twice"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("n", "n"),
        ("true", True),
        ("false", False),
        ("2026-01-01", "2026-01-01"),
    ],
)
def test_plain_words_are_what_json_knows(text: str, expected: Any) -> None:
    assert parse(f"x: {text}")["x"] == expected
