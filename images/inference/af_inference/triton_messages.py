"""Tensors in Triton's gRPC messages: raw, as all clients send them, or typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonclient.grpc import service_pb2

from af_inference.errors import Invalid, TooLarge
from af_inference.served import Served
from af_inference.settings import Limits
from af_inference.tensors import Array, check_shape, from_bytes, from_values, to_bytes

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def feeds(request: Any, limits: Limits) -> dict[str, Array]:
    """Return the arrays of a ``ModelInferRequest``, by their names.

    Raises
    ------
    Invalid
        Tensors are not what their datatypes and shapes say.
    TooLarge
        There are more than a request may have.
    """
    inputs, raws = request.inputs, request.raw_input_contents
    if len(inputs) > limits.tensors or len(request.outputs) > limits.tensors:
        raise TooLarge(f"a request may have {limits.tensors} inputs, and as many outputs")
    if raws and len(raws) != len(inputs):
        raise Invalid(f"there are {len(inputs)} inputs, and raw_input_contents of {len(raws)}")
    arrays = [_raw(each, raw) for each, raw in zip(inputs, raws, strict=True)] if raws else [_typed(i) for i in inputs]
    found = {each.name: array for each, array in zip(inputs, arrays, strict=True)}
    if len(found) != len(inputs):
        raise Invalid("an input is there twice")
    return found


def outputs(request: Any) -> tuple[str, ...]:
    """Return the names of the outputs that are wanted; none for all.

    Raises
    ------
    Invalid
        One is wanted in a way that is not offered.
    """
    for each in request.outputs:
        _check_parameters(each)
    return tuple(each.name for each in request.outputs)


def answer(served: Served, request_id: str, results: Mapping[str, Array]) -> Any:
    """Return results as a ``ModelInferResponse``, raw."""
    response = service_pb2.ModelInferResponse(
        model_name=served.model.name, model_version=served.model.version, id=request_id
    )
    for name, array in results.items():
        response.outputs.add(name=name, datatype=served.datatypes[name], shape=array.shape)
        response.raw_output_contents.append(to_bytes(array))
    return response


def _raw(tensor: Any, raw: bytes) -> Array:
    if tensor.HasField("contents"):
        raise Invalid(f"input {tensor.name} has contents beside raw_input_contents")
    _check_parameters(tensor)
    return from_bytes(tensor.datatype, check_shape(tensor.name, tensor.shape), raw)


def _typed(tensor: Any) -> Array:
    _check_parameters(tensor)
    shape, field = check_shape(tensor.name, tensor.shape), _CONTENTS.get(tensor.datatype)
    if field is None:
        raise Invalid(f"input {tensor.name} of {tensor.datatype!r} can only be sent in raw_input_contents")
    if {descriptor.name for descriptor, _ in tensor.contents.ListFields()} - {field}:
        raise Invalid(f"input {tensor.name} of {tensor.datatype} has its numbers in {field}")
    values = list(getattr(tensor.contents, field))
    if tensor.datatype == "BYTES":
        values = _texts(values)
    return from_values(tensor.datatype, shape, values)


def _texts(values: list[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise Invalid("BYTES must be UTF-8, which is what models take") from None


def _check_parameters(tensor: Any) -> None:
    for name in ("shared_memory_region", "classification"):
        if name in tensor.parameters:
            raise Invalid(f"{name} is not offered: tensors come and go in the messages, whole")
