"""Values out of what others write: within bounds, or left out. Pure.

Who may edit objects of a namespace can put any text into annotations, ConfigMaps and objects of the Dask operator; a
program says what it likes in its termination message; and where Kubernetes knows no time it writes null. A pass that
stumbled over one of these would never tell anything of its session again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

YEARS = range(1970, 9000)
"""Seconds are added to times, and they are turned to another time zone: the first and last leave no room for that."""

M = TypeVar("M", bound=BaseModel)


def time_of(value: Any) -> datetime | None:
    """Return a time as Kubernetes writes it, or None where it is none, or is of no time zone."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo is not None and time.year in YEARS else None


def json_of(text: Any, limit: int) -> Any:
    """Return what JSON text of at most `limit` characters says, or None."""
    if not isinstance(text, str) or len(text) > limit:
        return None
    try:
        return from_json(text)  # unlike `json.loads`, it bounds how deep things are nested
    except ValueError:
        return None


def fitting(model: type[M], values: Any) -> M | None:
    """Return as much of the values as fits the model; None where what it cannot do without is not among that."""
    if not isinstance(values, Mapping):
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
    try:
        return model.model_validate({key: value for key, value in values.items() if key not in wrong})
    except ValidationError:
        return None
