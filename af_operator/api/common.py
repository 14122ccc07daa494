"""What both kinds share: the model base, bounded string types, and how a CEL rule is attached."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "analysisfacility.io"
VERSION = "v1alpha1"

QUANTITY = r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=40,
        pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
        description="Lower-case letters, digits and '-'; starts with a letter; at most 40 characters.",
    ),
]
Quantity = Annotated[str, Field(min_length=1, max_length=16, pattern=QUANTITY)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
"""At most one year: a bound for the schema, not advice."""


class ApiModel(BaseModel):
    """Base of every model: immutable, camelCase outside, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Return one CEL rule; the message says what to write instead."""
    return {"rule": expression, "message": message, **more}


def rules(*each: dict[str, str]) -> dict[str, Any]:
    """Return ``json_schema_extra`` that carries CEL rules; use on a model's config or on a field."""
    return {"x-kubernetes-validations": list(each)}
