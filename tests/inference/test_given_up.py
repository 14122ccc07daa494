"""A server whose model cannot be loaded ends, with the reason as its last word: a session says that of its pods."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.inference.serving import PACKAGE, config


def test_the_last_word_is_the_model_and_why(tmp_path: Path) -> None:
    path = tmp_path / "topjet"
    path.mkdir()
    file = config(tmp_path, models=[{"name": "topjet", "version": "3", "path": str(path)}])
    env = {**os.environ, "AF_INFERENCE_CONFIG": str(file), "PYTHONPATH": str(PACKAGE)}
    argv = [sys.executable, "-m", "af_inference"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"af_inference: model topjet 3 in {path}: there is no model topjet")
