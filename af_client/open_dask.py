"""A session's Dask at ports of one's own machine: ``Client()`` without arguments finds it there (`af dask`).

The scheduler's port is the pod's own, and asks for a certificate. The dashboard's asks for a token, which a browser
cannot show: so it is passed on to by a server of this process, at an address that nobody else can guess.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, Self
from urllib.request import ProxyHandler, Request, build_opener

from af_client.errors import BadInput, NotReady
from af_client.forward import HOST, Say
from af_client.model import Session
from af_client.opening import Opened, Server
from af_client.transport import Transport
from af_names import DASK_DASHBOARD_PORT, DASK_SCHEDULER_PORT, dask_scheduler

FILES = ("ca.crt", "tls.crt", "tls.key")
SECONDS = 10.0
COMPARED = ("dask", "distributed")
"""Packages that must be the same on both sides; and Python, by whose rules functions are sent."""


def _pod(session: Session) -> str:
    named = session.pods.get("dask", {}).get("scheduler", ())
    if not named:
        raise NotReady(f"the Dask scheduler of session {session.name} has no pod: see `af status {session.name}`")
    return named[-1]


DASK = Server("Dask scheduler", "dask", DASK_SCHEDULER_PORT, "token", dask_scheduler, _pod, FILES)


class OpenDask(Opened):
    """A scheduler and its dashboard at ports of this machine, and what a client needs, in files of a directory.

    The files are its user's alone, and are gone with the context.

    Attributes
    ----------
    address
        Of the scheduler.
    dashboard
        URL of its pages, for a browser: who has it can see them, and move workers.
    environment
        Variables by which `Client()` without arguments finds all that.
    """

    server = DASK

    def __init__(self, api: Transport, session: Session, port: int = 0, say: Say = lambda _: None) -> None:
        super().__init__(api, session, port, say)
        self._pages = self._to(DASK_DASHBOARD_PORT, 0, say)
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        if self._session.endpoints["dask"].startswith("tcp:"):
            name = self._session.name
            raise NotReady(
                f"the Dask of session {name} was begun before it had certificates, and is reached from inside only: "
                f"`af suspend {name}`, then `af resume {name}`"
            )
        from af_client.dashboard import Dashboard  # noqa: PLC0415 - of aiohttp: 0.3 s, which `af --help` must not pay

        with ExitStack() as parts:
            super().__enter__()
            parts.push(super().__exit__)
            parts.enter_context(self._pages)
            shown = parts.enter_context(Dashboard(self._pages.port, self.token))
            directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="af-dask-")))
            self._parts = parts.pop_all()
        self.address, self.dashboard = f"tls://{HOST}:{self.port}", f"{shown.url}/status"
        self.environment = _environment(self.address, self.dashboard, self._written(directory))
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def report(self) -> Mapping[str, Any]:
        """Return what programs need."""
        return {"environment": self.environment, "dashboard": self.dashboard, "port": self.port, "pid": os.getpid()}

    def versions(self) -> Mapping[str, str]:
        """Return the versions of Python and Dask in the scheduler; empty where it does not say."""
        request = Request(
            f"http://{HOST}:{self._pages.port}/af/v1/versions", headers={"Authorization": f"Bearer {self.token}"}
        )
        # Without the proxies of the environment: the port is on this machine.
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=SECONDS) as answer:
                return {str(name): str(number) for name, number in json.loads(answer.read()).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def client(self, **options: Any) -> Any:
        """Return a ``distributed.Client``; `options` are its own.

        Raises
        ------
        BadInput
            There is no `distributed` here.
        """
        try:
            from distributed import Client, Security  # noqa: PLC0415 - only who computes has it
        except ImportError as error:
            raise BadInput(f"there is no distributed here: {needed(self.versions())}") from error
        certificate, key = (self.environment[f"{TLS}CLIENT__{part}"] for part in ("CERT", "KEY"))
        security = Security(
            require_encryption=True,
            tls_ca_file=self.environment[f"{TLS}CA_FILE"],
            tls_client_cert=certificate,
            tls_client_key=key,
        )
        return Client(self.address, security=security, **options)

    def _written(self, directory: Path) -> Mapping[str, str]:
        paths = {name: directory / name for name in FILES}
        for name, path in paths.items():
            path.touch(mode=0o600)
            path.write_text(self._secret[name])
        return {name: str(path) for name, path in paths.items()}


TLS = "DASK_DISTRIBUTED__COMM__TLS__"


def _environment(address: str, dashboard: str, files: Mapping[str, str]) -> dict[str, str]:
    return {
        "DASK_SCHEDULER_ADDRESS": address,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
        f"{TLS}CA_FILE": files["ca.crt"],
        f"{TLS}CLIENT__CERT": files["tls.crt"],
        f"{TLS}CLIENT__KEY": files["tls.key"],
        "DASK_DISTRIBUTED__DASHBOARD__LINK": dashboard,
    }


def here() -> dict[str, str]:
    """Return the versions in this environment, of those packages that it has."""
    found = {"python": python_version()}
    for name in COMPARED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(there: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """Return what is not the same on both sides, in words; of Python the first two numbers count."""
    return [
        f"{name} is {own[name]} here and {there[name]} in the session"
        for name in ("python", *COMPARED)
        if name in own and name in there and _counts(name, own[name]) != _counts(name, there[name])
    ]


def needed(there: Mapping[str, str]) -> str:
    """Return what to install to be as the session is."""
    packages = " ".join(f"{name}=={there[name]}" for name in COMPARED if name in there) or "dask distributed"
    python = f" on Python {_counts('python', there['python'])}" if "python" in there else ""
    return f"`pip install {packages}`{python}"


def _counts(name: str, number: str) -> str:
    return ".".join(number.split(".")[:2]) if name == "python" else number
