"""What both kinds share: the model base, bounded string types, and how a CEL rule is attached.

The API server is the boundary: what must be refused is refused by the schema and its CEL rules. The models
parse what the server has let through, so a rule that CEL alone states is not stated again in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

GROUP = "analysisfacility.io"
VERSION = "v1alpha1"
VALIDATIONS = "x-kubernetes-validations"

NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
BYTES = r"^[0-9]{1,15}(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
CPU = r"^[0-9]{1,6}(\.[0-9]{1,3})?m?$"

BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
BY_TYPE: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
"""A list whose items have unique names; server-side apply then merges it by name."""


class ApiModel(BaseModel):
    """Base of every model: immutable, camelCase outside."""

    # In an upgrade the CRDs come before the operator: the one that still runs then must not stumble over a new field.
    # What nobody knows never gets here: the API server refuses or prunes it.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Return one CEL rule; the message says what to write instead."""
    return {"rule": expression, "message": message, **more}


def rules(*each: dict[str, str]) -> dict[str, Any]:
    """Return ``json_schema_extra`` that carries CEL rules, for a model's config."""
    return {VALIDATIONS: list(each)}


def forbidden(expression: str, field: str, message: str) -> dict[str, str]:
    """Return a rule on the spec that is reported at one field, without echoing a value."""
    return rule(expression, message, fieldPath=f".{field}", reason="FieldValueForbidden")


def unchangeable(field: str, *, only: str = "pools") -> dict[str, str]:
    """Return the rule of a part that cannot be added or removed itself: a field of it stays as it was created."""
    unchanged = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    return forbidden(unchanged, field, f"{field} cannot be changed, only {only}: create a new session")


@dataclass(frozen=True)
class Rule:
    """A CEL rule on a field, as an annotation: unlike ``json_schema_extra`` it adds up with those of the type."""

    expression: str
    message: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rule to the field's schema."""
        schema = handler(core)
        schema[VALIDATIONS] = [*schema.get(VALIDATIONS, []), rule(self.expression, self.message)]
        return schema


@dataclass(frozen=True)
class Format:
    """Says in words what a string's pattern means.

    A failed ``pattern`` shows users a regular expression, and keeps the server from evaluating CEL rules; so
    the CRD gets the same pattern as a rule with this message.
    """

    message: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Turn the pattern into a CEL rule."""
        schema = handler(core)
        expression = f"self.matches(r'{schema.pop('pattern')}')"
        schema[VALIDATIONS] = [*schema.get(VALIDATIONS, []), rule(expression, self.message)]
        return schema


NAME_MEANS = "write a name: lower-case letters, digits and '-', starting with a letter; no path, no upper case"

Name = Annotated[str, Field(min_length=1, max_length=40, pattern=NAME), Format(NAME_MEANS)]
"""What users call things by. Short, because names of children are made of it."""

Bytes = Annotated[
    str,
    Field(min_length=1, max_length=20, pattern=BYTES),
    Format("write a size such as 10Gi or 512Mi"),
    # Without this, "10" (bytes) for 10 GiB passes, and the pod that it makes fails far from here.
    Rule(
        "!isQuantity(self) || quantity(self).compareTo(quantity('1Mi')) >= 0",
        "this is less than 1Mi: add a unit, such as 10Gi",
    ),
]
Cpu = Annotated[
    str,
    Field(min_length=1, max_length=16, pattern=CPU),
    Format("write a number of cores, such as 2, 0.5 or 500m"),
    Rule("!isQuantity(self) || quantity(self).isGreaterThan(quantity('0'))", "write more than 0 cores"),
]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
"""At most one year: a bound for the schema, not advice."""
ImageReference = Annotated[
    str,
    Field(
        min_length=1, max_length=500, pattern=r"^[a-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9._:-]+)*(@sha256:[0-9a-f]{64})?$"
    ),
    Format("write an image reference, such as registry.example.org/analysis@sha256:<64 hex digits>"),
]
StorageClassName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Format("write the name of a StorageClass (`kubectl get storageclasses`)"),
]
