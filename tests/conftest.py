"""Which tests go to the same one of the workers that run beside each other (`--dist loadfile`): those of a file."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.stage import REPORT

LONG = 600
"""Characters of why a test failed that are enough to know it by."""

TOGETHER = {
    # There are two GPUs, and these tests know how many are free.
    "tests/e2e/test_gpu_pool.py": "gpus",
    "tests/e2e/test_hyperscan.py": "gpus",
    "tests/e2e/test_writes.py": "gpus",
    "tests/e2e/test_spark_gpu.py": "gpus",
    # Each has sessions of seven to twelve GiB: three of these beside each other wait for each other's room.
    "tests/e2e/test_classify.py": "large",
    "tests/e2e/test_dimuon.py": "large",
    "tests/e2e/test_popularity.py": "large",
    "tests/e2e/test_spark.py": "large",
    "tests/e2e/test_spark_deaths.py": "large",
    "tests/e2e/test_spark_resize.py": "large",
    "tests/e2e/test_spark_root.py": "large",
    # Both make the demo, whose results have one place.
    "tests/e2e/test_tutorial.py": "demo",
    "tests/e2e/test_zmumu.py": "demo",
}
"""Files that use one thing, and so do not run beside each other."""

# onnxruntime tells its maker of each session otherwise; also where pytest runs without make.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# In the background of a script, and under nohup, these are ignored, and so by each program that a test starts: what it
# does when it is interrupted could not be tried. A handler is not inherited, and leaves programs the default.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


class ByFile(LoadScopeScheduling):
    """Gives the tests of a file, or of those that go together, to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file, file)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes what is so today into what is committed; the diff is then reviewed."""
    parser.addoption("--update-golden", action="store_true", help="rewrite what tests compare with")


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether to write it."""
    return bool(request.config.getoption("--update-golden"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write why each test failed for who asks for it (`tests/support/stage.py`)."""
    if path := os.environ.get(REPORT):
        failed = [report for kind in ("failed", "error") for report in terminalreporter.getreports(kind)]
        Path(path).write_text(json.dumps({report.nodeid: _why(report) for report in failed}))


def _why(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr).split())[:LONG]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Schedule so in place of pytest-xdist's own `loadfile`."""
    assert all((config.rootpath / file).exists() for file in TOGETHER)
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None
