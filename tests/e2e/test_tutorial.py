"""The tutorials do what they say: every command of each is run, in order, in one shell."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from local_cluster import facility as demo
from local_cluster.progress import Progress
from tests.support import attended
from tests.support.tenant import ENVIRONMENT, kubectl

TUTORIALS = demo.CHECKOUT / "docs/tutorial"
ANALYSIS = demo.CHECKOUT / "examples/notebook/zmumu.py"
# Whoever shares the cluster has sessions that need it.
HELM = f"""
helm() {{ command helm "$@" --set {demo.DASK_OPERATOR}; }}
"""
# What a user ends with Ctrl-C when they have seen enough.
ATTENDED = f"""
af() {{
  if [ "$1" = open ]; then "{sys.executable}" "{attended.__file__}" af "$@"; else command af "$@"; fi
}}
"""


@pytest.fixture
def nothing_left(facility: demo.Facility) -> None:
    """The names that the tutorials use are free, also after a run that failed half-way."""
    assert facility
    names = ("by-hand", "refused", "by-kubectl")
    kubectl("-n", "physics", "delete", "analysissession", *names, "--ignore-not-found", "--wait")


def blocks(tutorial: Path, language: str) -> list[str]:
    """Return the code of a tutorial in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", tutorial.read_text(), flags=re.MULTILINE | re.DOTALL)


def follow(tutorial: Path) -> subprocess.CompletedProcess[str]:
    """Type in what a tutorial says."""
    told = (f"echo '>>> {n}'\n{block}" for n, block in enumerate(blocks(tutorial, "bash")))
    script = "\n".join(["set -euo pipefail", HELM, ATTENDED, *told])
    return subprocess.run(
        ["bash"], input=script, cwd=demo.CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def report(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout[-4000:]}\n--- stderr\n{done.stderr[-4000:]}"


@pytest.mark.usefixtures("nothing_left")
def test_every_command_of_the_first_run_works() -> None:
    tutorial = TUTORIALS / "first-run.md"
    assert len(blocks(tutorial, "bash")) >= 7
    with demo.alone(Progress()):  # its reader types `helm upgrade`
        done = follow(tutorial)
    assert done.returncode == 0, report(done)
    assert "as it should be" in done.stdout, report(done)
    assert (demo.CHECKOUT / "out/by-hand/zmumu.png").read_bytes().startswith(b"\x89PNG"), report(done)
    assert re.findall(r"^exit code (\d)$", done.stdout, flags=re.MULTILINE) == ["1", "2", "1"], report(done)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.timeout(600)
def test_every_command_of_the_first_session_works() -> None:
    tutorial = TUTORIALS / "first-session.md"
    assert len(blocks(tutorial, "bash")) >= 7
    done = follow(tutorial)
    assert done.returncode == 0, report(done)
    assert re.search(r"JupyterHub: http://\S+:31080 .*user alice, password \S+", done.stdout), report(done)
    assert attended.ANSWERED in done.stdout, report(done)
    assert done.stdout.count("as it should be") == 3, report(done)
    assert "spec.user is 'alice', but you are 'bob'" in done.stderr, report(done)


def test_the_cell_of_the_first_session_is_the_one_that_the_browser_test_runs() -> None:
    code = ANALYSIS.read_text().split('"""\n\n', 1)[1]
    # The other one is of a session with Spark: test_spark runs the like.
    assert blocks(TUTORIALS / "first-session.md", "python")[0] == code
