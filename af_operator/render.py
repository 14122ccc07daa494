"""Templates to manifests: jinja2 for the shape of an object, Python for every decision.

Every ``{{ x }}`` is printed as one JSON value, so a value can never become structure. The text is then
read by a YAML loader that knows nothing but what JSON knows, and that refuses a key given twice.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, Undefined
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode

from af_operator.model import Manifest

_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


def to_yaml(value: Any) -> str:
    """Return a value as one line of JSON that is YAML too.

    JSON writes characters beyond U+FFFF as a pair of escapes, which YAML would read as two characters.
    """
    if isinstance(value, Undefined):
        return str(value)  # raises, and names the variable
    text = json.dumps(value, allow_nan=False).replace("\x7f", "\\u007f")
    return _SURROGATES.sub(_one_character, text)


def _one_character(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


class StrictLoader(yaml.CSafeLoader):
    """YAML as JSON has it: no ``yes`` that is true, no dates; a key given twice is an error."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, and refuse a key given twice."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_PLAIN = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _PLAIN]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


@cache
def environment() -> Environment:
    """Return the one jinja2 environment."""
    return Environment(
        loader=PackageLoader("af_operator"),
        undefined=StrictUndefined,
        finalize=to_yaml,
        autoescape=False,  # noqa: S701 -- YAML, not HTML: finalize is the escaping
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _template(name: str) -> Template:
    return environment().get_template(name)


def render(component: str, template: str, **values: Any) -> Manifest:
    """Return the object that a template gives with these values.

    Raises
    ------
    jinja2.UndefinedError
        A variable of the template is not given.
    yaml.YAMLError
        The text is not YAML, or has a key twice.
    """
    return Manifest(parse(_template(f"{component}/{template}.yaml").render(values)))


def parse(text: str) -> Any:
    """Return what YAML text means, read strictly."""
    return yaml.load(text, Loader=StrictLoader)  # noqa: S506 -- a SafeLoader, and stricter
