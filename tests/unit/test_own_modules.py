"""Modules of one's own: what is found, what is left out, and how scheduler and workers get them."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

from af_client.pod import modules, placed
from af_client.pod.own_directory import own_directory
from af_client.pod.placed import Sent

ANSWER = "def answer(x):\n    return x * {factor}\n"

SCRIPT = """
import contextlib, sys, cuts, dask, pack.deep
from pathlib import Path
from dask.distributed import Client, wait
from distributed.deploy.subprocess import SubprocessCluster

def elsewhere():  # scheduler and workers begin in another directory, as those of a session do
    return contextlib.chdir(sys.argv[1])

if __name__ == "__main__":
    quiet = {"dashboard": False}
    with elsewhere():
        cluster = SubprocessCluster(
            n_workers=1,
            threads_per_worker=1,
            worker_kwargs=quiet | {"local_directory": sys.argv[1]},
            scheduler_kwargs=quiet,
        )
    client = Client(cluster)
    print(sum(client.gather(client.map(cuts.answer, range(10)))), dask.delayed(pack.deep.answer)(1).compute())
    with elsewhere():
        cluster.scale(2)
        client.wait_for_workers(2)
    print(sorted(client.run(pack.deep.answer, 2).values()))
    client.restart()
    print(client.submit(cuts.answer, 4).result())
    old = client.submit(cuts.answer, 10)
    wait(old)  # what still waits when its module is edited may take either of the two
    Path("cuts.py").write_text("def answer(x):\\n    return x * 5\\n")
    with Client(cluster) as later:
        print(sorted(later.run(lambda: __import__("cuts").answer(4)).values()), old.result())
    client.close()
    cluster.close()
"""


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What a test installs into this process is gone afterwards."""
    before = sys.path[:]
    yield
    for place in placed._places.values():
        placed.forget(place.directory)
    placed._places.clear()
    assert sys.path[: len(before)] == before, "what is sent comes last"
    sys.path[:] = before


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / (name.replace("__in__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_modules_and_packages_are_found_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, main="1", pack__in____init__="", pack__in__deep="2", data__in__no_package="3")
    (tmp_path / "notes.txt").write_text("4")
    (tmp_path / "pack" / "table.csv").write_text("5")
    (tmp_path / "pack" / "circle").symlink_to(tmp_path)
    assert modules.found(tmp_path) == {"main.py": b"1", "pack/__init__.py": b"", "pack/deep.py": b"2"}


@pytest.mark.parametrize(("bound", "value"), [("MAX_FILES", 2), ("MAX_BYTES", 4)])
def test_what_is_too_much_is_left_out_and_said(
    tmp_path: Path, bound: str, value: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(modules, bound, value)
    write(tmp_path, a="11", b="22", c="33")
    assert list(modules.found(tmp_path)) == ["a.py", "b.py"]
    assert "1 are left out" in caplog.text
    assert "c.py" in caplog.text


def test_of_a_directory_of_many_things_little_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_ENTRIES", 3)
    write(tmp_path, **{f"m{number}": "" for number in range(10)})
    assert len(modules.found(tmp_path)) == 3


def test_nothing_is_said_where_all_is_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, a="1")
    with caplog.at_level(logging.DEBUG):
        modules.found(tmp_path)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("first", "own"), [("{tmp}", True), (str(Path(sys.prefix) / "bin"), False), ("{tmp}/missing", False)]
)
def test_only_a_directory_that_is_not_pythons_own(
    tmp_path: Path, first: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [first.format(tmp=tmp_path)])
    assert own_directory() == (tmp_path if own else None)


@pytest.mark.parametrize("before", [[], [str(Path(sys.base_prefix) / "lib" / "python3")]])
def test_a_notebook_is_where_it_works(tmp_path: Path, before: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython puts the standard library first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*before, "", *sys.path])
    assert own_directory() == tmp_path


def test_an_edit_replaces_what_was_imported(tmp_path: Path, forgotten: None) -> None:
    for factor in (2, 3, 3, 2):
        placed.install(str(tmp_path), Sent("/home", {"own_cuts.py": ANSWER.format(factor=factor).encode()}))
        assert importlib.import_module("own_cuts").answer(5) == 5 * factor
    assert len(list(tmp_path.iterdir())) == 1, "of earlier contents nothing is left"


def test_what_is_installed_goes_before_what_is_sent(tmp_path: Path, forgotten: None) -> None:
    placed.install(str(tmp_path), Sent("/home", {"wave.py": b"ours = True", "own_wave.py": b"ours = True"}))
    sys.modules.pop("wave", None)
    assert not hasattr(importlib.import_module("wave"), "ours")
    assert importlib.import_module("own_wave").ours


def test_of_two_directories_the_one_that_came_last_counts(tmp_path: Path, forgotten: None) -> None:
    for source, factor in (("/home/a", 2), ("/home/b", 3), ("/home/a", 2)):
        own = f"own_{source[-1]}.py"
        placed.install(str(tmp_path), Sent(source, {"own_cuts.py": ANSWER.format(factor=factor).encode(), own: b""}))
        assert importlib.import_module("own_cuts").answer(5) == 5 * factor
    for each in ("own_a", "own_b"):
        importlib.import_module(each)


