"""The house rules of templates, on every file there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import meta, nodes

from af_operator import components
from af_operator.render import environment

ROOT = Path(components.__file__).parent
TEMPLATES = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("templates/*.yaml"))
# A whole value after a key or a dash, and nothing else on the line.
WHOLE_VALUE = re.compile(r"^\s*(- )?([\w./-]+: )?(\{\{ \w+ \}\})$")


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def test_there_are_templates() -> None:
    assert len(TEMPLATES) >= 8
    assert sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.yaml")) == TEMPLATES, "and nowhere else"


@pytest.mark.parametrize("name", TEMPLATES)
def test_first_line_names_the_variables(name: str) -> None:
    first = text_of(name).splitlines()[0]
    assert first.startswith("# Variables: ")
    said = first.removeprefix("# Variables: ").split(", ")
    assert set(said) == meta.find_undeclared_variables(environment().parse(text_of(name)))
    assert len(said) == len(set(said))


@pytest.mark.parametrize("name", TEMPLATES)
def test_values_are_whole(name: str) -> None:
    for line in text_of(name).splitlines():
        if "{{" in line:
            assert WHOLE_VALUE.match(line), line


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_if_on_given_values(name: str) -> None:
    tree = environment().parse(text_of(name))
    for node in tree.find_all((nodes.Stmt,)):
        assert isinstance(node, (nodes.Output, nodes.If)), node
    for node in tree.find_all((nodes.If,)):
        assert isinstance(node.test, nodes.Name)


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_short_object_per_file(name: str) -> None:
    lines = text_of(name).splitlines()
    assert len(lines) <= 60
    assert len([line for line in lines if line.startswith("kind:")]) == 1
    assert "---" not in lines
