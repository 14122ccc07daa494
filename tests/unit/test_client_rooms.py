"""What users and facilities import stays where it was, and a room of the client needs no other room's libraries."""

from __future__ import annotations

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from local_cluster.settings import CHECKOUT


@pytest.mark.parametrize(
    ("door", "room"),
    [
        ("af_client.here:session", "af_client.pod.here:session"),
        ("af_client.spawner:AnalysisSessionSpawner", "af_client.hub.spawner:AnalysisSessionSpawner"),
        ("af_client.cli:main", "af_client.cli.commands:main"),
    ],
)
def test_a_door_leads_to_its_room(door: str, room: str) -> None:
    assert resolve_name(door) is resolve_name(room)


@pytest.mark.parametrize("module", ["af_client", "af_client.cli"])
def test_af_is_a_module_that_runs(module: str) -> None:
    said = subprocess.run([sys.executable, "-m", module, "--help"], cwd=CHECKOUT, capture_output=True, check=True)
    assert b"af run session.yaml" in said.stdout


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("af_client.spawner", {"click", "rich", "jupyterlab"}),
        ("af_client.here", {"click", "rich", "jupyterhub", "kubernetes", "aiohttp"}),
        ("af_client.sessions", {"click", "rich", "jupyterhub"}),
        ("af_client.cli", {"numpy", "awkward", "joblib", "onnx", "urllib3"}),  # `af --help` must not pay for them
        ("af_client.models", {"click", "rich", "jupyterhub", "kubernetes", "aiohttp", "awkward", "onnx"}),
    ],
)
def test_a_room_loads_nothing_of_the_others(module: str, foreign: set[str]) -> None:
    code = f"import sys, {module}; print(sorted({foreign} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
