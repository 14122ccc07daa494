"""Tables of numbers: on the terminal, and in the README between two marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
README = HERE / "README.md"
Row = tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """One table."""

    title: str
    head: Row
    rows: Sequence[Row]


@dataclass(frozen=True)
class Target:
    """A number that is to be at most something; None where it could not be had."""

    title: str
    value: float | None
    most: float

    @property
    def met(self) -> bool:
        """Whether it is so."""
        return self.value is not None and self.value <= self.most

    def row(self) -> Row:
        """Return it as a row of a table."""
        value = "–" if self.value is None else f"{self.value:.3g}"  # noqa: RUF001
        return self.title, value, f"≤ {self.most:g}" if self.most else "0", "met" if self.met else "missed"


def targets(title: str, all_of_them: Iterable[Target]) -> Numbers:
    """Return targets as a table."""
    return Numbers(title, ("", "measured", "goal", ""), tuple(target.row() for target in all_of_them))


def show(console: Console, tables: Iterable[Numbers]) -> None:
    """Print tables."""
    for each in tables:
        table = Table(*each.head, title=each.title)
        for row in each.rows:
            table.add_row(*row)
        console.print(table)


def markdown(tables: Iterable[Numbers]) -> str:
    """Return tables as Markdown has them."""
    text = ""
    for each in tables:
        lines = [each.head, tuple("---" for _ in each.head), *each.rows]
        text += f"\n**{each.title}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text


def put_between(begin: str, end: str, text: str, file: Path = README) -> None:
    """Replace what is between two marks.

    Raises
    ------
    ValueError
        A mark is missing: nothing is written.
    """
    head, found, rest = file.read_text().partition(begin)
    _, also_found, tail = rest.partition(end)
    if not (found and also_found):
        raise ValueError(f"{file} has no {begin} … {end}")
    file.write_text(f"{head}{begin}\n{text}{end}{tail}")


def write_json(file: Path, body: Mapping[str, Any]) -> None:
    """Write all numbers."""
    file.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")


def seconds(value: float | None) -> str:
    """Return a time in words."""
    return "never" if value is None else f"{value:.{1 if value >= 10 else 2}f} s"


def ratio(one: float | None, two: float | None) -> str:
    """Return one by the other, where both are there."""
    return f"{one / two:.2f}" if one is not None and two else "–"  # noqa: RUF001
