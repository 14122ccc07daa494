"""What users have, as the rows of a model, and the answers in the structure of what was given."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_client import arrays
from af_client.arrays import rows
from af_client.errors import BadInput
from af_client.open_inference import Tensor

THREE = [Tensor("x", "FP32", (-1, 3))]
PAIR = [Tensor("jets", "FP32", (-1, 2)), Tensor("n", "INT64", (-1, 1))]
COLUMNS = {"pt": [1.0, 2.0], "eta": [0.5, 0.25], "phi": [3.0, 4.0]}
JETS = ak.Array(
    [
        [{"pt": 1.0, "eta": 2.0, "phi": 3.0}, {"pt": 4.0, "eta": 5.0, "phi": 6.0}],
        [],
        [{"pt": 7.0, "eta": 8.0, "phi": 9.0}],
    ]
)


def only(found: arrays.Rows) -> tuple[str, Any]:
    ((kind, array),) = found.inputs.values()
    return kind, array


def test_an_array_is_rounded_to_what_the_model_takes() -> None:
    kind, array = only(rows(np.arange(6.0).reshape(2, 3), THREE))
    assert (kind, array.dtype, array.shape) == ("FP32", np.float32, (2, 3))


def test_lists_and_whole_numbers_are_numbers_too() -> None:
    assert only(rows([[1, 2, 3]], THREE))[1].tolist() == [[1.0, 2.0, 3.0]]


def test_columns_are_put_side_by_side_in_their_order() -> None:
    assert only(rows(COLUMNS, THREE))[1].tolist() == [[1.0, 0.5, 3.0], [2.0, 0.25, 4.0]]


def test_a_column_may_be_one_number_for_all_rows() -> None:
    assert only(rows(COLUMNS | {"phi": 9}, THREE))[1].tolist() == [[1.0, 0.5, 9.0], [2.0, 0.25, 9.0]]


def test_inputs_go_by_their_names() -> None:
    found = rows({"n": [1, 2], "jets": np.ones((2, 2))}, PAIR)
    assert {name: (kind, array.shape) for name, (kind, array) in found.inputs.items()} == {
        "jets": ("FP32", (2, 2)),
        "n": ("INT64", (2, 1)),
    }


def test_candidates_are_rows_and_answers_come_back_by_event() -> None:
    found = rows(JETS, THREE)
    assert only(found)[1].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert found.shaped(np.asarray([[0.1], [0.2], [0.3]])).tolist() == [[[0.1], [0.2]], [], [[0.3]]]
    assert found.shaped(np.asarray([1, 2, 3])).tolist() == [[1, 2], [], [3]]


def test_constituents_of_jets_of_events_are_rows_too() -> None:
    deep = ak.Array([[[1.0, 2.0], []], [], [[3.0]]])
    found = rows({"a": deep, "b": deep, "c": deep}, THREE)
    assert len(found) == 3
    assert found.shaped(np.asarray([1, 2, 3])).tolist() == [[[1, 2], []], [], [[3]]]


def test_a_number_of_the_event_counts_for_all_its_candidates() -> None:
    found = rows({"pt": JETS.pt, "eta": JETS.eta, "met": ak.Array([10.0, 20.0, 30.0])}, THREE)
    assert only(found)[1].tolist() == [[1, 2, 10], [4, 5, 10], [7, 8, 30]]


def test_an_awkward_array_of_vectors_keeps_its_last_axis() -> None:
    vectors = ak.to_regular(ak.Array([[[1.0, 2.0, 3.0]], [], [[4.0, 5.0, 6.0]]]), axis=2)
    found = rows(vectors, THREE)
    assert only(found)[1].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.shaped(np.asarray([0.5, 0.25])).tolist() == [[0.5], [], [0.25]]


def test_a_flat_awkward_array_gives_an_awkward_array() -> None:
    found = rows(ak.Array(np.ones((2, 3))), THREE)
    assert isinstance(found.shaped(np.ones((2, 1))), ak.Array)


@given(st.lists(st.integers(0, 4), max_size=8))
def test_every_structure_comes_back(counts: list[int]) -> None:
    flat = np.arange(float(sum(counts)))
    jets = ak.unflatten(ak.Array(flat), np.asarray(counts, np.int64))
    found = rows({"a": jets, "b": jets, "c": jets}, THREE)
    assert only(found)[1].tolist() == [[n, n, n] for n in flat]
    assert found.shaped(flat).tolist() == jets.tolist()


REFUSED: list[tuple[Any, list[Tensor], str]] = [
    (np.ones((2, 4)), THREE, r"input 'x' takes shape (rows, 3), not (2, 4)"),
    (np.ones(3), THREE, "one row is array[None]"),
    (np.ones(2), THREE, "takes shape (rows, 3), not (2,)"),
    (1.0, THREE, "takes shape (rows, 3)"),
    ([[1.0], [2.0, 3.0]], THREE, "rows of different lengths: candidates go in an awkward array"),
    ({"pt": [1.0], "eta": [2.0]}, THREE, "takes 3 columns in 'x', not 2: pt, eta"),
    (COLUMNS | {"phi": [1.0, 2.0, 3.0]}, THREE, "the columns pt, eta, phi do not have the same length"),
    ({"pt": JETS.pt, "eta": JETS.eta, "x": JETS.pt[:, :1]}, THREE, "do not have the same length"),
    (ak.Array([[1.0, None], []]), [Tensor("x", "FP32", (-1,))], "has missing values"),
    (ak.Array([[1.0], None]), [Tensor("x", "FP32", (-1,))], "has missing values"),
    (ak.Array([[[1.0, 2.0, 3.0], [4.0]]]), THREE, "is no array of numbers with 2 axes"),
    (np.ones((2, 2)), PAIR, "several inputs: give a mapping with arrays 'jets' (rows, 2), 'n' (rows, 1)"),
    ({"jets": np.ones((2, 2))}, PAIR, "takes arrays 'jets' (rows, 2), 'n' (rows, 1), not jets"),
    ({}, THREE, "not none"),
    ({"jets": np.ones((2, 2)), "n": [1]}, PAIR, "different numbers of rows"),
    ({"jets": ak.Array(np.ones((2, 2))), "n": [1, 1]}, PAIR, "different structures"),
    ({"jets": np.ones((1, 2)), "n": [1.5]}, PAIR, "takes int64, not float64: convert it with .astype"),
    (np.asarray([[2**40]]), [Tensor("i", "INT32", (-1, 1))], "takes int32, not int64"),
    ([["a", "b", "c"]], THREE, "takes float32, not <U1"),
]


@pytest.mark.parametrize(("data", "inputs", "said"), REFUSED)
def test_what_does_not_fit_is_said(data: Any, inputs: list[Tensor], said: str) -> None:
    with pytest.raises(BadInput) as error:
        rows(data, inputs)
    assert said in str(error.value)


def test_batches_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 100)
    found = rows(np.arange(75.0).reshape(25, 3), THREE)
    parts = [part["x"][1] for part in found.batches()]
    assert [len(part) for part in parts] == [8, 8, 8, 1]
    assert np.concatenate(parts).tolist() == only(found)[1].tolist()
    assert [len(part["x"][1]) for part in found.batches(fixed=10)] == [10, 10, 5]


def test_a_row_that_is_larger_than_a_batch_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4)
    assert [len(part["x"][1]) for part in rows(np.ones((2, 3)), THREE).batches()] == [1, 1]
