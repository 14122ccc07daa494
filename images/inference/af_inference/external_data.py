"""Whether an ONNX file keeps its weights elsewhere, and where; read without the onnx package, which is not here.

A path outside the model's folder would make the server read what its user could not.
"""

from __future__ import annotations

import mmap
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from af_inference.errors import Unprocessable

# Of onnx.proto what leads to a tensor, by field number; each field as a repeated one, which reads both kinds.
_TEXT = "bytes"  # they are strings, and in a file that somebody made may be no text
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Entry": {"key": (1, _TEXT), "value": (2, _TEXT)},
    "Tensor": {"external_data": (13, "Entry")},
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse_tensor": (22, "Sparse"),
        "sparse_tensors": (23, "Sparse"),
    },
    "Node": {"attribute": (5, "Attribute")},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "sparse_initializer": (15, "Sparse")},
    "Training": {"initialization": (1, "Graph"), "algorithm": (2, "Graph")},
    "Function": {"node": (7, "Node"), "attribute_proto": (11, "Attribute")},
    "Model": {"graph": (7, "Graph"), "training_info": (20, "Training"), "functions": (25, "Function")},
}


_KEY = b"location"
_BESIDE = re.compile(rb"[A-Za-z0-9_.-]{1,255}")  # a file's name, and no path


def check(file: Path, most: int) -> None:
    """Refuse an ONNX file that is too large, or whose weights are not in regular files beside it.

    Parameters
    ----------
    most
        Bytes that the file and what it refers to may have, in all.

    Raises
    ------
    Unprocessable
        What is wrong with it.
    """
    size = _size(file)
    for location in sorted(_locations(file)) if size else ():
        if not _BESIDE.fullmatch(location) or location in (b".", b".."):
            raise Unprocessable(f"its weights are in {location[:100]!r}: external data must lie beside model.onnx")
        size += _size(file.parent / location.decode())
    if size > most:
        raise Unprocessable(f"the model has {size} bytes, and may have {most}")


def _size(file: Path) -> int:
    try:
        about = file.lstat()
    except OSError:
        raise Unprocessable(f"{file.name} is missing") from None
    if not stat.S_ISREG(about.st_mode):
        raise Unprocessable(f"{file.name} must be a regular file, no link")
    return about.st_size


def _locations(file: Path) -> set[bytes]:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(_KEY) < 0:  # the key is in the file letter by letter: without it, nothing need be parsed
            return set()
        try:
            model = _Model.FromString(data[:])
        except DecodeError:
            raise Unprocessable("model.onnx is no ONNX file") from None
    return {value for entry in _entries(model) if _KEY in entry.key for value in entry.value or [b""]}


def _entries(message: Message) -> Iterator[Any]:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value:
            yield from [item] if field.message_type.name == "Entry" else _entries(item)


def _model_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="af_inference/external_data.proto", package="af_inference", syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            typed = {"type": 12} if kind == _TEXT else {"type": 11, "type_name": f".af_inference.{kind}"}
            message.field.add(name=field, number=number, label=3, **typed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("af_inference.Model"))
    return found


_Model = _model_class()
