"""Which format an upload is in, by the names that TFaaS and Keras give their files."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from af_inference.errors import Unprocessable

T = TypeVar("T")
Array = NDArray[Any]
# The source itself: arrays by the names of the ONNX model's inputs, in their order; the outputs in its order.
Original = Callable[[Mapping[str, Array]], Sequence[Array]]

ONNX, KERAS, SAVED_MODEL, FROZEN = "onnx", "keras", "saved_model", "frozen"
# What lies in the directory, with the format that it stands for; the first that is there.
FILES = {"model.onnx": ONNX, "model.keras": KERAS, "saved_model.pb": SAVED_MODEL, "tf_model.pb": FROZEN}
SUFFIXES = {".onnx": ONNX, ".keras": KERAS, ".pb": FROZEN}
# Of axes that a model leaves open besides its rows: pictures, sequences; convolutions want more than one.
LENGTHS = (1, 32, 224)
PROGRAMS = (".h5", ".hdf5", ".pkl", ".pickle", ".joblib", ".pt", ".pth")


def find(source: Path, params: Mapping[str, Any]) -> tuple[str, Path]:
    """Return the format of what is in a directory, and the file that says so.

    Parameters
    ----------
    params
        TFaaS' ``params.json``: its ``model`` may name the file.

    Raises
    ------
    Unprocessable
        There is no model, or it is in a format that is not taken.
    """
    for name, kind in FILES.items():
        if (source / name).is_file():
            return kind, source / name
    named = file_named(source, params.get("model") or "?")
    if named and named.suffix in SUFFIXES:
        return SUFFIXES[named.suffix], named
    raise Unprocessable(_missing(source))


def file_named(source: Path, name: object) -> Path | None:
    """Return the file of an upload that its ``params.json`` names; None where there is none of that name."""
    file = source / Path(str(name)).name
    try:
        return file if file.is_file() else None
    except OSError:  # longer than names can be
        return None


def _missing(source: Path) -> str:
    found = sorted(path.name for path in source.iterdir())[:10]
    if programs := [name for name in found if name.endswith(PROGRAMS)]:
        return (
            f"{programs[0]} is a program, and runs when it is read: convert it with `af models push`, which sends ONNX"
        )
    return f"there is no {', '.join(FILES)} among {', '.join(found) or 'the files, of which there are none'}"


def convert(kind: str, file: Path, target: Path, params: Mapping[str, Any]) -> Original | None:
    """Write an ONNX model, and return its source ready to run; None where the source is ONNX itself."""
    if kind == ONNX:
        file.rename(target)
        return None
    # Only now: the environment that serves has no TensorFlow.
    converters = importlib.import_module("af_inference.convert.tensorflow_formats")
    original: Original = converters.CONVERT[kind](file, target, params)
    return original


def at_any_length(run: Callable[[int], T]) -> T:
    """Run what works at some length of the axes that a model leaves open, and return what comes.

    Raises
    ------
    Exception
        What came at the first, if it works at none.
    """
    first: Exception | None = None
    for length in LENGTHS:
        try:
            return run(length)
        except Exception as error:  # noqa: BLE001  (of whatever library runs it)
            first = first or error
    raise first or ValueError("there is no length")


def arrays(outputs: Sequence[Any]) -> list[Array]:
    """Return what a library calls outputs as arrays."""
    return [np.asarray(output) for output in outputs]
