"""The protocol's binary form, against Triton's own client, and what is no answer."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.http._utils import _get_inference_request

from af_client.errors import ModelRefused
from af_client.open_inference import LENGTH, NUMPY, Signature, answer, request

TEXTS = np.asarray(["one", "", "d\u00e9j\u00e0"], object)


def arrays() -> dict[str, tuple[str, Any]]:
    numbers = {kind.lower(): (kind, np.asarray([[0, 1], [1, 0]], dtype)) for kind, dtype in NUMPY.items()}
    return numbers | {"texts": ("BYTES", TEXTS)}


def test_a_question_is_as_tritons_client_asks_it() -> None:
    inputs = arrays()
    theirs = []
    for name, (kind, array) in inputs.items():
        theirs.append(InferInput(name, array.shape, kind))
        theirs[-1].set_data_from_numpy(array)
    wanted = [InferRequestedOutput("probabilities", binary_data=True)]
    expected, size = _get_inference_request(
        inputs=theirs,
        request_id="",
        outputs=wanted,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        custom_parameters=None,
    )
    body, headers = request(inputs, ["probabilities"])
    head, length = json.loads(body[: int(headers[LENGTH])]), int(headers[LENGTH])
    assert body[length:] == expected[size:]
    other = json.loads(expected[:size])
    assert head["inputs"] == other["inputs"]
    assert head["outputs"] == other["outputs"]


def reply(arrays: dict[str, tuple[str, Any]]) -> tuple[bytes, str]:
    body, headers = request(arrays, [])
    length = int(headers[LENGTH])
    head = json.loads(body[:length])
    changed = json.dumps({"model_name": "m", "outputs": head["inputs"]}).encode()
    return changed + body[length:], str(len(changed))


def test_an_answer_is_read_as_tritons_client_reads_it() -> None:
    content, length = reply(arrays())
    theirs = InferResult.from_response_body(content, header_length=int(length))
    found = answer(content, length)
    for name, array in found.items():
        other = theirs.as_numpy(name)
        if name == "texts":
            assert array.tolist() == [text.decode() for text in other.tolist()] == TEXTS.tolist()
        else:
            assert array.dtype == other.dtype
            assert array.tolist() == other.tolist()
    assert found.keys() == arrays().keys()


def test_an_answer_may_be_json_alone() -> None:
    body = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 1.5]}]}
    assert answer(json.dumps(body).encode(), None)["y"].tolist() == [[0.5], [1.5]]


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (b"<html>", None),
        (b"[]", None),
        (b'{"outputs": [{"name": "y"}]}', None),
        (b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}', None),
        (
            b'{"outputs": [{"name": "y", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 2}}]}ab',
            "95",
        ),
        (
            b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 2}}]}ab',
            "94",
        ),
    ],
)
def test_what_is_no_answer_is_said(content: bytes, length: str | None) -> None:
    with pytest.raises(ModelRefused, match="no answer of a model service"):
        answer(content, length)


@given(st.data())
def test_whatever_comes_is_an_answer_or_is_said_to_be_none(data: st.DataObject) -> None:
    content, length = reply(arrays())
    at = data.draw(st.integers(0, len(content)))
    changed = content[:at] + data.draw(st.binary(max_size=8)) + content[at + data.draw(st.integers(0, 8)) :]
    with contextlib.suppress(ModelRefused):
        answer(changed, data.draw(st.sampled_from([length, None, "", "-1", "x", str(2**70)])))


@pytest.mark.parametrize("outputs", ["x", 1, ["x"], [[]], [{"name": "y", "datatype": "BYTES", "shape": [10**15]}]])
def test_json_of_another_shape_is_no_answer(outputs: Any) -> None:
    for read in (lambda: answer(json.dumps({"outputs": outputs}).encode(), None), lambda: Signature.parse(outputs)):
        with pytest.raises(ModelRefused, match="no answer of a model service"):
            read()


@pytest.mark.parametrize("length", ["1e999", "10000000000000000000000"])
def test_a_shape_of_no_size_is_no_answer(length: str) -> None:
    head = f'{{"outputs": [{{"name": "y", "datatype": "FP32", "data": [1], "shape": [{length}]}}]}}'
    with pytest.raises(ModelRefused, match="no answer of a model service"):
        answer(head.encode(), None)


def test_a_type_that_numpy_lacks_is_said() -> None:
    signature = Signature.parse({"name": "m", "inputs": [{"name": "x", "datatype": "BF16", "shape": ["-1", "3"]}]})
    assert signature.inputs[0].shape == (-1, 3)
    with pytest.raises(ModelRefused, match="x is of type BF16, which numpy does not have"):
        _ = signature.inputs[0].dtype
