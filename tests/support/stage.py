"""A part of `make test`: what fails is run once more by itself, and every failure is said again at the very end.

``python -m tests.support.stage NAME [arguments of pytest]``, and at the end ``python -m tests.support.stage --told``.
Tests run beside others on two cores: one that passes by itself was disturbed, which is said and does not count. More
than a few have another cause.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

TOLD = Path(".local/failures")
"""A file for each stage that was run last, with what failed in it."""
REPORT = "AF_FAILURES"
"""Names the file to which `tests/conftest.py` writes the failures of a run."""
FEW = 5


def main(name: str, *args: str) -> int:
    """Run the tests; returns pytest's exit code."""
    TOLD.mkdir(parents=True, exist_ok=True)
    code, failed = _pytest(*args)
    left: Mapping[str, str] = failed
    # Of a file that cannot be imported there is no test to run again.
    if code == pytest.ExitCode.TESTS_FAILED and 0 < len(failed) <= FEW and all("::" in test for test in failed):
        print(f"\nonce more, by themselves: {' '.join(failed)}", flush=True)
        code, again = _pytest(*failed)
        left = again if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else failed  # was interrupted
    lines = (f"{name}: {'FAILED' if test in left else 'disturbed'}: {test}: {why}\n" for test, why in failed.items())
    (TOLD / name).write_text("".join(lines))
    return code


def _pytest(*args: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and why each test failed."""
    with tempfile.NamedTemporaryFile() as report:
        environment = {**os.environ, REPORT: report.name}
        with subprocess.Popen([sys.executable, "-m", "pytest", *args], env=environment) as run:
            try:
                code = run.wait()
            except KeyboardInterrupt:  # which pytest has got, too
                code = run.wait()
        return code, json.loads(report.read() or b"{}")


if __name__ == "__main__":
    if sys.argv[1] == "--told":
        print("".join(path.read_text() for path in sorted(TOLD.glob("*"))), end="")
    else:
        sys.exit(main(*sys.argv[1:]))
