"""What users have and models take: arrays, columns by name, awkward arrays of any depth; and the way back. Pure.

Rows are what a model is asked about, one by one. The candidates in the events of an awkward array are rows, however
many an event has; the answers come back in the same structure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from af_client.errors import BadInput
from af_client.open_inference import BYTES, Tensor

if TYPE_CHECKING:  # 0.1 s, which `af --help` must not pay
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

BATCH_BYTES = 2 << 20
"""Of one request: a few per cent of what the service takes, and who else asks waits for some milliseconds only."""
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Rows:
    """What is asked, with as many rows in each input.

    Attributes
    ----------
    inputs
        Name -> datatype and array; the first axis are the rows.
    lengths
        Of an awkward array, for each axis that was flattened, how many each list had; outermost first. None of others.
    """

    inputs: Mapping[str, tuple[str, Array]]
    lengths: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return min(len(array) for _, array in self.inputs.values())

    def batches(self, fixed: int = -1) -> Iterator[Mapping[str, tuple[str, Array]]]:
        """Yield parts of at most `BATCH_BYTES`; of `fixed` rows, where the model takes no other number."""
        width = sum(array[:1].nbytes for _, array in self.inputs.values())
        step = fixed if fixed > 0 else max(1, min(BATCH_ROWS, BATCH_BYTES // max(width, 1)))
        for begin in range(0, len(self), step):
            yield {name: (kind, array[begin : begin + step]) for name, (kind, array) in self.inputs.items()}

    def shaped(self, output: Array) -> Any:
        """Return an output in the structure of what was given."""
        if self.lengths is None:
            return output
        import awkward as ak  # noqa: PLC0415 - only who has one needs it

        found = ak.Array(output)
        for counts in reversed(self.lengths):
            found = ak.unflatten(found, counts)
        return found


def rows(data: Any, inputs: Sequence[Tensor]) -> Rows:
    """Return what is asked of a model that has these inputs.

    Parameters
    ----------
    data
        An array of the shape of the one input, rows first; or arrays by name, in a mapping or in the fields of an
        awkward array. Names are those of the inputs, or else the columns of the one input, in their order. A column
        that has one number for each event counts for all its candidates.

    Raises
    ------
    BadInput
        It does not fit; the message says what the model takes.
    """
    fields = _fields(data)
    if fields is None:
        if len(inputs) != 1:
            raise BadInput(f"this model has several inputs: give a mapping with arrays {_listed(inputs)}")
        fields = {inputs[0].name: data}
    if set(fields) == {tensor.name for tensor in inputs}:
        return _by_name(fields, inputs)
    if len(inputs) == 1 and len(inputs[0].shape) == 2 and fields:
        return _by_column(fields, inputs[0])
    raise BadInput(f"this model takes arrays {_listed(inputs)}, not {', '.join(map(str, fields)) or 'none'}")


def _by_name(fields: Mapping[str, Any], inputs: Sequence[Tensor]) -> Rows:
    flat, structures = {}, []
    for tensor in inputs:
        array, lengths = _flat(tensor.name, fields[tensor.name], len(tensor.shape) - 1)
        flat[tensor.name] = tensor.datatype, _fitted(tensor, array)
        structures.append(lengths)
    if not all(_alike(one, other) for one, other in pairwise(structures)):
        raise BadInput(
            f"the arrays {_listed(inputs)} have different structures: each event needs as many in all of them"
        )
    found = Rows(flat, structures[0])
    if counts := {len(array) for _, array in flat.values()} - {len(found)}:
        raise BadInput(f"the arrays {_listed(inputs)} have different numbers of rows: {len(found)} and {max(counts)}")
    return found


def _by_column(fields: Mapping[str, Any], tensor: Tensor) -> Rows:
    import numpy as np  # noqa: PLC0415 - see above

    wanted = tensor.shape[1]
    if wanted not in (-1, len(fields)):
        raise BadInput(f"this model takes {wanted} columns in {tensor.name!r}, not {len(fields)}: {', '.join(fields)}")
    columns = list(fields.values())
    try:
        if any(_is_awkward(column) for column in columns):
            import awkward as ak  # noqa: PLC0415 - only who has one needs it

            columns = list(ak.broadcast_arrays(*columns))
        flat, lengths = zip(*(_flat(n, c, 0) for n, c in zip(fields, columns, strict=True)), strict=True)
        matrix = np.stack(np.broadcast_arrays(*flat), axis=-1)
    except ValueError as error:
        raise BadInput(f"the columns {', '.join(fields)} do not have the same length: {_first_line(error)}") from error
    return Rows({tensor.name: (tensor.datatype, _fitted(tensor, matrix))}, lengths[0])


def _fields(data: Any) -> Mapping[str, Any] | None:
    if isinstance(data, Mapping):
        return data
    if _is_awkward(data) and (names := data.fields):
        return {name: data[name] for name in names}
    return None


def _is_awkward(data: Any) -> bool:
    ak = sys.modules.get("awkward")  # who has such an array has imported it
    return ak is not None and isinstance(data, ak.Array)


def _flat(name: str, data: Any, axes: int) -> tuple[Array, tuple[Any, ...] | None]:
    """Return the rows of an array, each with so many axes of its own, and the structure that they had."""
    import numpy as np  # noqa: PLC0415 - see above

    if not _is_awkward(data):
        try:
            return np.asarray(data), None
        except ValueError as error:  # a list of lists of different lengths
            raise BadInput(f"{name!r} has rows of different lengths: candidates go in an awkward array") from error
    import awkward as ak  # noqa: PLC0415 - as above

    lengths = []
    if not data.fields:
        while data.ndim - axes > 1:
            _complete(name, bool(ak.any(ak.is_none(data, axis=0))))
            lengths.append(ak.num(data, axis=1))
            data = ak.flatten(data, axis=1)
    try:
        return ak.to_numpy(data, allow_missing=False), tuple(lengths)
    except ValueError as error:
        _complete(name, bool(ak.any(ak.is_none(data, axis=-1))))
        raise BadInput(f"{name!r} is no array of numbers with {axes + 1} axes: {_first_line(error)}") from error


def _complete(name: str, missing: bool) -> None:
    if missing:
        raise BadInput(f"{name!r} has missing values, which no model takes: ak.fill_none or ak.drop_none")


def _fitted(tensor: Tensor, array: Array) -> Array:
    """Return an array as the input wants it: numbers are rounded to fewer bits, but never cut to whole ones."""
    import numpy as np  # noqa: PLC0415 - see above

    if array.ndim == 1 and tensor.shape[1:] == (1,):
        array = array[:, None]
    fits = zip(array.shape[1:], tensor.shape[1:], strict=True) if array.ndim == len(tensor.shape) else [(0, 1)]
    if not array.ndim or not all(wanted in (-1, got) for got, wanted in fits):
        raise BadInput(
            f"input {tensor.name!r} takes shape {_shape(tensor)}, not {tuple(array.shape)}{_hint(tensor, array)}"
        )
    if tensor.datatype == BYTES:
        return array.astype(object)
    if not _castable(array, tensor.dtype):
        raise BadInput(f"input {tensor.name!r} takes {tensor.dtype.name}, not {array.dtype}: convert it with .astype")
    return np.ascontiguousarray(array, tensor.dtype)


def _castable(array: Array, dtype: np.dtype[Any]) -> bool:
    import numpy as np  # noqa: PLC0415 - see above

    if array.dtype.kind not in "iu" or dtype.kind not in "iu" or not array.size:
        return np.can_cast(array.dtype, dtype, "same_kind")
    bounds = np.iinfo(dtype)
    return bool(bounds.min <= array.min() and array.max() <= bounds.max)


def _hint(tensor: Tensor, array: Array) -> str:
    one = array.ndim + 1 == len(tensor.shape) and all(
        wanted in (-1, got) for got, wanted in zip(array.shape, tensor.shape[1:], strict=True)
    )
    return ": one row is array[None]" if one else ""


def _alike(one: tuple[Any, ...] | None, other: tuple[Any, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(a.tolist() == b.tolist() for a, b in zip(one, other, strict=True))


def _shape(tensor: Tensor) -> str:
    lengths = ["rows", *("any" if length < 0 else str(length) for length in tensor.shape[1:])]
    return f"({', '.join(lengths)})"


def _listed(inputs: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name!r} {_shape(tensor)}" for tensor in inputs)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
