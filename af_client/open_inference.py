"""The Open Inference Protocol's words (github.com/kserve/open-inference-protocol), in Triton's binary form. Pure.

Not ``tritonclient.http``: it brings gevent, whose clients can neither be pickled into a task nor shared between
threads, and it does not wait when the service is full. What we need of the protocol is JSON with raw arrays behind it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from af_client.errors import ModelRefused

if TYPE_CHECKING:  # 0.1 s, which `af --help` must not pay
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON; behind it come the arrays."""
NUMPY = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
BYTES = "BYTES"
"""Text, each with its length before it."""
WRONG = (ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error)
"""What comes of reading an answer that is none."""
_PREFIX = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model.

    Attributes
    ----------
    datatype
        ``FP32``, ``INT64``, ``BYTES``, ...
    shape
        Of all axes, rows first; -1 where any length will do.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of numpy's arrays for it."""
        import numpy as np  # noqa: PLC0415 - see above

        if self.datatype == BYTES:
            return np.dtype(object)
        try:
            return np.dtype(NUMPY[self.datatype])
        except KeyError as error:
            raise ModelRefused(f"{self.name} is of type {self.datatype}, which numpy does not have") from error


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; `versions` are those that answer, oldest first."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Signature:
        """Read a model's metadata.

        Raises
        ------
        ModelRefused
            It is none.
        """
        try:
            inputs, outputs = ([_tensor(each) for each in body.get(key) or []] for key in ("inputs", "outputs"))
            return cls(body["name"], tuple(map(str, body.get("versions") or ())), tuple(inputs), tuple(outputs))
        except WRONG as error:
            raise no_answer(error) from error


def no_answer(error: Exception) -> ModelRefused:
    """Return what is to be told of one that answers, and not in these words."""
    return ModelRefused(f"this is no answer of a model service: {error}: is its URL right?")


def _tensor(body: Mapping[str, Any]) -> Tensor:
    return Tensor(body["name"], body["datatype"], tuple(int(length) for length in body["shape"]))


def request(inputs: Mapping[str, tuple[str, Array]], outputs: Sequence[str]) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a question.

    Parameters
    ----------
    inputs
        Name -> datatype and array.
    outputs
        Names of those wanted; none: all.
    """
    raw = {name: _encode(datatype, array) for name, (datatype, array) in inputs.items()}
    entries = [
        {
            "name": name,
            "datatype": datatype,
            "shape": list(array.shape),
            "parameters": {"binary_data_size": len(raw[name])},
        }
        for name, (datatype, array) in inputs.items()
    ]
    body: dict[str, Any] = {"inputs": entries, "parameters": {"binary_data_output": True}}
    if outputs:
        body["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = json.dumps(body).encode()
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}
    return b"".join((head, *raw.values())), headers


def answer(body: bytes, length: str | None) -> dict[str, Array]:
    """Return name -> array of an answer; `length` is what its header of that name says.

    Raises
    ------
    ModelRefused
        It is none.
    """
    try:
        end = len(body) if length is None else int(length)
        entries = json.loads(body[:end])["outputs"]
        found, at = {}, end
        for entry in entries:
            size = (entry.get("parameters") or {}).get("binary_data_size")
            content = None if size is None else body[at : at + size]
            found[entry["name"]] = _decode(_tensor(entry), entry.get("data") if content is None else content)
            at += size or 0
    except WRONG as error:
        raise no_answer(error) from error
    return found


def _encode(datatype: str, array: Array) -> bytes:
    if datatype != BYTES:
        return array.tobytes()
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel()]
    return b"".join(_PREFIX.pack(len(text)) + text for text in texts)


def _decode(tensor: Tensor, content: Any) -> Array:
    import numpy as np  # noqa: PLC0415 - see above

    if not isinstance(content, bytes):
        return np.asarray(content, tensor.dtype).reshape(tensor.shape)
    if tensor.datatype != BYTES:
        return np.frombuffer(content, tensor.dtype).reshape(tensor.shape)
    texts = _texts(content)
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(tensor.shape)


def _texts(content: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(content):
        (length,) = _PREFIX.unpack_from(content, at)
        at += _PREFIX.size
        texts.append(content[at : at + length].decode())
        at += length
    return texts
