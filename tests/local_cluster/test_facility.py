"""What the installation says to helm: the Dask operator comes where it is asked for, and stays where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from local_cluster import facility
from local_cluster.api import Kubectl
from local_cluster.progress import Progress

IMAGES = {"operator": "registry.example.org/operator", "hub": "registry.example.org/hub"}
# Whatever it is asked for is applied, and one Deployment there or not.
KUBECTL = """#!/bin/sh
case "$*" in *" get deployment dask-operator "*) printf '%s' "{found}" ;; *) cat > /dev/null ;; esac
"""


class Recorded(Progress):
    """Runs nothing, and remembers what would be run last."""

    argv: Sequence[str] = ()

    def run(
        self,
        what: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = argv


@pytest.mark.parametrize(
    ("found", "asked", "comes"),
    [("", False, False), ("", True, True), ("dask-operator 1/1", False, True), ("dask-operator 1/1", True, True)],
)
def test_the_dask_operator_comes_when_asked_for_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str, asked: bool, comes: bool
) -> None:
    monkeypatch.setattr(facility, "LOCK", tmp_path / "lock")
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.format(found=found))
    program.chmod(0o755)
    progress = Recorded(Console(quiet=True))
    facility.install_chart(progress, Kubectl(program, tmp_path / "kubeconfig"), IMAGES, dask_operator=asked)
    assert ("--set=daskOperator.enabled=true" in progress.argv) == comes
    assert f"--set=image.operator={IMAGES['operator']}" in progress.argv
