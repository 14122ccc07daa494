"""An operator as a process of this machine: started, asked how it is, stopped and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil

from local_cluster.processes import poll
from local_cluster.progress import tail
from local_cluster.settings import CHECKOUT

PREFIX = "AF_OPERATOR_"
# With the last, which many containers set, each start would compile Python's libraries anew: most of its CPU.
NOT_ITS_OWN = ("AF_", "KUBE", "PYTHONDONTWRITEBYTECODE")
STOP_SECONDS = 30
ANSWER_SECONDS = 10
MIB = 2**20
PACE = 0.3


class LocalOperator:
    """One operator that may be started again and again; ends with its context.

    Parameters
    ----------
    kubeconfig
        Where its API server is, and who it is there.
    directory
        For its log.
    settings
        Its AF_OPERATOR_* variables, without the prefix.
    command
        What it is started through.
    """

    def __init__(
        self, kubeconfig: Path, directory: Path, settings: Mapping[str, str], command: Sequence[str] = ()
    ) -> None:
        self.log = directory / "operator.log"
        self._kubeconfig, self._settings, self._command = kubeconfig, settings, command
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    def __enter__(self) -> LocalOperator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.wait()

    def start(self) -> None:
        """Start it."""
        settings = {"PORT": "0", **self._settings}
        plain = {name: value for name, value in os.environ.items() if not name.startswith(NOT_ITS_OWN)}
        ours = {"KUBECONFIG": str(self._kubeconfig), **{PREFIX + name: value for name, value in settings.items()}}
        self._port = None
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            [*self._command, sys.executable, "-m", "af_operator"],
            cwd=CHECKOUT,
            env=plain | ours,
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

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until it says that it is ready; one that ends meanwhile shows its last words."""

        def ready() -> bool:
            assert self.running(), f"the operator has ended:\n{tail(self.log)}"
            return self.get("readyz")[0] == 200

        assert poll(ready, seconds), f"not ready within {seconds} s: {self.get('readyz')}\n{tail(self.log)}"

    def metrics(self) -> dict[str, float]:
        """Return its samples, by name with labels."""
        return samples(self.get("metrics")[1])

    def cpu_until_looked_at(self, keys: int, seconds: float) -> float:
        """Wait until it has looked at so many sessions and profiles; return what it has computed until then."""
        assert poll(lambda: self.looked_at(keys), seconds, PACE), f"{self.metrics()}\n{tail(self.log)}"
        return self.cpu_seconds()

    def looked_at(self, keys: int) -> bool:
        """Return whether it has had so many passes, and none is waiting."""
        found = self.metrics()
        return found.get("af_operator_pass_seconds_count", 0) >= keys and not found.get("af_operator_queue_depth")

    def sessions(self) -> int:
        """Return how many sessions it knows, in whatever phase."""
        return int(sum(n for name, n in self.metrics().items() if name.startswith("af_operator_sessions{")))

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of its own HTTP endpoints; (0, "") where it does not listen (yet)."""
        port = self._port = self._port or self._listens()
        if port is None:
            return 0, ""
        try:
            with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=ANSWER_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def cpu_seconds(self) -> float:
        """Return how much it has computed since it was started."""
        times = self._live().cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Return what it takes now."""
        return float(self._live().memory_info().rss) / MIB

    def highest_memory_mib(self) -> float:
        """Return the most that it has ever taken since it was started."""
        lines = Path(f"/proc/{self._live().pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def _live(self) -> psutil.Process:
        assert self._process, "it has not been started"
        return psutil.Process(self._process.pid)

    def _listens(self) -> int | None:
        """Return the port that it was given for the 0 that it asked for."""
        try:
            open_ = self._live().net_connections("tcp")
        except psutil.NoSuchProcess:
            return None
        return next((found.laddr.port for found in open_ if found.status == psutil.CONN_LISTEN), None)


def samples(text: str) -> dict[str, float]:
    """Return the samples in Prometheus' text format, by name with labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
