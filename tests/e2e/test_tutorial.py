"""The tutorial does what it says: every command of it is run, in order, in one shell."""

from __future__ import annotations

import re
import subprocess

import pytest

from local_cluster import facility as demo
from tests.support.tenant import ENVIRONMENT, kubectl

TUTORIAL = demo.CHECKOUT / "docs/tutorial/first-run.md"


@pytest.fixture
def nothing_left(facility: demo.Facility) -> None:
    """The names that the tutorial uses are free, also after a run that failed half-way."""
    assert facility
    kubectl("-n", "physics", "delete", "analysissession", "by-hand", "refused", "--ignore-not-found", "--wait")


@pytest.mark.usefixtures("nothing_left")
def test_every_command_of_the_tutorial_works() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```$", TUTORIAL.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    script = "\n".join(["set -euo pipefail", *(f"echo '>>> {n}'\n{block}" for n, block in enumerate(blocks))])
    done = subprocess.run(
        ["bash"], input=script, cwd=demo.CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    said = f"{done.stdout[-4000:]}\n--- stderr\n{done.stderr[-4000:]}"
    assert done.returncode == 0, said
    assert "as it should be" in done.stdout, said
    assert (demo.CHECKOUT / "out/by-hand/zmumu.png").read_bytes().startswith(b"\x89PNG"), said
    assert re.findall(r"^exit code (\d)$", done.stdout, flags=re.MULTILINE) == ["1", "2", "1"], said
