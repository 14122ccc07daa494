"""A process of this machine that works on an API server: started, measured, stopped and killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from local_cluster.settings import CHECKOUT

# With the last, which many containers set, each start would compile Python's libraries anew: most of its CPU.
NOT_ITS_OWN = ("AF_", "KUBE", "PYTHONDONTWRITEBYTECODE")
STOP_SECONDS = 30
MIB = 2**20


class LocalProcess:
    """A program that may be started again and again; ends with its context.

    Parameters
    ----------
    argv
        Its command line.
    kubeconfig
        Where its API server is, and who it is there.
    log
        Where what it says is added.
    """

    def __init__(self, argv: Sequence[str], kubeconfig: Path, log: Path) -> None:
        self.log = log
        self._argv, self._kubeconfig = argv, kubeconfig
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.wait()

    def variables(self) -> Mapping[str, str]:
        """Return what is in its environment beside the kubeconfig."""
        return {}

    def start(self) -> None:
        """Start it."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(NOT_ITS_OWN)}
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            self._argv,
            cwd=CHECKOUT,
            env={**plain, "KUBECONFIG": str(self._kubeconfig), **self.variables()},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def kill(self) -> None:
        """Kill it: no word, no last write."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)

    def stop(self) -> int:
        """End it as a kubelet does; return its exit code."""
        assert self._process, "it has not been started"
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait until it is dead; return its exit code."""
        code = 0
        if self._process and self._output:
            code = self._process.wait(STOP_SECONDS)
            self._output.close()
            self._process = None
        return code

    def running(self) -> bool:
        """Return whether it lives."""
        return self._process is not None and self._process.poll() is None

    def cpu_seconds(self) -> float:
        """Return how much it has computed since it was started."""
        times = self.live().cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Return what it takes now."""
        return float(self.live().memory_info().rss) / MIB

    def highest_memory_mib(self) -> float:
        """Return the most that it has ever taken since it was started."""
        lines = Path(f"/proc/{self.live().pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def live(self) -> psutil.Process:
        """Return the process."""
        assert self._process, "it has not been started"
        return psutil.Process(self._process.pid)
