"""Values out of what others write: what fits is taken, the rest is as if it were not there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from af_operator.components._shared.untrusted import fitting, json_of, time_of


class Sample(BaseModel):
    needed: int
    more: int | None = None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-01-01T10:00:00Z", datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("2026-01-01T12:00:00.5+02:00", datetime(2026, 1, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-01T10:00:00", None),  # of no time zone: it could not be compared
        ("9999-12-31T23:59:59Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1767261600, None),
    ],
)
def test_times(value: Any, found: datetime | None) -> None:
    assert time_of(value) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("{", None),
        ("", None),
        (None, None),
        ("[" * 100 + "]" * 100, None),  # too long for the limit
        ("[" * 5000, None),
        ('"\\ud800"', None),
    ],
)
def test_json(text: Any, found: Any) -> None:
    assert json_of(text, 100) == found


def test_nesting_is_bounded_too() -> None:
    assert json_of("[" * 100_000, 1_000_000) is None


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"needed": 1, "more": 2}, Sample(needed=1, more=2)),
        ({"needed": 1, "more": "x", "unknown": {}}, Sample(needed=1)),
        ({"needed": "x", "more": 2}, None),
        ({"more": 2}, None),
        ([1], None),
        (None, None),
    ],
)
def test_what_fits_is_taken(values: Any, found: Sample | None) -> None:
    assert fitting(Sample, values) == found
