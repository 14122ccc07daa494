"""What the session around this process has, as it is found from inside: in the environment.

A component with elastic pools adds to ``AGENTS`` where its agent is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from af_names import DASK_DASHBOARD_PORT

Environ = Mapping[str, str]


def dask_host(environ: Environ) -> str | None:
    """Return the host of the session's Dask scheduler, None for a session without Dask."""
    return urlsplit(environ.get("DASK_SCHEDULER_ADDRESS", "")).hostname


def dask_dashboard(environ: Environ) -> str | None:
    """Return where the scheduler's pages are, without the path; None for a session without Dask."""
    host = dask_host(environ)
    return f"http://{host}:{DASK_DASHBOARD_PORT}" if host else None


def dask_token(environ: Environ) -> str:
    """Return what the scheduler's and the workers' HTTP lets in; empty in a session that was begun without.

    It is a file beside the certificates by which Dask is configured: in the environment it would be seen by whatever
    writes that down.
    """
    authority = environ.get("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", "")
    file = Path(authority).with_name("token") if authority else None
    return file.read_text().strip() if file and file.exists() else ""


def _dask_agent(environ: Environ) -> str | None:
    dashboard = dask_dashboard(environ)
    return f"{dashboard}/af/v1/scale" if dashboard else None


MASTER_UI_PORT = 8080
"""Of Spark's master; the agent beside it has a port of its own."""


def spark_ui(environ: Environ) -> str | None:
    """Return where the UI of the session's Connect server is, None for a session without Spark."""
    return environ.get("AF_SPARK_UI")


def spark_master(environ: Environ) -> str | None:
    """Return where the UI of the session's Spark master is, None for a session without Spark."""
    host = urlsplit(environ.get("AF_SPARK_AGENT", "")).hostname
    return f"http://{host}:{MASTER_UI_PORT}" if host else None


def spark_token(environ: Environ) -> str:
    """Return what Spark's pages and its agent let in, as its Connect server does; empty in a session without."""
    return environ.get("AF_SPARK_TOKEN", "")


def _spark_agent(environ: Environ) -> str | None:
    agent = environ.get("AF_SPARK_AGENT")
    return f"{agent}/af/v1/scale" if agent else None


AGENTS: dict[str, tuple[Callable[[Environ], str | None], Callable[[Environ], str]]] = {
    "dask": (_dask_agent, dask_token),
    "spark": (_spark_agent, spark_token),
}
"""Component -> the URL that takes ``{"pool": …, "workers": …}`` of it, None in a session without; and its token."""


class Agent(NamedTuple):
    """Where an agent is asked, and the token by which it knows who asks; empty for one that asks for none."""

    url: str
    token: str


def of(environ: Environ) -> dict[str, Agent]:
    """Return component -> its agent, of those that this session has."""
    found = {component: (url(environ), token) for component, (url, token) in AGENTS.items()}
    return {component: Agent(url, token(environ)) for component, (url, token) in found.items() if url}
