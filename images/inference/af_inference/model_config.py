"""A model's configuration as Triton has it: what ``config.pbtxt`` beside the model says, completed from the model."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from af_inference.errors import Unprocessable
from af_inference.repository import Artifact
from af_inference.runtime import Model
from af_inference.tensors import Tensor

FILE = "config.pbtxt"
_BYTES = 2**20
ROWS = 1024  # coffea pads each request to as many: few cost requests, many cost small requests
"""Rows of one request that are advised, where ``config.pbtxt`` advises none."""


def read(artifact: Artifact) -> Any:
    """Return the ``ModelConfig`` beside a model; an empty one if there is none.

    Raises
    ------
    Unprocessable
        It is not in protobuf's text format, or not this model's.
    """
    config = model_config_pb2.ModelConfig()
    file = artifact.beside(FILE)
    if file is None:
        return config
    try:
        with file.open("rb") as opened:
            text_format.Parse(opened.read(_BYTES).decode(), config)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise Unprocessable(f"{FILE} of {artifact.name} cannot be read: {error}") from None
    if config.name not in ("", artifact.name):
        raise Unprocessable(f"{FILE} of {artifact.name} is that of {config.name}")
    return config


def none() -> Any:
    """Return a ``ModelConfig`` that says nothing."""
    return model_config_pb2.ModelConfig()


def complete(given: Any, model: Model, batched: bool) -> Any:
    """Return a configuration with all that Triton's clients look at.

    Parameters
    ----------
    given
        What the admin or the user has written; names and shapes are the model's whatever it says.
    """
    config = model_config_pb2.ModelConfig()
    config.CopyFrom(given)
    config.name, config.platform, config.backend = model.name, model.platform, "onnxruntime"
    config.max_batch_size = _most_rows(config.max_batch_size, model, batched)
    first = 1 if config.max_batch_size else 0  # Triton's dims leave out the axis of the batch
    config.ClearField("input")
    config.ClearField("output")
    for tensor in model.inputs:
        config.input.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.shape[first:])
    for tensor in model.outputs:
        config.output.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.shape[first:])
    if config.HasField("dynamic_batching") and not config.dynamic_batching.preferred_batch_size:
        config.dynamic_batching.preferred_batch_size.append(
            max(config.max_batch_size, 1)
        )  # coffea reads the first, unasked
    return config


def body(config: Any) -> dict[str, Any]:
    """Return a configuration as HTTP's clients read it."""
    found: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return found


def _most_rows(given: int, model: Model, batched: bool) -> int:
    if batched or given == 1:
        return given if given > 0 else ROWS
    firsts = {tensor.shape[0] if tensor.shape else -1 for tensor in (*model.inputs, *model.outputs)}
    fixed = firsts.pop() if len(firsts) == 1 else -1
    return max(fixed, 0)  # as many as it must be, which coffea then sends; 0 where there is no axis of rows


def _data_type(tensor: Tensor) -> Any:
    name = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return model_config_pb2.DataType.Value(f"TYPE_{name}")
