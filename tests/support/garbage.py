"""What others could write into live objects: every value that a pass reads, within what the API server would take."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import yaml

from af_operator import names
from af_operator.model import Body

VENDOR = Path(__file__).parent.parent.parent / "crds" / "vendor"
SCHEMAS = files("kubernetes_validate") / "kubernetes-json-schema"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
Keys = tuple[str | int, ...]
MISSING = object()

WORDS = ("", "x" * 70_000, "\x00\n\x1b[31m", "-1", "1e999999999", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00")
"""For any text. A program, or an operator, could want to read it as a number or a time."""
TEXTS = (
    *WORDS,
    "[" * 50_000,
    "null",
    "[1]",
    '{"spec": {"worker": {"replicas": 1e400}}}',
    '{"spec": {"worker": {"replicas": "3"}}, "run": [], "finish": 1}',
    '{"run": {"exitCode": 1e300, "pod": 7, "results": {"files": 1}}, "finish": {"reason": "A"}}',
    '{"finish": {"reason": "%s", "message": "", "time": "2026-01-01T10:01:00Z"}}' % ("R" * 200),
    '{"finish": {"reason": "R", "message": 1, "time": "2026-01-01T10:01:00"}}',
    '{"finish": {"reason": "R", "message": "m", "time": 1e300}}',
    '{"finish": {"reason": "R", "message": "m", "time": "9999-12-31T23:59:59Z"}}',
    '{"exitCode": 1e99, "results": {"url": "u", "count": -1, "bytes": 0, "files": [{}]}}',
    '{"wallSeconds": NaN, "error": "\\ud83d"}',
)
"""For texts of which more is to be read: annotations, data, and what programs say at their end."""
NUMBERS = (-(2**31), -1, 0, 2**31 - 1)
LARGE = (*NUMBERS, -(2**63), 2**63 - 1)
TIMES = (None, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
QUANTITIES = ("0", "-1", "1E", "1e3", "1e-9", "1Ei", "100n", "2u", "9" * 60, ".5", "1.")
BYTES = ("", None, "/////w==", base64.b64encode(b"x" * 50_000).decode())
SERVERS = {
    ("apiVersion",),
    ("kind",),
    *(("metadata", key) for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation")),
    ("metadata", "labels", names.SESSION_UID),
    ("metadata", "labels", names.USER),
}
"""What the API server, or the admission policy, lets nobody change."""


class Change(NamedTuple):
    """One value of one object, and what it is replaced by; by ``MISSING`` where it is taken away."""

    path: Keys
    value: Any

    def __str__(self) -> str:
        said = "nothing" if self.value is MISSING else repr(self.value)[:40]
        return f"{'.'.join(map(str, self.path))} = {said}"


class Read(Mapping[str, Any]):
    """An object that notes every path that somebody looks at, also where there is nothing."""

    def __init__(self, body: Mapping[str, Any], seen: set[Keys], path: Keys = ()) -> None:
        self._body, self._seen, self._path = body, seen, path

    def __getitem__(self, key: str) -> Any:
        self._seen.add((*self._path, key))
        return _read(self._body[key], self._seen, (*self._path, key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)


def _read(value: Any, seen: set[Keys], path: Keys) -> Any:
    if isinstance(value, Mapping):
        return Read(value, seen, path)
    if isinstance(value, list):
        seen.update((*path, index) for index, each in enumerate(value) if not isinstance(each, Mapping))
        return [_read(each, seen, (*path, index)) for index, each in enumerate(value)]
    return value


def changes(body: Body, path: Keys) -> list[Change]:
    """Return what may be in an object at a path that a pass looks at."""
    listed = [path[: index + 1] for index, key in enumerate(path) if isinstance(key, int)]
    if any(path[: len(fixed)] == fixed for fixed in SERVERS) or MISSING in (_at(body, each) for each in listed):
        return []
    node, required = _field(body, path)
    there = _at(body, path)
    if node is None:  # nothing that the API server knows: it drops it
        return []
    free = path[-1] in ("message", "data", "annotations") or {"data", "annotations"} & set(path[:-1])
    others = [Change(path, value) for value in _values(node, there, TEXTS if free else WORDS) if value != there]
    may_miss = not required and there is not MISSING and path not in (("metadata",), ("metadata", "labels"))
    return [*others, *([Change(path, MISSING)] if may_miss and isinstance(path[-1], str) else [])]


def changed(body: Body, change: Change) -> dict[str, Any]:
    """Return the object with one change."""
    found: dict[str, Any] = copy.deepcopy(dict(body))
    at: Any = found
    for index, key in enumerate(change.path[:-1]):
        if isinstance(at, dict) and key not in at:
            at[key] = [] if isinstance(change.path[index + 1], int) else {}
        at = at[key]
    if change.value is MISSING:
        at.pop(change.path[-1], None)
    else:
        at[change.path[-1]] = change.value
    return found


def _at(body: Any, path: Keys) -> Any:
    for key in path:
        try:
            body = body[key]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return body


class _Node(NamedTuple):
    schema: dict[str, Any]
    of_kubernetes: bool
    """Only its own kinds have times, quantities and numbers that are checked as such."""


def _values(node: _Node, there: Any, texts: tuple[str, ...]) -> tuple[Any, ...]:
    schema = node.schema
    kind = schema.get("type", "string")
    kind = kind if isinstance(kind, str) else kind[0]
    if schema.get("format") == "date-time":
        return TIMES
    if schema.get("format") == "byte":
        return BYTES
    if schema.get("quantity"):
        return QUANTITIES
    numbers = NUMBERS if node.of_kubernetes and schema.get("format") != "int64" else LARGE
    found = {"string": texts, "integer": numbers, "number": LARGE, "boolean": (not there,), "array": ([],)}
    return found.get(kind, ())


def _field(body: Body, path: Keys) -> tuple[_Node | None, bool]:
    """Return the schema of a field, and whether the API server wants it."""
    node, required = _node(_schema(body["apiVersion"], body["kind"]), True), True
    if body["apiVersion"].startswith("kubernetes.dask.org"):
        node = node._replace(of_kubernetes=False)
    for key in path:
        schema = node.schema
        if isinstance(key, int):
            below, required = schema.get("items"), True
        elif key in schema.get("properties", {}):
            below, required = schema["properties"][key], key in schema.get("required", ())
        else:
            below, required = schema.get("additionalProperties"), False
        if not isinstance(below, dict):
            return None, False
        node = _node(below, node.of_kubernetes)
    return node, required


def _node(schema: dict[str, Any], of_kubernetes: bool) -> _Node:
    reference = schema.get("$ref", "")
    if not reference:
        return _Node(schema, of_kubernetes)
    name = reference.rpartition("/")[2]
    if name.endswith((".Quantity", ".IntOrString")):
        return _Node({"type": "string", "quantity": True}, True)
    return _Node(_definitions()[name], name == META or of_kubernetes)


def _schema(api_version: str, kind: str) -> dict[str, Any]:
    group, _, version = api_version.rpartition("/")
    if group.startswith("kubernetes.dask.org"):
        return {**_of_dask(kind), "properties": _of_dask(kind)["properties"] | {"metadata": {"$ref": META}}}
    mine = {"group": group, "kind": kind, "version": version}
    return next(s for s in _definitions().values() if mine in s.get("x-kubernetes-group-version-kind", ()))


@cache
def _of_dask(kind: str) -> dict[str, Any]:
    bodies = (yaml.load(path.read_text(), yaml.CSafeLoader) for path in VENDOR.glob("*.yaml"))
    crd = next(body for body in bodies if body["spec"]["names"]["kind"] == kind)
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@cache
def _definitions() -> dict[str, Any]:
    newest = SCHEMAS / f"v{kubernetes_validate.latest_version()}-local" / "_definitions.json"
    found: dict[str, Any] = json.loads(newest.read_text())["$defs"]
    return found
