"""The page of threats names tests that exist, for each threat, or says that it is open."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/explanation/threats.md"
ROWS = {
    row[0]: row[1:]
    for row in (line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| T"))
}


def named(text: str) -> list[tuple[str, str]]:
    """Return the tests that a text names, as (file, function)."""
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def functions(file: str) -> set[str]:
    tree = ast.parse((CHECKOUT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_all_are_there() -> None:
    assert list(ROWS) == [f"T{number}" for number in range(1, 25)]
    assert {len(row) for row in ROWS.values()} == {3}


@pytest.mark.parametrize("number", ROWS)
def test_each_has_its_tests_or_is_open(number: str) -> None:
    threat, held, tests = ROWS[number]
    assert threat
    assert named(tests) or ("*Open*" in held and tests == "none")
    for file, function in named(tests):
        assert function.startswith("test_")
        assert function in functions(file), f"{file}::{function}"


def test_everything_that_looks_like_a_test_is_one() -> None:
    """So no name is passed over because it is misspelt."""
    text = PAGE.read_text()
    assert len(re.findall(r"tests/", text)) == len(named(text))
