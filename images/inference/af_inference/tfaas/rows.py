"""Rows of numbers in, predictions out, in JSON and in TFaaS' protobuf messages."""

from __future__ import annotations

from array import array as c_array
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from af_inference.errors import Invalid, TooLarge, Unprocessable
from af_inference.settings import MIB
from af_inference.tensors import DTYPES, Array, Tensor

KEYS = 100_000
RANK = 8
# What is read of a body takes up to twenty times its bytes; for more rows at a time there is /v2, with binary tensors.
JSON_BYTES = 16 * MIB
PROTO_BYTES = 8 * MIB


class Asked(NamedTuple):
    """A request.

    Attributes
    ----------
    model
        Its name; empty where none was said.
    values
        Numbers of one row, or of several.
    """

    model: str
    values: Array


def from_json(body: bytes) -> Asked:
    """Return what a body asks, whatever its Content-Type says.

    Raises
    ------
    Invalid
        It is not what the protocol says.
    """
    try:
        row = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is no JSON: {error}") from None
    if not isinstance(row, dict):
        raise Invalid('the body must be an object: {"keys": […], "values": […], "model": "…"}')
    model, values = row.get("model"), row.get("values")
    if model is None or values is None:  # upstream is written in Go, to which the case of a key is nothing
        lower = {key.lower(): value for key, value in row.items()}
        model, values = lower.get("model", ""), lower.get("values")
    if not isinstance(model, str):
        raise Invalid("model must be a name")
    rows = _rows_of_floats(values)
    return Asked(model, _numbers(values) if rows is None else rows)


def _rows_of_floats(values: Any) -> Array | None:
    """Return rows that begin with a fraction as `_numbers` does, in half the time; None for whatever else it is."""
    try:
        if type(values[0][0]) is not float or len(set(map(len, values))) > 1:
            return None
        flat = list(chain.from_iterable(values))
        numbers = np.frombuffer(c_array("d", flat))
    except (TypeError, KeyError, IndexError, OverflowError):
        return None
    # To Python true is a number, 1. Only where there are such is it worth to look at the type of each.
    if ((numbers == 0) | (numbers == 1)).any() and bool in set(map(type, flat)):
        return None
    return numbers.reshape(len(values), -1)


def _numbers(values: Any) -> Array:
    if not isinstance(values, list):
        raise Invalid("values must be a list: the numbers of one row, or a list of rows")
    _check_numbers(values)
    try:
        numbers = np.array(values)
    except ValueError:
        raise Invalid("all rows in values must have the same number of values") from None
    if numbers.dtype.kind not in "fiu":
        raise Invalid("values has a number that is too large")
    return numbers


def _check_numbers(values: list[Any]) -> None:
    # First: numpy would make text of all of them, each as long as the longest.
    for depth in range(RANK):
        level: Iterable[Any] = values
        for _ in range(depth):
            level = chain.from_iterable(level)
        if (kinds := set(map(type, level))) != {list}:
            break
    if not kinds <= {int, float}:
        raise Invalid("values must be numbers: of one row, or of a list of rows")


def feed(asked: Asked, tensor: Tensor) -> tuple[Array, bool]:
    """Return the array that a model takes, and whether it is one row.

    Raises
    ------
    Invalid
        The numbers do not fit into its datatype, or have one axis too many or too few.
    """
    array, rank = asked.values, len(tensor.shape)
    one = array.ndim == rank - 1
    if not one and array.ndim != rank:
        raise Invalid(
            f"values must be one row or a list of rows of the model's input, which has shape {_shape(tensor)}"
        )
    dtype = DTYPES[tensor.datatype]
    if dtype.kind == "O":
        raise Invalid(
            f"the model takes text, which this protocol cannot send: ask it by POST /v2/models/{asked.model}/infer"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and the answer says so
        cast = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(cast, array):
        raise Invalid(f"the model takes {tensor.datatype}, and values has other numbers")
    return (cast[None] if one else cast), one


def _shape(tensor: Tensor) -> str:
    return str(["any" if length < 0 else length for length in tensor.shape])


def finite(output: Array) -> Array:
    """Return an output that JSON can hold.

    Raises
    ------
    Unprocessable
        There is a number in it that is none.
    """
    if output.dtype.kind == "f" and not np.isfinite(output).all():
        raise Unprocessable("the model's answer is not finite (NaN or infinite): look at the values that it was given")
    return output


def to_json(output: Array, one: bool) -> bytes:
    """Return the answer: the numbers of one row, or a list of them for each row, in the fewest digits."""
    answer = np.atleast_1d(finite(output)[0] if one else finite(output))
    if answer.dtype.kind == "O":
        return orjson.dumps([_text(each) for each in answer.ravel()]) + b"\n"
    plain = answer.astype(np.float32) if answer.dtype == np.float16 else answer
    return orjson.dumps(np.ascontiguousarray(plain), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def from_proto(body: bytes) -> Asked:
    """Return what a message ``Row`` asks.

    Raises
    ------
    Invalid, TooLarge
        It is none, or has more keys than any row has.
    """
    try:
        row = _ROW.FromString(body)
    except DecodeError:
        raise Invalid("the body is no message tfaaspb.Row") from None
    if len(row.key) > KEYS:
        raise TooLarge(f"a row may have {KEYS} keys")
    return Asked(row.model, np.array(row.value, np.float32))


def to_proto(output: Array) -> bytes:
    """Return the answer to one row as a message ``Predictions``; like upstream's, it has no labels.

    Raises
    ------
    Invalid
        The answer is no list of numbers.
    """
    if output.dtype.kind not in "fiub":
        raise Invalid("the model's answer is text, which this message cannot hold: ask it by /json")
    numbers = finite(np.atleast_1d(output[0]).ravel())
    return bytes(_PREDICTIONS(prediction=[{"probability": float(each)} for each in numbers]).SerializeToString())


def _messages() -> tuple[Any, Any]:
    """Return the two messages of upstream's ``tfaas.proto`` that its routes take and give."""
    kinds = descriptor_pb2.FieldDescriptorProto
    fields = {
        "Row": [
            ("key", kinds.TYPE_STRING, True),
            ("value", kinds.TYPE_FLOAT, True),
            ("model", kinds.TYPE_STRING, False),
        ],
        "Class": [("label", kinds.TYPE_STRING, False), ("probability", kinds.TYPE_FLOAT, False)],
        "Predictions": [("prediction", kinds.TYPE_MESSAGE, True)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="tfaas.proto", package="tfaaspb", syntax="proto3")
    for name, of_message in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(of_message, 1):
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            type_name = ".tfaaspb.Class" if kind == kinds.TYPE_MESSAGE else None
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfaaspb.{name}"))
        for name in ("Row", "Predictions")
    ]
    return found[0], found[1]


_ROW, _PREDICTIONS = _messages()
