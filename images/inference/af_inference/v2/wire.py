"""Requests and answers of ``infer`` as they are on the wire: JSON, and after it the tensors that are binary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from af_inference.errors import Invalid, TooLarge
from af_inference.served import Served
from af_inference.settings import Limits
from af_inference.tensors import Array, check_shape, from_bytes, from_values, to_bytes, to_values

HEADER_LENGTH = b"inference-header-content-length"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes
    ----------
    id
        Echoed, if there is one.
    outputs
        Names that are wanted, and whether each is to be binary; none of them for all.
    binary
        Whether outputs that are not named are to be binary.
    """

    id: str | None
    feeds: dict[str, Array]
    outputs: dict[str, bool]
    binary: bool


def parse(body: bytes, header_length: bytes | None, limits: Limits) -> Request:
    """Return what a body asks.

    Parameters
    ----------
    header_length
        ``Inference-Header-Content-Length``: the bytes of JSON at the beginning; without it all is JSON.

    Raises
    ------
    Invalid
        It is not what the protocol says.
    TooLarge
        It has more tensors than a request may have.
    """
    length = _length(header_length, len(body))
    head = json_object(body[:length])
    parameters = _object(head.get("parameters", {}), "parameters")
    inputs = _list(head.get("inputs"), "inputs", limits)
    feeds, rest = {}, memoryview(body)[length:]
    for each in inputs:
        name, array, used = _input(each, rest, limits)
        feeds[name], rest = array, rest[used:]
    if len(rest):
        raise Invalid(f"{len(rest)} bytes are left over: binary_data_size of the inputs must be all there is")
    if len(feeds) != len(inputs):
        raise Invalid("an input is there twice")
    binary = parameters.get("binary_data_output") is True
    return Request(_id(head.get("id"), limits), feeds, _outputs(head.get("outputs", []), binary, limits), binary)


def encode(served: Served, request: Request, results: Mapping[str, Array]) -> tuple[bytes, int | None]:
    """Return an answer's body, and how many bytes of it are JSON if tensors follow.

    Raises
    ------
    Unprocessable
        An output that is not binary has a number that JSON cannot hold.
    """
    outputs, raws = [], []
    for name, array in results.items():
        output: dict[str, Any] = {"name": name, "datatype": served.datatypes[name], "shape": array.shape}
        if request.outputs.get(name, request.binary):
            raws.append(to_bytes(array))
            output["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            output["data"] = to_values(name, array)
        outputs.append(output)
    head: dict[str, Any] = {"model_name": served.model.name, "model_version": served.model.version, "outputs": outputs}
    if request.id is not None:
        head["id"] = request.id
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((text, *raws)), len(text)) if raws else (text, None)


def _length(header_length: bytes | None, most: int) -> int:
    if header_length is None:
        return most
    if not header_length.isdigit() or not 0 < (length := int(header_length[:20])) <= most:
        raise Invalid("Inference-Header-Content-Length must be the bytes of JSON at the beginning of the body")
    return length


def json_object(text: bytes) -> dict[str, Any]:
    """Return what a body says.

    Raises
    ------
    Invalid
        It is no JSON, or no object.
    """
    try:
        return _object(orjson.loads(text), "the body")
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is no JSON: {error}") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"{what} must be a JSON object")
    return value


def _list(value: Any, what: str, limits: Limits) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(f"{what} must be a list")
    if len(value) > limits.tensors:
        raise TooLarge(f"a request may have {limits.tensors} {what}")
    return value


def _text(value: Any, what: str, limits: Limits) -> str:
    if not isinstance(value, str) or len(value) > limits.name:
        raise Invalid(f"{what} must be a string of at most {limits.name} characters")
    return value


def _id(value: Any, limits: Limits) -> str | None:
    return None if value is None else _text(value, "id", limits)


def _input(value: Any, rest: memoryview, limits: Limits) -> tuple[str, Array, int]:
    """Return an input's name, its array, and how many bytes of the rest it took."""
    body = _object(value, "an input")
    name = _text(body.get("name"), "the name of an input", limits)
    shape = check_shape(name, _list(body.get("shape"), f"the shape of {name}", limits))
    size = _object(body.get("parameters", {}), "parameters").get("binary_data_size")
    if size is None:
        if "data" not in body:
            raise Invalid(f"input {name} has neither data nor binary_data_size")
        return name, from_values(body.get("datatype"), shape, body["data"]), 0
    if "data" in body or type(size) is not int or not 0 <= size <= len(rest):
        raise Invalid(f"input {name}: binary_data_size says {size}, and {len(rest)} bytes are there")
    return name, from_bytes(body.get("datatype"), shape, rest[:size]), size


def _outputs(value: Any, binary: bool, limits: Limits) -> dict[str, bool]:
    found = {}
    for each in _list(value, "outputs", limits):
        body = _object(each, "an output")
        parameters = _object(body.get("parameters", {}), "parameters")
        if parameters.get("classification"):
            raise Invalid("classification is not offered: take the largest of the output's values")
        found[_text(body.get("name"), "the name of an output", limits)] = parameters.get("binary_data", binary) is True
    return found
