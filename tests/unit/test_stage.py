"""What fails beside others and passes by itself does not count, is told, and is told apart from what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_cluster.settings import CHECKOUT
from tests.support import stage

TESTS = """
from pathlib import Path

def test_well():
    pass

def test_disturbed():
    first = not Path("there").exists()
    Path("there").touch()
    assert not first, "beside\\nothers"
"""
BROKEN = """
def test_broken():
    assert not "always"
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place of its own, with the plug-in that `tests/conftest.py` is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("PYTEST_PLUGINS", "tests.conftest")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")


def run(text: str) -> tuple[int, list[str]]:
    Path("test_it.py").write_text(text)
    return stage.main("unit", "-q", "test_it.py"), (stage.TOLD / "unit").read_text().splitlines()


def test_one_that_was_disturbed() -> None:
    why = "AssertionError: beside others assert not True"
    assert run(TESTS) == (0, [f"unit: disturbed: test_it.py::test_disturbed: {why}"])
    assert run(TESTS) == (0, [])


def test_one_that_is_broken() -> None:
    code, told = run(TESTS + BROKEN)
    assert code == 1
    assert [line.split(": ")[1:3] for line in told] == [
        ["disturbed", "test_it.py::test_disturbed"],
        ["FAILED", "test_it.py::test_broken"],
    ]


def test_many_have_another_cause() -> None:
    tests = TESTS + "".join(BROKEN.replace("broken", f"broken_{number}") for number in range(stage.FEW))
    code, told = run(tests)
    assert code == 1
    assert {line.split(": ")[1] for line in told} == {"FAILED"}


def test_what_cannot_be_imported_and_what_is_not_there() -> None:
    code, told = run("import nothing_of_the_name")
    assert code
    assert told[0].startswith("unit: FAILED: test_it.py: ")
    assert run("") == (5, [])