def test_what_is_sent_goes_before_a_runs_files_as_they_began(
    tmp_path: Path, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    write(source, own_cuts=ANSWER.format(factor=2))
    monkeypatch.setattr(placed, "SOURCE_DIRECTORY", str(source))
    monkeypatch.setattr(sys, "path", [str(source), *sys.path])
    assert importlib.import_module("own_cuts").answer(5) == 10
    placed.install(str(tmp_path), Sent("/af/work", {"own_cuts.py": ANSWER.format(factor=3).encode()}))
    assert importlib.import_module("own_cuts").answer(5) == 15
    monkeypatch.undo()
    placed.forget(source)


def test_packages_go_before_those_of_the_image(tmp_path: Path, forgotten: None) -> None:
    before = sys.path[:]
    placed.install(str(tmp_path), Sent("packages", {"own_cuts.py": b""}, first=True))
    at = sys.path.index(sysconfig.get_path("purelib"))
    assert sys.path[at - 1].startswith(str(tmp_path))
    assert sys.path[: at - 1] == before[: at - 1], "and behind Python's own"
    sys.path[:] = before


def test_tasks_begin_where_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in (b"20", b"30"):
        placed.install(str(tmp_path), Sent("run", files={"cuts.json": text, "tables/a": text, "tool": b"#!/bin/sh\n"}))
        assert Path("cuts.json").read_bytes() == Path("tables/a").read_bytes() == text
    assert os.access("tool", os.X_OK)


def test_a_run_sends_its_files_as_they_are_by_now(tmp_path: Path) -> None:
    source, work = tmp_path / "source", tmp_path / "work"
    for each, text in ((source, "began"), (work, "changed")):
        each.mkdir()
        (each / "cuts.json").write_text(text)
    (source / "gone.json").write_text("began")
    (work / "made.json").write_text("not of the run")
    assert modules.files_of_run(source, work) == {"cuts.json": b"changed", "gone.json": b"began"}
    assert modules.files_of_run(tmp_path / "missing", work) == {}, "a notebook has none"


@pytest.mark.parametrize("session", ["lab", None])
def test_scheduler_and_workers_import_what_is_beside_the_script(tmp_path: Path, session: str | None) -> None:
    """In processes of their own, as a session's are: by name, on workers that come later, and after an edit."""
    here, away = tmp_path / "here", tmp_path / "away"
    away.mkdir()
    write(
        here, main=SCRIPT, cuts=ANSWER.format(factor=3), pack__in____init__="", pack__in__deep="from cuts import answer"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "AF_", "PYTHONPATH"))}
    environment |= {"DASK_DISTRIBUTED__CLIENT__PRELOAD": "af_client.pod.modules", "PYTHONPATH": str(Path.cwd())}
    environment |= {"AF_SESSION": session} if session else {}
    done = subprocess.run(
        [sys.executable, "main.py", str(away)],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if session:
        assert done.stdout.splitlines() == ["135 3", "[6, 6]", "12", "[20, 20] 30"], done.stderr
    else:
        assert "No module named 'cuts'" in done.stderr


# Spark

PICKLES = """
import sys
from af_client.pod import spark_modules
spark_modules.load_ipython_extension(None)
from pathlib import Path
from pyspark.cloudpickle import cloudpickle
import json, cuts
Path("by-us").write_bytes(cloudpickle.dumps([cuts.answer, lambda x: cuts.answer(x), json.dumps]))
"""
UNPICKLES = "import pickle; a, b, c = pickle.load(open('{here}/by-us', 'rb')); print(a(5), b(6), c([7]))"


@pytest.mark.parametrize("before", ["", "import pyspark.cloudpickle.cloudpickle"])
def test_spark_takes_functions_of_modules_beside_a_notebook_by_value(tmp_path: Path, before: str) -> None:
    """PySpark's pickle is a copy of cloudpickle's one module, and PySpark itself is not installed here."""
    here, away, library = tmp_path / "here", tmp_path / "away", tmp_path / "library"
    away.mkdir()
    copy = Path(cloudpickle.cloudpickle.__file__).read_text()
    write(
        library,
        pyspark__in____init__="",
        pyspark__in__cloudpickle__in____init__="",
        pyspark__in__cloudpickle__in__cloudpickle=copy,
    )
    write(here, main=before + PICKLES, cuts="FACTOR = 3\ndef answer(x):\n    return x * FACTOR\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": f"{Path.cwd()}:{library}"}
    run = partial(subprocess.run, env=environment, capture_output=True, text=True, timeout=60, check=False)
    made = run([sys.executable, "main.py"], cwd=here)
    assert made.returncode == 0, made.stderr
    found = run([sys.executable, "-c", UNPICKLES.format(here=here)], cwd=away)
    assert found.stdout == "15 18 [7]\n", found.stderr
