"""What the generated CRDs and RBAC rules must always be like. That the server takes them: tests/contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ConfigDict, Field

from af_operator import crdgen
from af_operator.api.common import VALIDATIONS, ApiModel, Name, Rule, rule, rules
from af_operator.crdgen import KINDS, custom_resource_definition, operator_rules, stale, structural
from af_operator.model import Kind

Schema = dict[str, Any]


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every schema inside a schema, with the path at which an object has it."""
    yield path, schema
    for name, prop in schema.get("properties", {}).items():
        yield from nodes(prop, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def open_api(kind: crdgen.CustomKind) -> Schema:
    version: Schema = custom_resource_definition(kind)["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]


def all_nodes() -> list[tuple[str, Schema]]:
    roots = [(kind.kind, open_api(kind)["properties"]) for kind in KINDS]
    tops = [(f"{kind}.{part}", root[part]) for kind, root in roots for part in ("spec", "status") if part in root]
    return [found for path, top in tops for found in nodes(top, path)]


def unbounded(schema: Schema) -> str | None:
    """What is missing for a schema to be bounded."""
    closed = "enum" in schema or schema.get("format") == "date-time"
    needs = {
        "string": () if closed else ("maxLength",),
        "array": ("maxItems", "items"),
        "integer": ("minimum", "maximum", "format"),
        "number": ("minimum", "maximum"),
        "boolean": (),
        "object": ("properties",) if "properties" in schema else ("additionalProperties", "maxProperties"),
    }[schema["type"]]
    return next((n for n in needs if n not in schema), None)


def test_everything_is_bounded() -> None:
    assert {path: gap for path, schema in all_nodes() if (gap := unbounded(schema))} == {}


@pytest.mark.parametrize(
    ("schema", "gap"),
    [
        ({"type": "string"}, "maxLength"),
        ({"type": "string", "pattern": "^a$"}, "maxLength"),
        ({"type": "array", "items": {"type": "boolean"}}, "maxItems"),
        ({"type": "integer", "minimum": 0, "format": "int32"}, "maximum"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "maxProperties"),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "additionalProperties"),
        ({"type": "string", "enum": ["a"]}, None),
    ],
)
def test_the_walk_finds_what_is_unbounded(schema: Schema, gap: str | None) -> None:
    assert unbounded(schema) == gap


def test_every_field_is_described() -> None:
    assert [
        path for path, schema in all_nodes() if not path.endswith(("[]", "{}")) and "description" not in schema
    ] == []


def test_nothing_in_a_schema_that_a_structural_one_cannot_have() -> None:
    never = {"$ref", "anyOf", "allOf", "oneOf", "const", "title", "patternProperties", "propertyNames", "$defs"}
    assert {path: never & set(schema) for path, schema in all_nodes() if never & set(schema)} == {}
    assert [path for path, schema in all_nodes() if schema.get("additionalProperties") is False] == []


def test_no_field_name_is_a_boolean_in_yaml_1_1() -> None:
    names = {name for _, schema in all_nodes() for name in schema.get("properties", {})}
    assert {name for name in names if not isinstance(yaml.safe_load(name), str)} == set()


def test_every_rule_has_a_message() -> None:
    rules = [r for kind in KINDS for _, node in nodes(open_api(kind), kind.kind) for r in node.get(VALIDATIONS, [])]
    assert len(rules) > 20
    assert [r["rule"] for r in rules if len(r["message"].split()) < 4] == []


class Inner(ApiModel):
    """The inner one."""

    size: Annotated[int, Field(ge=0, le=2**40)] = 3


class Outer(ApiModel):
    """The outer one."""

    model_config = ConfigDict(json_schema_extra=rules(rule("true", "outer")))
    plain: Inner = Field(default_factory=Inner)
    maybe: Annotated[Inner | None, Rule("self.size > 0", "not empty")] = Field(default=None, description="Perhaps.")
    must: Inner
    name: Annotated[Name, Rule("self != 'x'", "not x")] = "a"
    only: Literal["One"] = "One"
    by_name: dict[Name, Annotated[str, Field(max_length=3)]] = Field(default_factory=dict, max_length=2)


def test_references_are_inlined_with_the_docstring_and_the_field_description() -> None:
    maybe = structural(Outer)["properties"]["maybe"]
    assert maybe["description"] == "The inner one.\n\nPerhaps."
    assert maybe["type"] == "object"
    assert maybe["properties"]["size"] == {
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "maximum": 2**40,
        "default": 3,
    }
    assert "default" not in maybe


def test_a_left_out_object_defaults_to_empty_so_that_its_own_defaults_are_filled_in() -> None:
    properties = structural(Outer)["properties"]
    assert properties["plain"]["default"] == {}
    assert "default" not in properties["must"]
    assert structural(Outer)["required"] == ["must"]


def test_rules_of_the_type_the_field_and_the_model_add_up() -> None:
    schema = structural(Outer)
    messages = [r["message"] for r in schema["properties"]["name"][VALIDATIONS]]
    assert messages[1:] == ["not x"]
    assert messages[0].startswith("write a name")
    assert "pattern" not in schema["properties"]["name"]
    assert [r["message"] for r in schema[VALIDATIONS]] == ["outer"]
    assert [r["message"] for r in schema["properties"]["maybe"][VALIDATIONS]] == ["not empty"]


def test_one_choice_is_an_enum_and_a_map_has_bounded_values() -> None:
    properties = structural(Outer)["properties"]
    assert properties["only"]["enum"] == ["One"]
    assert properties["byName"] == {
        "type": "object",
        "maxProperties": 2,
        "additionalProperties": {"type": "string", "maxLength": 3},
    }


def test_defaults_are_told_where_kubectl_explain_shows_them() -> None:
    size = structural(crdgen.SESSION.spec)["properties"]["xcache"]["properties"]["size"]
    assert size["default"] == "10Gi"
    assert size["description"].endswith('Defaults to "10Gi".')


def test_rules_grant_what_the_components_make_and_nothing_broad() -> None:
    rules = operator_rules([Kind("batch/v1", "Job", "jobs"), Kind("v1", "ConfigMap", "configmaps")])
    grants = {(r["apiGroups"][0], name): r["verbs"] for r in rules for name in r["resources"]}
    assert grants["batch", "jobs"] == ["create", "delete", "get", "list", "patch", "watch"]
    assert grants["", "configmaps"] == grants["batch", "jobs"]
    assert grants["", "pods"] == ["list", "watch"]
    assert ("", "secrets") not in grants
    assert "*" not in yaml.safe_dump(rules)


def test_what_outlives_sessions_can_be_made_and_neither_changed_nor_deleted() -> None:
    claim = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
    rules = operator_rules([], [claim])
    verbs = next(r["verbs"] for r in rules if claim.plural in r["resources"])
    assert verbs == ["create", "get", "list", "watch"]


def test_stale_names_each_file_that_is_missing_changed_or_left_over(tmp_path: Path) -> None:
    files = {Path("a/same.yaml"): "1", Path("a/changed.yaml"): "2", Path("a/missing.yaml"): "3"}
    (tmp_path / "a").mkdir()
    for name, text in {"same": "1", "changed": "x", "left-over": "4"}.items():
        (tmp_path / "a" / f"{name}.yaml").write_text(text)
    assert stale(tmp_path, files) == [
        "a/changed.yaml: differs from the code",
        "a/missing.yaml: missing",
        "a/left-over.yaml: nothing generates it",
    ]


def test_check_fails_before_and_passes_after_generating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdgen, "ROOT", tmp_path)
    before = CliRunner().invoke(crdgen.main, ["--check"])
    assert before.exit_code == 1
    assert "crds/analysisfacility.io_analysissessions.yaml: missing" in before.output
    assert "make generate" in before.output
    assert CliRunner().invoke(crdgen.main, []).exit_code == 0
    assert CliRunner().invoke(crdgen.main, ["--check"]).exit_code == 0


def test_the_chart_brings_the_same_crds_as_the_vendored_ones() -> None:
    files = crdgen.generated()
    in_chart = {path.name: text for path, text in files.items() if path.parent == crdgen.CHART / "crds"}
    assert in_chart == {path.name: text for path, text in files.items() if crdgen.CRDS in path.parents}
    assert sorted(in_chart)[2:] == [
        f"kubernetes.dask.org_dask{kind}s.yaml" for kind in ("autoscaler", "cluster", "job", "workergroup")
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.kind))
def test_columns_and_selectable_fields_are_paths_of_the_schema(kind: crdgen.CustomKind) -> None:
    found = {path for path, _ in nodes(open_api(kind), "")} | {".metadata.creationTimestamp"}
    paths = [*(column.path for column in kind.columns), *kind.selectable]
    assert [path for path in paths if re.sub(r"\[.*\]", "[]", path) not in found] == []
