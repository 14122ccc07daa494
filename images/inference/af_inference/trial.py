"""What a model is tried on before it serves: whether it answers at all, and whether rows can be put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from af_inference.errors import Problem, Unprocessable
from af_inference.runtime import Model
from af_inference.tensors import DTYPES, Array, Tensor

_SIZES = (1, 32, 224)  # of axes of any length: convolutions want more than one
_FEW, _MORE = 2, 3


def answer_once(model: Model) -> int:
    """Run a model on zeros, and return the length of axes at which it answered.

    Raises
    ------
    Unprocessable
        It answers at none.
    """
    problem: Problem | None = None
    for size in _SIZES:
        try:
            _run(model, {t.name: np.zeros(_shape(t, 1, size), DTYPES[t.datatype]) for t in model.inputs})
        except Problem as error:
            problem = problem or error
        else:
            return size
    raise Unprocessable(f"model {model.name} version {model.version} does not answer zeros of its shape: {problem}")


def rows_are_independent(model: Model, size: int) -> bool:
    """Say whether a model answers rows put together as it answers them apart.

    A first axis of any length may also be the nodes of a graph or the particles of one event, where each row depends on
    the others.
    """
    tensors = (*model.inputs, *model.outputs)
    if (
        not model.inputs
        or any(t.shape[:1] != (-1,) for t in tensors)
        or any(t.datatype == "BYTES" for t in model.inputs)
    ):
        return False
    random = np.random.default_rng(1)
    few, more = ({t.name: _some(random, t, rows, size) for t in model.inputs} for rows in (_FEW, _MORE))
    try:
        apart = [_run(model, feeds) for feeds in (few, more)]
        together = _run(model, {name: np.concatenate([few[name], more[name]]) for name in few})
    except Problem:
        return False
    return all(_alike([part[name] for part in apart], whole) for name, whole in together.items())


def _alike(parts: list[Array], whole: Array) -> bool:
    if [len(part) for part in parts] != [_FEW, _MORE]:
        return False
    joined = np.concatenate(parts)
    if joined.shape != whole.shape:
        return False
    if whole.dtype.kind != "f":
        return bool((joined == whole).all())
    # Sums in another order differ in the last digits; rows that look at each other differ in the first.
    return np.allclose(joined.astype(float), whole.astype(float), rtol=1e-2, atol=1e-3, equal_nan=True)


def _run(model: Model, feeds: dict[str, Array]) -> dict[str, Array]:
    return model.run(feeds, [tensor.name for tensor in model.outputs])


def _some(random: np.random.Generator, tensor: Tensor, rows: int, size: int) -> Array:
    shape, dtype = _shape(tensor, rows, size), DTYPES[tensor.datatype]
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)  # may be indices into something


def _shape(tensor: Tensor, rows: int, size: int) -> tuple[int, ...]:
    return tuple(_lengths(tensor, rows, size))


def _lengths(tensor: Tensor, rows: int, size: int) -> Iterator[int]:
    for axis, length in enumerate(tensor.shape):
        yield length if length >= 0 else rows if axis == 0 else size
