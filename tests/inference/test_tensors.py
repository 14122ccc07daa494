"""Tensors between numpy and the wire, and what is refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from af_inference.errors import Invalid, Unprocessable
from af_inference.tensors import DTYPES, Tensor, from_bytes, from_values, to_bytes, to_values
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

NUMBERS = sorted(set(DTYPES) - {"BYTES"})


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_come_back_from_bytes_and_from_json(datatype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(DTYPES[datatype])
    assert np_to_triton_dtype(array.dtype) == datatype
    assert (from_bytes(datatype, (2, 2), to_bytes(array)) == array).all()
    values = orjson.loads(orjson.dumps(to_values("y", array), option=orjson.OPT_SERIALIZE_NUMPY))
    back = from_values(datatype, (2, 2), values)
    assert back.dtype == array.dtype
    assert (back == array).all()


def test_strings_are_as_tritonclient_has_them() -> None:
    array = np.array([["a", "äö"], ["", "b"]], dtype=object)
    raw = serialize_byte_tensor(array).item()
    assert to_bytes(array) == raw
    assert (from_bytes("BYTES", (2, 2), raw) == array).all()
    assert to_values("y", array) == ["a", "äö", "", "b"]


def test_data_may_be_nested_or_flat() -> None:
    assert from_values("FP32", (2, 2), [[1, 2], [3, 4]]).tolist() == from_values("FP32", (2, 2), [1, 2, 3, 4]).tolist()


def test_one_long_text_takes_no_more_room_than_itself() -> None:
    values = [""] * 100_000 + ["x" * 1_000_000]
    tracemalloc.start()
    try:
        from_values("BYTES", (100_001,), values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_no_rows_are_rows() -> None:
    assert from_values("FP32", (0, 3), []).shape == (0, 3)
    assert from_bytes("BYTES", (0,), b"").shape == (0,)


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "said"),
    [
        ("FP32", (2,), [1], "2 elements, not 1"),
        ("FP32", (2, 2), [[1, 2], [3]], "rows of different length"),
        ("FP32", (1,), ["1"], "no FP32"),
        ("FP32", (1,), [None], "no FP32"),
        ("FP32", (1,), {"a": 1}, "no FP32"),
        ("INT8", (1,), [128], "out of the range of INT8"),
        ("UINT8", (1,), [-1], "out of the range of UINT8"),
        ("INT64", (1,), [1.5], "no INT64"),
        ("UINT64", (1,), [2**64], "no UINT64"),
        ("BOOL", (1,), [1], "no BOOL"),
        ("BYTES", (1,), [1], "no BYTES"),
        ("FP32", (3,), [1, [2, 3]], "rows of different length"),
        ("FP32", (3,), [1, 2, "x" * 10], "no FP32"),
        ("BF16", (1,), [1], "none of"),
        (["FP32"], (1,), [1], "none of"),
    ],
)
def test_json_that_does_not_fit_is_refused(datatype: Any, shape: tuple[int, ...], values: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        from_values(datatype, shape, values)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "said"),
    [
        ("FP32", (2,), b"1234", "has 8 bytes, not 4"),
        ("FP32", (2**62, 2**62), b"1234", "bytes, not 4"),
        ("BYTES", (1,), b"\x02\x00\x00\x00a", "end before"),
        ("BYTES", (1,), b"\x02", "end before"),
        ("BYTES", (1,), b"\x01\x00\x00\x00\xff", "UTF-8"),
        ("BYTES", (2,), b"\x00\x00\x00\x00", "2 elements, not 1"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype: str, shape: tuple[int, ...], raw: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        from_bytes(datatype, shape, raw)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_json_holds_no_number_that_is_not_finite(number: float) -> None:
    with pytest.raises(Unprocessable, match="output y"):
        to_values("y", np.array([1, number], np.float32))


def test_large_numbers_become_infinite_and_not_an_error() -> None:
    assert np.isinf(from_values("FP16", (1,), [1e9])).all()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3), np.float64), "is FP32, not FP64"),
        (np.zeros((2, 4), np.float32), "has shape"),
        (np.zeros(3, np.float32), "has shape"),
    ],
)
def test_an_input_takes_what_it_says(array: Any, said: str) -> None:
    tensor = Tensor("x", "FP32", (-1, 3))
    tensor.check(np.zeros((5, 3), np.float32))
    with pytest.raises(Invalid, match=said):
        tensor.check(array)
