"""A model on its way to the service: its file, what it answered to a sample, and whether ONNX answers the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from af_client.arrays import rows
from af_client.errors import NotConvertible
from af_client.open_inference import Tensor

Array = NDArray[Any]

TOLERANCE = 1e-5
"""Largest difference to the original; of answers above 1, relative."""
INPUT = "input"
SEED = 20260411
SEEDED_ROWS = 512
ZERO = 1e-30
"""LightGBM writes a threshold at zero as 1e-35, and takes as small inputs for zero: no sample tells them apart."""
CHECKED_ROWS = 10_000
SENT_ROWS = 512
"""Of those that were checked, for the service to check again."""


@dataclass(frozen=True)
class Converted:
    """A model as the service takes it.

    Attributes
    ----------
    file
        ``model.onnx`` or ``model.keras``.
    sample
        Name of an input or output -> what it is for some rows; empty where nothing could be asked.
    params
        For TFaaS' ``params.json``.
    labels
        Of the classes, where they have names.
    """

    file: str
    content: bytes = field(repr=False)
    sample: Mapping[str, Array] = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def given_rows(sample: Any, columns: int) -> Array | None:
    """Return at most `CHECKED_ROWS` of what was given, (rows, columns) in float64, from all over it."""
    if sample is None:
        return None
    ((_, matrix),) = rows(sample, [Tensor(INPUT, "FP64", (-1, columns))]).inputs.values()
    if not len(matrix):
        raise NotConvertible("the sample has no rows: give some that the model will be asked of, or none at all")
    return np.asarray(matrix[:: -(-len(matrix) // CHECKED_ROWS)])


def seeded_rows(onnx_model: Any, columns: int) -> Array:
    """Return rows at and around the thresholds of the model's trees, where it has some: there they can differ."""
    random = np.random.default_rng(SEED)
    found = random.normal(size=(SEEDED_ROWS, columns))
    for column, thresholds in _thresholds(onnx_model).items():
        if column < columns:
            around = random.choice(np.asarray(thresholds), SEEDED_ROWS)
            away = random.normal(scale=np.std(thresholds) or 1.0, size=SEEDED_ROWS)
            found[:, column] = around + away * random.integers(0, 2, SEEDED_ROWS)
    found[np.abs(found) < ZERO] = 0
    return found.astype(np.float32)


def _thresholds(onnx_model: Any) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for node in onnx_model.graph.node:
        attributes = {each.name: each for each in node.attribute}
        if "nodes_values" in attributes:
            columns, values = attributes["nodes_featureids"].ints, attributes["nodes_values"].floats
            for column, value, mode in zip(columns, values, attributes["nodes_modes"].strings, strict=True):
                if mode != b"LEAF":
                    found.setdefault(column, []).append(value)
    return found


def checked(
    onnx_model: Any, original: Callable[[Array], Array], sample: Array | None, columns: int, what: str
) -> Converted:
    """Return an ONNX model, if it answers as the original does.

    Parameters
    ----------
    original
        (rows, columns) -> (rows, outputs).
    what
        The original, in words.

    Raises
    ------
    NotConvertible
        It answers otherwise; the message says where and by how much.
    """
    asked = seeded_rows(onnx_model, columns) if sample is None else sample
    content, output = onnx_model.SerializeToString(), onnx_model.graph.output[-1].name
    served = asked.astype(np.float32)
    answers = _run(content, output, served)
    wanted = _original(original, asked, what)
    if wanted.size != answers.size:
        raise NotConvertible(f"{what} gives {wanted.shape}, and {answers.shape} once it is converted: push a predictor")
    wanted = wanted.reshape(answers.shape)
    if (wrong := _different(answers, wanted)).any():
        rounded = _original(original, served, what).reshape(answers.shape)
        raise NotConvertible(_difference(what, answers, wanted, wrong, bool(_different(answers, rounded).any())))
    sent = {INPUT: served[:SENT_ROWS], output: answers[:SENT_ROWS]}
    return Converted("model.onnx", content, sent, {"input_name": INPUT, "output_name": output})


def _original(original: Callable[[Array], Array], asked: Array, what: str) -> Array:
    try:
        return np.asarray(original(asked))
    except ValueError as error:
        raise NotConvertible(f"{what} does not answer to arrays of {asked.dtype}: {error}") from error


def _run(content: bytes, output: str, sample: Array) -> Array:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it writes to the home directory, and tells its maker
    import onnxruntime  # noqa: PLC0415 - a Keras model needs none here

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {session.get_inputs()[0].name: sample})[0])


def _different(answers: Array, wanted: Array) -> Array:
    apart = ~np.isclose(answers, wanted, rtol=0, atol=TOLERANCE * np.maximum(1, np.abs(wanted)), equal_nan=True)
    return np.asarray(apart.reshape(len(apart), -1).any(axis=1))


def _difference(what: str, answers: Array, wanted: Array, wrong: Array, converted_otherwise: bool) -> str:
    most = np.nanmax(np.abs(answers - wanted)[wrong])
    rows = f"{wrong.sum()} of {len(wrong)} rows differ, by up to {most:.3g}, the first is row {int(np.argmax(wrong))}"
    if converted_otherwise:
        return f"{what} answers otherwise once it is converted: {rows}: this converter cannot be relied on for it"
    return (
        f"{what} answers otherwise when its inputs are rounded to 32 bits, as they are for the service: {rows}: they "
        "lie so close to a threshold that rounding crosses it: train and check it with float32, .astype('float32')"
    )


def failure(what: str, error: Exception, instead: str) -> NotConvertible:
    """Return what is to be told of a converter that fails."""
    said = next(iter(str(error).splitlines()), type(error).__name__)[:300]
    return NotConvertible(f"{what} cannot be converted: {said}: {instead}")
