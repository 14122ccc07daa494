"""Whether a model runs, and answers as its source does."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from af_inference.convert.formats import Array, Original, at_any_length
from af_inference.errors import Unprocessable
from af_inference.outputs import chosen

TOLERANCE = 1e-5
ROWS = 3
# As onnxruntime calls them, where numpy has another name.
DTYPES = {"float": "float32", "double": "float64", "string": "object"}


def run(file: Path, original: Original | None, sample: Path, params: Mapping[str, Any]) -> float | None:
    """Load a model, run it, and compare.

    Parameters
    ----------
    original
        Its source, to be run on the same arrays.
    sample
        A file of numpy arrays, which may be missing: what went in where the model was trained, and what came out.

    Returns
    -------
    float or None
        The largest difference to the source's outputs, relative to their scale; None where nothing could be compared.

    Raises
    ------
    Unprocessable
        It does not load, does not run, or differs by more than `TOLERANCE`.
    """
    session = _session(file)
    arrays = _arrays(sample)
    feeds, answers = _answered(session, arrays)
    outputs = dict(zip(_names(session), answers, strict=True))
    expected = [*_expected(session, arrays, params)]
    if original:
        expected += zip(outputs, original(feeds), strict=True)
    difference = max((_difference(outputs[name], array) for name, array in expected), default=None)
    if difference is not None and not difference <= TOLERANCE:
        raise Unprocessable(
            f"its answers differ from the source's by {difference:.3g} of their scale, more than {TOLERANCE:g}"
        )
    return difference


def _session(file: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Without it a file in onnxruntime's own format is taken too, of which far less is checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Unprocessable(f"onnxruntime cannot load it: {_said(error)}") from error


def _run(session: ort.InferenceSession, feeds: Mapping[str, Array]) -> list[Array]:
    try:
        outputs = session.run(None, feeds)
    except Exception as error:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in feeds.items())
        raise Unprocessable(
            f"it does not run on {shapes}: {_said(error)}; a sample.npz beside it can give arrays that it takes"
        ) from error
    if not all(isinstance(output, np.ndarray) for output in outputs):
        raise Unprocessable("it answers with more than tensors: convert scikit-learn's classifiers without zipmap")
    return [*outputs]


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _names(session: ort.InferenceSession) -> list[str]:
    return [node.name for node in session.get_outputs()]


def _arrays(sample: Path) -> dict[str, Array]:
    if not sample.is_file():
        return {}
    try:
        with np.load(sample, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:
        raise Unprocessable(f"sample.npz cannot be read: {_said(error)}; write it with numpy.savez") from error


def _answered(session: ort.InferenceSession, arrays: Mapping[str, Array]) -> tuple[dict[str, Array], list[Array]]:
    """Run a model on the sample, or where that lacks an input on what is drawn with a fixed seed; return both ends."""
    nodes = session.get_inputs()
    named = arrays if len(nodes) != 1 or "input" not in arrays else {nodes[0].name: arrays["input"], **arrays}
    if all(node.name in named for node in nodes):
        feeds = {node.name: named[node.name].astype(_dtype(node)) for node in nodes}
        return feeds, _run(session, feeds)
    return at_any_length(lambda length: _run_seeded(session, length))


def _run_seeded(session: ort.InferenceSession, length: int) -> tuple[dict[str, Array], list[Array]]:
    rng = np.random.default_rng(0)
    feeds = {node.name: _seeded(node, length, rng) for node in session.get_inputs()}
    return feeds, _run(session, feeds)


def _expected(
    session: ort.InferenceSession, arrays: Mapping[str, Array], params: Mapping[str, Any]
) -> Iterator[tuple[str, Array]]:
    outputs = [(node.name, node.type in ("tensor(float)", "tensor(double)")) for node in session.get_outputs()]
    for name, array in arrays.items():
        if name in dict(outputs):
            yield name, array
        elif name == "output":
            yield chosen(outputs, params.get("output_name")), array


def _seeded(node: Any, length: int, rng: np.random.Generator) -> Array:
    lengths = [ROWS, *[length] * len(node.shape)]
    shape = [said if isinstance(said, int) and said > 0 else lengths[axis] for axis, said in enumerate(node.shape)]
    dtype = _dtype(node)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(str if dtype.kind == "O" else dtype).astype(dtype)


def _dtype(node: Any) -> np.dtype[Any]:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype: np.dtype[Any] = np.dtype(DTYPES.get(kind, kind))
    except TypeError:
        raise Unprocessable(f"input {node.name} is a {node.type}, which nothing here can send") from None
    return dtype


def _difference(ours: Array, theirs: Array) -> float:
    """Return the largest difference, relative to the largest value or 1; infinite where only one side has a number."""
    if ours.shape != theirs.shape:
        raise Unprocessable(f"it answers with shape {list(ours.shape)}, and its source with {list(theirs.shape)}")
    if ours.dtype.kind not in "fiub" or theirs.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(ours, theirs) else np.inf
    mine, other = ours.astype(np.float64), theirs.astype(np.float64)
    if not np.array_equal(np.isfinite(mine), np.isfinite(other)):
        return np.inf
    finite = np.isfinite(other)
    scale = max(1.0, float(np.max(np.abs(other[finite]), initial=0.0)))
    return float(np.max(np.abs(mine[finite] - other[finite]), initial=0.0)) / scale
