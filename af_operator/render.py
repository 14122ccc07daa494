"""Templates to manifests: jinja2 for the shape of an object, Python for every decision.

A ``{{ x }}`` is never printed as its value: in the text stands a slot of that name, which is filled once the text has
been read, so that no value can become structure. The text is read by a YAML loader that knows nothing but what JSON
knows, and that refuses a key given twice. It depends on the template and its conditions alone, and is read once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template, Undefined
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from af_operator.model import Manifest

TAG = "!slot"


@dataclass(frozen=True)
class Slot:
    """Where the value of a variable belongs."""

    name: str


def _printed(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)  # raises, and names the variable
    if isinstance(value, Slot):
        return f"{TAG} {value.name}"
    return "true" if value else "false"


class StrictLoader(yaml.CSafeLoader):
    """YAML as JSON has it, and slots: no ``yes`` that is true, no dates; a key given twice is an error."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, and refuse a key given twice."""
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                raise ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_PLAIN = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _PLAIN]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def _slot(loader: StrictLoader, node: ScalarNode) -> Slot:
    return Slot(loader.construct_scalar(node))


StrictLoader.add_constructor(TAG, _slot)


def _text(name: str) -> str | None:
    """Return the text of ``<package>/<template>``, which lies in the package's folder ``templates``."""
    package, _, template = name.partition("/")
    file = files(package) / "templates" / f"{template}.yaml"
    return file.read_text() if file.is_file() else None


@cache
def environment() -> Environment:
    """Return the one jinja2 environment."""
    return Environment(
        loader=FunctionLoader(_text),
        undefined=StrictUndefined,
        finalize=_printed,
        autoescape=False,  # noqa: S701 -- no value is ever printed
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _template(name: str) -> Template:
    return environment().get_template(name)


@cache
def _shape(name: str, variables: frozenset[str], conditions: frozenset[tuple[str, bool]]) -> Any:
    """Return what a template means, with slots in it, when these variables are given and those are true or false."""
    slots: dict[str, Any] = {each: Slot(each) for each in variables}
    return parse(_template(name).render(slots | dict(conditions)))


def render(package: str, template: str, **values: Any) -> Manifest:
    """Return the object that a template gives with these values.

    Parameters
    ----------
    package
        The package in whose folder ``templates`` it lies: whoever renders gives its own.

    Raises
    ------
    jinja2.UndefinedError
        A variable of the template is not given.
    yaml.YAMLError
        The text is not YAML, or has a key twice.
    TypeError, ValueError
        A value is not JSON.
    """
    conditions = frozenset((name, value) for name, value in values.items() if isinstance(value, bool))
    variables = frozenset(values) - {name for name, _ in conditions}
    return Manifest(_filled(_shape(f"{package}/{template}", variables, conditions), values))


def _filled(shape: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(shape, Slot):
        return plain(values[shape.name])
    if isinstance(shape, dict):
        return {key: _filled(value, values) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_filled(value, values) for value in shape]
    return shape


def plain(value: Any) -> Any:
    """Return a copy of a value in the types that JSON has: what was written and what was read then compare."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (dict, Mapping)):  # the first is what most are, and is found at once
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"a key of {list(value)!r} is not JSON")
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(f"{value!r} is not JSON")


def parse(text: str) -> Any:
    """Return what YAML text means, read strictly."""
    return yaml.load(text, Loader=StrictLoader)  # noqa: S506 -- a SafeLoader, and stricter
