"""What the session around this process has, as it is found from inside: in the environment.

A component with elastic pools adds to ``AGENTS`` where its agent is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

Environ = Mapping[str, str]

DASHBOARD_PORT = 8787
"""Of Dask's scheduler; the agent in it is there too."""


def dask_host(environ: Environ) -> str | None:
    """Return the host of the session's Dask scheduler, None for a session without Dask."""
    return urlsplit(environ.get("DASK_SCHEDULER_ADDRESS", "")).hostname


def _dask_agent(environ: Environ) -> str | None:
    host = dask_host(environ)
    return f"http://{host}:{DASHBOARD_PORT}/af/v1/scale" if host else None


MASTER_UI_PORT = 8080
"""Of Spark's master; the agent beside it has a port of its own."""


def spark_ui(environ: Environ) -> str | None:
    """Return where the UI of the session's Connect server is, None for a session without Spark."""
    return environ.get("AF_SPARK_UI")


def spark_master(environ: Environ) -> str | None:
    """Return where the UI of the session's Spark master is, None for a session without Spark."""
    host = urlsplit(environ.get("AF_SPARK_AGENT", "")).hostname
    return f"http://{host}:{MASTER_UI_PORT}" if host else None


def _spark_agent(environ: Environ) -> str | None:
    agent = environ.get("AF_SPARK_AGENT")
    return f"{agent}/af/v1/scale" if agent else None


AGENTS: dict[str, Callable[[Environ], str | None]] = {"dask": _dask_agent, "spark": _spark_agent}
"""Component -> the URL that takes ``{"pool": …, "workers": …}`` of it; None in a session without."""


def urls(environ: Environ) -> dict[str, str]:
    """Return component -> URL of those that this session has."""
    found = {component: agent(environ) for component, agent in AGENTS.items()}
    return {component: url for component, url in found.items() if url}
