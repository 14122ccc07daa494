"""An operator as a process of this machine: started, asked how it is, stopped and killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil

from local_cluster.processes import poll
from local_cluster.progress import tail
from tests.support.local_process import LocalProcess
from tests.support.networks import NETWORK

PREFIX = "AF_OPERATOR_"
ANSWER_SECONDS = 10
PACE = 0.3


class LocalOperator(LocalProcess):
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
        super().__init__([*command, sys.executable, "-m", "af_operator"], kubeconfig, directory / "operator.log")
        self._settings = {"PORT": "0", "NETWORK": json.dumps(NETWORK), **settings}
        self._port: int | None = None

    def variables(self) -> Mapping[str, str]:
        """Return its settings."""
        return {PREFIX + name: value for name, value in self._settings.items()}

    def start(self) -> None:
        """Start it; it may listen at another port than before."""
        self._port = None
        super().start()

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

    def _listens(self) -> int | None:
        """Return the port that it was given for the 0 that it asked for."""
        try:
            open_ = self.live().net_connections("tcp")
        except psutil.NoSuchProcess:
            return None
        return next((found.laddr.port for found in open_ if found.status == psutil.CONN_LISTEN), None)


def samples(text: str) -> dict[str, float]:
    """Return the samples in Prometheus' text format, by name with labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
