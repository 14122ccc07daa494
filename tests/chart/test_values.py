"""values.yaml, its schema and its reference page say the same; a typo is refused."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.chart import CHART

from .conftest import CHECKOUT, DEFAULT, EVERYTHING, Values

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
REFERENCE = CHECKOUT / "docs" / "reference" / "values.md"

Template = Callable[[Values], "subprocess.CompletedProcess[str]"]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image": {"operatr": "x"}}, "operatr"),
    ({"images": {"operator": "x"}}, "images"),
    ({"image": {"operator": 1}}, "operator"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"operator": {"replicas": 0}}, "replicas"),
    ({"operator": {"replicas": "2"}}, "replicas"),
    ({"operator": {"workers": 0}}, "workers"),
    ({"operator": {"logLevel": "verbose"}}, "logLevel"),
    ({"operator": {"logFormat": "xml"}}, "logFormat"),
    ({"operator": {"resource": {}}}, "resource"),
    ({"operator": {"resources": {"limits": {"memory": "1 GB"}}}}, "memory"),
    ({"operator": {"resources": {"limit": {"memory": "1Gi"}}}}, "limit"),
    ({"operator": {"nodeSelector": {"gpu": True}}}, "nodeSelector"),
    ({"operator": {"tolerations": [{"key": "a", "effects": "NoSchedule"}]}}, "effects"),
    ({"daskOperator": {"enable": False}}, "enable"),
    ({"daskOperator": {"enabled": "no"}}, "enabled"),
    ({"daskOperator": {"replicas": 2}}, "replicas"),
    ({"watchNamespaces": "physics"}, "watchNamespaces"),
    ({"watchNamespaces": ["Physics"]}, "watchNamespaces"),
    ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    ({"watchNamespaces": ["af-*"]}, "watchNamespaces"),
    ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "interval"),
    ({"userRoles": {"aggregated": True}}, "aggregated"),
    ({"image": {"hubs": "x"}}, "hubs"),
    ({"hub": {"enable": True}}, "enable"),
    ({"hub": {"baseUrl": "jupyter/"}}, "baseUrl"),
    ({"hub": {"baseUrl": "/jupyter"}}, "baseUrl"),
    ({"hub": {"namespaces": ["Physics"]}}, "namespaces"),
    ({"hub": {"config": {"authenticator_class": "dummy"}}}, "config"),
    ({"hub": {"config": {"jupyterhub": {}}}}, "config"),
    ({"hub": {"extraConfig": ["c.Spawner.debug = True"]}}, "extraConfig"),
    ({"hub": {"secretEnv": "oauth"}}, "secretEnv"),
    ({"hub": {"storage": {"size": "big"}}}, "size"),
    ({"hub": {"storage": {"class": "ceph"}}}, "class"),
    ({"hub": {"proxy": {"service": {"type": "Ingress"}}}}, "type"),
    ({"hub": {"proxy": {"service": {"nodePort": "31080"}}}}, "nodePort"),
    ({"hub": {"proxy": {"replicas": 2}}}, "replicas"),
    ({"hub": {"external": {"apiUrl": "hub:8081"}}}, "apiUrl"),
    ({"hub": {"external": {"token": "secret"}}}, "token"),
    ({"admissionPolicies": {"enable": True}}, "enable"),
    ({"admissionPolicies": {"trustedUsers": [""]}}, "trustedUsers"),
    ({"admissionPolicies": {"boundOperator": "yes"}}, "boundOperator"),
    ({"admissionPolicies": {"warnUnrestricted": "restricted"}}, "warnUnrestricted"),
]

pytestmark = pytest.mark.timeout(600)


def merged(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "image": {**DEFAULT["image"], **values.get("image", {})}}


@pytest.mark.parametrize(("values", "named"), WRONG, ids=[json.dumps(v) for v, _ in WRONG])
def test_schema_refuses(values: dict[str, Any], named: str) -> None:
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate(merged(values), SCHEMA)
    assert named in f"{refused.value.json_path} {refused.value.message}"


@pytest.mark.parametrize("values", [VALUES, DEFAULT, EVERYTHING], ids=["values.yaml", "default", "everything"])
def test_schema_takes(values: Values) -> None:
    jsonschema.validate(dict(values), SCHEMA)


def test_helm_asks_the_schema(template: Template) -> None:
    done = template({"image": {"operator": "x"}, "operator": {"replica": 2}})
    assert done.returncode != 0
    assert "'replica' not allowed" in done.stderr


def test_the_image_is_asked_for(template: Template) -> None:
    done = template({**DEFAULT, "image": {}})
    assert done.returncode != 0
    assert "image.operator is needed" in done.stderr


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ([], "watchNamespaces is needed: the namespaces that hold sessions"),
        ([], "as an empty list meant before): --set 'watchNamespaces={*}'"),
        (["*", "physics"], '"*" means all namespaces: name them, or leave the other names out'),
    ],
)
def test_the_namespaces_are_asked_for(template: Template, named: list[str], words: str) -> None:
    done = template({**DEFAULT, "watchNamespaces": named})
    assert done.returncode != 0
    assert words in done.stderr
    assert template({**DEFAULT, "watchNamespaces": named[1:] or ["*"]}).returncode == 0


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for key, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{path}.{key}".lstrip("."))


def test_schema_is_strict_everywhere() -> None:
    loose = [p for p, s in objects(SCHEMA) if "properties" in s and s.get("additionalProperties") is not False]
    assert loose == []


def leaves(values: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of each value that the schema knows by name."""
    if "properties" not in schema or path.endswith(("resources", "affinity")):
        yield path
        return
    assert set(values) == set(schema["properties"]) - {"global"}, path
    for key, value in values.items():
        yield from leaves(value, schema["properties"][key], f"{path}.{key}".lstrip("."))


def test_values_schema_and_reference_name_the_same() -> None:
    documented = set(re.findall(r"^\| `([A-Za-z.]+)` \|", REFERENCE.read_text(), re.MULTILINE))
    assert documented == set(leaves(VALUES, SCHEMA))


def test_reference_has_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `([A-Za-z.]+)` \| `([^`]*)` \|", REFERENCE.read_text(), re.MULTILINE))
    for path in leaves(VALUES, SCHEMA):
        value: Any = VALUES
        for key in path.split("."):
            value = value[key]
        assert yaml.safe_load(rows[path]) == value, path
