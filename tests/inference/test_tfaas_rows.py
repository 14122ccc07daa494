"""Rows of numbers in JSON: the way that most of them go, and what must not go it."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from af_inference.errors import Invalid
from af_inference.tfaas.rows import from_json


@pytest.mark.parametrize(
    "values",
    [
        [1.5, 2.5],
        [[1.5, 2.5], [3.5, 4.5]],
        [[1.5, 2], [3, -(2**62)]],
        [[1, 2.5], [3.5, 4]],
        [[1, 2**60 + 1]],
        [[[1.5], [2.5]], [[3.5], [4.5]]],
        [[0.1, 1e300, -0.0]],
        [[0.5, 1, 0.0], [1.0, 0, 2.5]],
    ],
)
def test_numbers_are_as_numpy_has_them(values: list[Any]) -> None:
    found = from_json(orjson.dumps({"values": values, "model": "m"})).values
    wanted = np.array(values)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1.5, True]], "must be numbers"),
        ([[1.5, False]], "must be numbers"),
        ([[1.5, "2.5"]], "must be numbers"),
        ([[1.5, None]], "must be numbers"),
        ([[1.5, 2.5], "ab"], "must be numbers"),
        ([[1.5, 2.5], {"a": 1, "b": 2}], "must be numbers"),
        ([[1.5, 2.5], [3.5]], "the same number"),
        ([[1.5], [[2.5]]], "must be numbers"),
        ({"a": 1}, "must be a list"),
        ("1.5", "must be a list"),
        (1.5, "must be a list"),
    ],
)
def test_what_is_no_row_of_numbers_is_refused(values: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        from_json(orjson.dumps({"values": values, "model": "m"}))
