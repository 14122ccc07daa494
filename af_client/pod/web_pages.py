"""Web pages of other pods of the session, shown by its notebook server at an address of its own, behind its login.

Not below ``proxy/HOST:PORT``, as Dask's dashboard: Spark's pages take what follows the word "proxy" in their address
for the name of an application of YARN's, ask for that, and show no executors and no tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from jupyter_server_proxy.config import ServerProcess
from jupyter_server_proxy.handlers import NamedLocalProxyHandler
from traitlets import Unicode

from af_client.pod.agents import Environ, spark_master, spark_ui

DRIVER_UI = "http://localhost:4040"
"""Of a driver that a user starts beside the notebook."""


def _own_driver(environ: Environ) -> str | None:
    return DRIVER_UI if spark_ui(environ) else None


PAGES: dict[str, tuple[Callable[[Environ], str | None], dict[str, Any]]] = {
    "spark-ui": (spark_ui, {"title": "Spark UI", "category": "Other"}),
    "spark-driver": (_own_driver, {"enabled": False}),
    # What it links to, the pages of workers, is at addresses that no browser reaches: not worth a card.
    "spark-master": (spark_master, {"enabled": False}),
}
"""Path -> where the page is, None in a session without; and its card in JupyterLab's launcher."""


class SessionPage(ServerProcess):
    """A page that is served at another host, without a process of this server's."""

    host = Unicode()

    def get_proxy_base_class(self) -> tuple[type, dict[str, Any]]:
        """Return the handler of requests to it."""
        there = self.host

        class Handler(NamedLocalProxyHandler):
            def get_client_uri(self, protocol: str, _host: str, port: int, path: str) -> str:
                return str(super().get_client_uri(protocol, there, port, path))

        return Handler, {}


def pages(environ: Environ) -> dict[str, SessionPage]:
    """Return the pages of this session, by their path below the server's."""
    found = {name: (urlsplit(url(environ) or ""), card) for name, (url, card) in PAGES.items()}
    return {
        name: SessionPage(name=name, host=url.hostname, port=url.port, launcher_entry=card, rewrite_response=stay_below)
        for name, (url, card) in found.items()
        if url.hostname
    }


def stay_below(response: Any) -> None:
    """Keep only the path of a redirection: Spark knows this server's host, and not where it is below it."""
    if location := response.headers.get("Location"):
        response.headers["Location"] = urlsplit(location)._replace(scheme="", netloc="").geturl()
