"""A session's Dask as processes of this machine: with the very arguments, variables and files that its pods are given.

Only where things are differs: files lie in a directory of the test, and ports are free ones.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psutil

from af_operator import names
from af_operator.components import dask
from af_operator.components._shared import pod_spec
from af_operator.components._shared.pki import Certificates, certificates
from af_operator.components.dask import programs, secret
from af_operator.model import Body
from tests.support.objects import DASK, profile, session, world

GROUP_WORKER = "zmumu-cpu-1a2b3c-worker-0123456789"
SECONDS = 60.0
"""For a process to start on a machine that has much else to do."""


def certificates_of(secrets: tuple[str, str] = ("a" * 64, "b" * 64), now: datetime | None = None) -> Certificates:
    """Return a session's certificates; another's with other secrets."""
    return certificates("dask", secrets, now or datetime.now(UTC))


@dataclass
class DaskProcesses:
    """Scheduler and workers of one session, which end with their context.

    Attributes
    ----------
    directory
        Where their files and logs lie.
    token, shown
        What their Secret says.
    pages
        Host and port of the scheduler's pages, where it matters: else a free one.
    """

    directory: Path
    token: str = "f" * 64
    shown: Certificates = field(default_factory=certificates_of)
    pages: tuple[str, int] | None = None
    _started: list[psutil.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write the files that pods mount."""
        self.scheduler_port, free, self.worker_http = _free_ports(3)
        self.pages_host, self.dashboard_port = self.pages or ("127.0.0.1", free)
        self.secret, self.agent = self.directory / "secret", self.directory / "agent"
        for path in (self.secret, self.agent):
            path.mkdir()
        made = {secret.CA: self.shown.ca, secret.CERTIFICATE: self.shown.certificate, secret.KEY: self.shown.key}
        for name, text in {**made, secret.TOKEN: self.token}.items():
            (self.secret / name).write_text(text)
        for name, text in programs.agent(session(), world(), begun=False).body["data"].items():
            (self.agent / name).write_text(self._here(text))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End them all, those that they have started as well."""
        family = [each for started in self._started for each in (*_children(started), started)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self._started:
            started.wait(30)

    @property
    def address(self) -> str:
        """Where clients find the scheduler."""
        return f"tls://127.0.0.1:{self.scheduler_port}"

    @property
    def http(self) -> str:
        """Where its pages are."""
        return f"http://{self.pages_host}:{self.dashboard_port}"

    def start_scheduler(self) -> psutil.Popen:
        """Start what is in a scheduler's pod; return once it listens."""
        [container] = programs.scheduler_pod(session(dask=DASK), profile(), world())["containers"]
        process = self._start("scheduler", container, "--port", str(self.scheduler_port))
        self.until(lambda: self.scheduler_port in listening(process), "the scheduler listens")
        return process

    def start_worker(self) -> psutil.Popen:
        """Start what is in a worker's pod; return once its page answers."""
        asked, observed = session(dask=DASK), world()
        patch = programs.worker_patch(asked, observed)
        container = programs.worker(asked, profile(), dask.pools(asked)[0], patch, programs.WORKER_MODULE)
        process = self._start("worker", container)
        self.until(lambda: len(listening(process)) == 3, "nanny, worker and its page listen")
        return process

    def run(self, program: str, **environment: str) -> str:
        """Run a program as a session's run or notebook would; return what it says."""
        argv, variables = [sys.executable, "-c", program], self.user_variables() | environment
        done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def user_variables(self) -> dict[str, str]:
        """Return the environment of a pod where programs of users start."""
        patch = dask.pod_patch(session(dask=DASK), profile(), world(), "user")
        return self._variables(pod_spec.patched({}, patch))

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something; fail with the logs if it does not come, or somebody ends."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert all(process.poll() is None for process in self._started), self.logs()
            assert time.monotonic() < end, f"{what}: {self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """Return what all of them have said."""
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def _start(self, name: str, container: Body, *more: str) -> psutil.Popen:
        args = [*map(self._here, container["args"]), *more]
        with (self.directory / f"{name}-{len(self._started)}.log").open("wb") as log:
            argv = [sys.executable if args[0] == "python" else str(Path(sys.executable).parent / args[0]), *args[1:]]
            process = psutil.Popen(argv, env=self._variables(container), stdout=log, stderr=subprocess.STDOUT)
        self._started.append(process)
        return process

    def _variables(self, container: Body) -> dict[str, str]:
        given = {each["name"]: self._here(each.get("value", GROUP_WORKER)) for each in container["env"]}
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory), **given}

    def _here(self, text: str) -> str:
        places = {
            names.DASK_DIRECTORY: str(self.secret),
            programs.AGENT: str(self.agent),
            "$(DASK_WORKER_NAME)": GROUP_WORKER,
            f":{programs.WORKER_DASHBOARD_PORT}": f":{self.worker_http}",
            f":{names.DASK_DASHBOARD_PORT}": f"{self.pages_host if self.pages else ''}:{self.dashboard_port}",
            names.dask_scheduler_address(session()): f"tls://127.0.0.1:{self.scheduler_port}",
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return str(self.directory) if text == pod_spec.TMP else text


def listening(process: psutil.Process) -> set[int]:
    """Return the ports that a process and its children listen at."""
    found = set()
    for each in [process, *_children(process)]:
        with suppress(psutil.NoSuchProcess):
            found |= {c.laddr.port for c in each.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
