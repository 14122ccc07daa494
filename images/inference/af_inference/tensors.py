"""Tensors between numpy and the Open Inference Protocol: datatypes, raw bytes, and what of them JSON can hold."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from af_inference.errors import Invalid, Unprocessable

Array = NDArray[Any]
Arrays = Mapping[str, Array]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
DATATYPES: Mapping[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}
_RANK = 16
_ELEMENTS = 2**40
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model.

    Attributes
    ----------
    datatype
        As the protocol names it: ``FP32``, ``INT64``, ``BYTES`` …
    shape
        Length of each axis; -1 where it may be any.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def body(self) -> dict[str, Any]:
        """Return it as the protocol's metadata have it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def check(self, array: Array) -> None:
        """Refuse an array that this input does not take.

        Raises
        ------
        Invalid
            Datatype, rank or the length of an axis differs.
        """
        if array.dtype != DTYPES[self.datatype]:
            raise Invalid(f"input {self.name} is {self.datatype}, not {DATATYPES.get(array.dtype, array.dtype)}")
        if len(array.shape) != len(self.shape) or any(
            want not in (-1, got) for want, got in zip(self.shape, array.shape, strict=True)
        ):
            raise Invalid(f"input {self.name} has shape {list(self.shape)} (-1: any), not {list(array.shape)}")


def check_shape(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of a tensor that was sent, if it is one.

    Raises
    ------
    Invalid
        It has too many axes, or they are no whole numbers.
    """
    if len(shape) > _RANK or any(type(length) is not int or length < 0 for length in shape):
        raise Invalid(f"input {name} needs a shape of at most {_RANK} whole numbers")
    if math.prod(length or 1 for length in shape) > _ELEMENTS:  # numpy overflows, also where an axis is 0
        raise Invalid(f"input {name} needs a shape of at most {_ELEMENTS} elements")
    return tuple(shape)


def from_bytes(datatype: object, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Return the array that raw little-endian bytes hold; numbers are not copied, and cannot be written to.

    Raises
    ------
    Invalid
        The bytes are not as many as datatype and shape ask for.
    """
    dtype = _dtype(datatype)
    if dtype.hasobject:
        return _shaped(_strings(raw), shape)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise Invalid(
            f"{datatype} of shape {list(shape)} has {math.prod(shape) * dtype.itemsize} bytes, not {len(raw)}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def from_values(datatype: object, shape: Sequence[int], values: Any) -> Array:
    """Return the array of a JSON list, flat or nested.

    Raises
    ------
    Invalid
        Values of another type, out of range, or not as many as the shape asks for.
    """
    dtype = _dtype(datatype)
    if not isinstance(values, list):
        raise Invalid(f"data are no {datatype}, but must be a list of them")
    flat = _flat(values)
    # Before there is an array: numpy would make text of all of them, each as long as the longest.
    if not set(map(type, flat)) <= ({str} if dtype.hasobject else {bool, int, float}):
        raise Invalid(f"data are no {datatype}")
    try:
        array = np.array(flat, object if dtype.hasobject else None)
    except OverflowError:
        raise Invalid(f"data are out of the range of {datatype}") from None
    return _shaped(_cast(array, dtype), shape)


def to_bytes(array: Array) -> bytes:
    """Return an array as raw little-endian bytes, strings with their lengths before them."""
    if not array.dtype.hasobject:
        return array.tobytes()
    parts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel()]
    return b"".join(part for text in parts for part in (_LENGTH.pack(len(text)), text))


def to_values(name: str, array: Array) -> Any:
    """Return an array flat, for orjson.

    Raises
    ------
    Unprocessable
        A number is not finite.
    """
    if array.dtype.hasobject:
        return [text.decode() if isinstance(text, bytes) else str(text) for text in array.ravel()]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Unprocessable(
            f"output {name} has NaN or infinity, which JSON cannot hold: look at the inputs, or ask for binary data"
        )
    return np.ascontiguousarray(array).ravel()


def _dtype(datatype: object) -> np.dtype[Any]:
    dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise Invalid(f"datatype {datatype!r} is none of {', '.join(DTYPES)}")
    return dtype


def _shaped(array: Array, shape: Sequence[int]) -> Array:
    if array.size != math.prod(shape):
        raise Invalid(f"shape {list(shape)} has {math.prod(shape)} elements, not {array.size}")
    return array.reshape(shape)


def _flat(values: list[Any]) -> list[Any]:
    """Return what lists of lists hold."""
    for _ in range(_RANK):
        kinds = set(map(type, values))
        if list not in kinds:
            return values
        if len(kinds) > 1 or len(set(map(len, values))) > 1:
            raise Invalid("data are a list, flat or nested as the shape says: these have rows of different length")
        values = list(chain.from_iterable(values))
    raise Invalid(f"data may be nested {_RANK} deep")


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert what JSON can say: no fraction into integers, nothing out of range."""
    kind, datatype = array.dtype.kind, DATATYPES[dtype]
    if array.size == 0:
        return array.astype(dtype)
    if dtype.hasobject:
        return array
    if kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]:
        raise Invalid(f"data are no {datatype}")
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise Invalid(f"data are out of the range of {datatype}")
    with np.errstate(over="ignore"):  # too large for the datatype is infinite, as it is when written so
        return array.astype(dtype)


def _strings(raw: bytes | memoryview) -> Array:
    data, at, texts = bytes(raw), 0, []
    while at < len(data):
        end = at + _LENGTH.size
        if end > len(data) or (at := end + _LENGTH.unpack_from(data, end - _LENGTH.size)[0]) > len(data):
            raise Invalid("BYTES end before their length says")
        texts.append(data[end:at])
    array = np.empty(len(texts), object)
    try:
        array[:] = [text.decode() for text in texts]
    except UnicodeDecodeError:
        raise Invalid("BYTES must be UTF-8, which is what models take") from None
    return array
