"""The benchmark's numbers beside their goals: the worst of all sizes counts, and only the numbers are rewritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks._scale_numbers import GOALS, Creation, Empty, Goal, Idle, Notebooks, Restart, Size, table
from benchmarks._tables import markdown, put_between

SMALL = Size(
    sessions=1000,
    empty=Empty(ready_seconds=1.0, memory_mib=90.0),
    creation=Creation(bare=40.0, operator=30.0, writes=11.0, reads=0.0),
    restart=Restart(1.0, 2.0, 3.0, 4.0, writes=0, reads=0, late_seconds=0.1),
    idle=Idle(requests=0, cpu_seconds=0.1, memory_mib=200.0),
    highest_mib=256.0,
)
LARGE = replace(SMALL, sessions=5000, restart=replace(SMALL.restart, cpu_seconds=24.0, writes=1), highest_mib=384.0)
BOTH = [SMALL, LARGE]


def row(title: str, notebooks: Notebooks | None = None) -> list[str]:
    found = {cells[0]: list(cells[1:]) for cells in table(BOTH, notebooks).rows}
    return found[title]


def test_the_worst_size_counts() -> None:
    assert row("memory, highest") == ["256 MiB", "384 MiB", "≤ 512 MiB", "0.75"]


def test_a_rate_is_to_be_at_least_its_goal_where_that_counts() -> None:
    goal = Goal("rate", lambda size: size.creation.ratio, limit=0.5, is_least=True, sizes=(1000,))
    slow = replace(LARGE, creation=replace(LARGE.creation, operator=1.0))
    assert goal.ratio([SMALL, slow]) == "0.67"
    assert goal.ratio([slow]) == ""
    assert goal.said() == "≥ 0.50 at 1,000"


def test_what_must_not_be_is_met_or_missed() -> None:
    assert row("restart: writes") == ["0", "1", "0", "missed"]
    assert row("restart: reads of single objects")[-1] == "met"


def test_growth_is_of_one_run() -> None:
    assert row("growth of that CPU from 1,000 on") == ["", "6.00", "≤ 5.5", "1.09"]
    assert "growth of that CPU from 1,000 on" not in [cells[0] for cells in table([LARGE], None).rows]


def test_notebooks_have_a_row_where_they_were_measured() -> None:
    title = "restart with 200 notebooks beside a slow Hub: writes"
    assert row(title, Notebooks(200, 108)) == ["108", "", "0", "missed"]


def test_each_goal_has_a_row_and_each_row_as_many_cells_as_the_head() -> None:
    found = table(BOTH, Notebooks(1, 0))
    assert {goal.title for goal in GOALS} <= {cells[0] for cells in found.rows}
    assert {len(cells) for cells in found.rows} == {len(found.head)}
    assert len(markdown([found]).strip().splitlines()) == len(found.rows) + 4


def test_only_what_is_between_the_marks_is_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("before\n<begin>\nold\n<end>\nafter <end>\n")
    put_between("<begin>", "<end>", "new\n", file)
    assert file.read_text() == "before\n<begin>\nnew\n<end>\nafter <end>\n"


@pytest.mark.parametrize("text", ["", "<begin>", "<end> <begin>"])
def test_without_marks_nothing_is_written(tmp_path: Path, text: str) -> None:
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(ValueError, match="has no <begin>"):
        put_between("<begin>", "<end>", "new", file)
    assert file.read_text() == text
