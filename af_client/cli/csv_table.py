"""Tables of numbers in CSV, as `af models predict` reads and writes them: part by part, however long."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from af_client.errors import BadInput

if TYPE_CHECKING:  # 0.1 s, which `af --help` must not pay
    from numpy.typing import NDArray

ROWS = 50_000
"""Of a part."""
SEPARATORS = ",;\t"


class CsvTable:
    """A table in a file, with a first line of names or without.

    Attributes
    ----------
    names
        Of the columns; none where the first line has numbers.

    Raises
    ------
    BadInput
        There is no such file, or it has no rows, or no text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = self._lines()
        first = next(lines, None)
        if first is None:
            raise BadInput(f"{path} is empty: write a row of numbers for each question")
        self._width = len(first[1])
        headed = not all(_is_number(cell) for cell in first[1])
        self.names: tuple[str, ...] = tuple(cell.strip() for cell in first[1]) if headed else ()
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise BadInput(f"{path} has several columns {', '.join(twice)}")
        self._rows = lines if headed else chain([first], lines)

    def parts(self) -> Iterator[Any]:
        """Yield at most `ROWS` rows after the other: an array (rows, columns), or name -> column.

        Raises
        ------
        BadInput
            A row has more or fewer columns, or something that is no number; the message says where.
        """
        import numpy as np  # noqa: PLC0415 - see above

        while rows := [self._numbers(line, cells) for line, cells in islice(self._rows, ROWS)]:
            table = _whole(np.asarray(rows, np.float64))
            yield dict(zip(self.names, table.T, strict=True)) if self.names else table

    def _lines(self) -> Iterator[tuple[int, Sequence[str]]]:
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                begin = file.readline()
                file.seek(0)
                separator = next((each for each in SEPARATORS if each in begin), ",")
                reader = csv.reader(file, delimiter=separator)
                yield from ((reader.line_num, cells) for cells in reader if cells)
        except UnicodeDecodeError as error:
            raise BadInput(f"{self._path} is no text: write a row of numbers for each question, as CSV") from error
        except (OSError, csv.Error) as error:
            raise BadInput(f"cannot read {self._path}: {error}") from error

    def _numbers(self, line: int, cells: Sequence[str]) -> list[float]:
        if len(cells) != self._width:
            raise BadInput(f"{self._path}, line {line}: {len(cells)} columns, where the first line has {self._width}")
        try:
            return [float(cell) for cell in cells]
        except ValueError:
            at = next(position for position, cell in enumerate(cells) if not _is_number(cell))
        said = repr(cells[at][:40]) if cells[at].strip() else "an empty cell"
        column = repr(self.names[at]) if self.names else str(at + 1)
        raise BadInput(f"{self._path}, line {line}, column {column}: {said} is no number")


def write(file: IO[str], part: Mapping[str, NDArray[Any]], headed: bool) -> None:
    """Append answers, one row each: the columns of all outputs side by side; with their names, where it begins so."""
    writer = csv.writer(file, lineterminator="\n")
    columns = [column for name, array in part.items() for column in _columns(name, array)]
    if headed:
        writer.writerow(name for name, _ in columns)
    writer.writerows(zip(*(column for _, column in columns), strict=True))


def _columns(name: str, array: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    flat = array.reshape(len(array), -1)
    single = flat.shape[1] == 1
    return [(name if single else f"{name}_{position}", column) for position, column in enumerate(flat.T)]


def _whole(table: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as such: models that take them take no others, and those that take others take them."""
    import numpy as np  # noqa: PLC0415 - see above

    exact = np.abs(table).max(initial=0) < 2**53 and bool((table == np.trunc(table)).all())
    return table.astype(np.int64) if exact else table


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
