"""What a new home begins with: laid once, and never over what is a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from af_client.pod import examples
from local_cluster.settings import CHECKOUT

OFFERED = CHECKOUT / "examples/home"
NAMES = {"first-session.ipynb", "examples/columns.ipynb", "examples/own-files.ipynb", "examples/cuts.py"}


def there(home: Path) -> set[str]:
    return {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()} - {examples.LAID.as_posix()}


def test_a_new_home_gets_all(tmp_path: Path) -> None:
    examples.lay(tmp_path, OFFERED)
    assert there(tmp_path) == NAMES


def test_what_is_there_stays_and_what_was_deleted_stays_away(tmp_path: Path) -> None:
    (tmp_path / "first-session.ipynb").write_text("mine")
    examples.lay(tmp_path, OFFERED)
    assert (tmp_path / "first-session.ipynb").read_text() == "mine"
    (tmp_path / "first-session.ipynb").unlink()
    (tmp_path / "examples/cuts.py").write_text("changed")
    (tmp_path / "examples/columns.ipynb").unlink()
    examples.lay(tmp_path, OFFERED)
    assert there(tmp_path) == {"examples/cuts.py", "examples/own-files.ipynb"}
    assert (tmp_path / "examples/cuts.py").read_text() == "changed"


def test_what_a_newer_image_brings_is_laid(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    (image / "one.ipynb").write_text("1")
    examples.lay(tmp_path / "home", image)
    (tmp_path / "home/one.ipynb").unlink()
    (image / "two.ipynb").write_text("2")
    examples.lay(tmp_path / "home", image)
    assert there(tmp_path / "home") == {"two.ipynb"}


@pytest.mark.parametrize("mine", ["file", "link"])
def test_a_name_that_is_taken_is_left_alone(tmp_path: Path, mine: str) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    if mine == "file":
        (home / "examples").write_text("mine")
    else:
        (home / "first-session.ipynb").symlink_to(away)
    examples.lay(home, OFFERED)
    assert not away.exists()
    assert mine == "link" or (home / "examples").read_text() == "mine"


def test_an_image_without_any_leaves_a_home_as_it_is(tmp_path: Path) -> None:
    examples.lay(tmp_path, tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_the_tutorials_notebook_has_the_tutorials_cell() -> None:
    cells = json.loads((OFFERED / "first-session.ipynb").read_text())["cells"]
    code = (CHECKOUT / "examples/notebook/zmumu.py").read_text().split('"""\n\n', 1)[1]
    assert ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"] == [code.rstrip("\n")]
