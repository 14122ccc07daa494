"""Web pages of other pods of the session, shown by its notebook server behind its own login.

A page asks who is there, and is told the session's token by this server, not by the browser, which never has it. What
the browser says of its user is for this server alone: a page runs what users write, and Bokeh writes all headers that
it gets into the page.

Spark's are not below ``proxy/``: they take what follows that word in their address for the name of an application of
YARN's, ask for that, and show no executors and no tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

from jupyter_server_proxy.config import ServerProcess
from jupyter_server_proxy.handlers import NamedLocalProxyHandler
from tornado.httputil import HTTPHeaders

from af_client.pod.agents import Environ, dask_dashboard, dask_token, spark_master, spark_token, spark_ui

DRIVER_UI = "http://localhost:4040"
"""Of a driver that a user starts beside the notebook."""
OF_THE_USER = ("Authorization", "Cookie", "X-XSRFToken", "Referer")
"""Headers that say who asks, to this server and to the Hub; the address of a page may have the token in its query."""
QUERY_OF_THE_USER = frozenset({"token", "_xsrf"})


@dataclass(frozen=True)
class Page:
    """A page that is served at another host.

    Attributes
    ----------
    path
        Below this server's.
    url
        Where it is; None in a session without.
    token
        Returns what it lets in; asked for each request, for it may be a file. Empty where there is none: the session
        was begun before its pages asked for one.
    card
        In JupyterLab's launcher.
    """

    path: str
    url: str | None
    token: Callable[[], str]
    card: Mapping[str, Any] = field(default_factory=lambda: {"enabled": False})


def dashboard_page(environ: Environ) -> str:
    """Return the path of Dask's dashboard below this server's: by its host, as links and layouts of users have it."""
    return f"proxy/{urlsplit(dask_dashboard(environ) or '').netloc}"


def pages(environ: Environ) -> dict[str, SessionPage]:
    """Return the pages of this session, by their path below the server's."""
    return {page.path: SessionPage.of(page) for page in _pages(environ) if page.url}


def _pages(environ: Environ) -> Iterator[Page]:
    of_spark, ui = partial(spark_token, environ), spark_ui(environ)
    yield Page(dashboard_page(environ), dask_dashboard(environ), partial(dask_token, environ))
    yield Page("spark-ui", ui, of_spark, {"title": "Spark UI", "category": "Other"})
    yield Page("spark-driver", DRIVER_UI if ui else None, of_spark)
    # What it links to, the pages of workers, is at addresses that no browser reaches: not worth a card.
    yield Page("spark-master", spark_master(environ), of_spark)


class SessionPage(ServerProcess):
    """What the proxy shows of a page; there is no process of this server's behind it."""

    page: Page

    @classmethod
    def of(cls, page: Page) -> Self:
        """Return it for one page."""
        port = urlsplit(page.url or "").port
        found = cls(name=page.path, port=port, launcher_entry=dict(page.card), rewrite_response=stay_below)
        found.page = page
        return found

    def get_proxy_base_class(self) -> tuple[type, dict[str, Any]]:
        """Return the handler of requests to it."""
        there, token = urlsplit(self.page.url or "").hostname, self.page.token

        class Handler(NamedLocalProxyHandler):
            def get_client_uri(self, protocol: str, _host: str, port: int, path: str) -> str:
                return without_login(str(super().get_client_uri(protocol, there, port, path)))

            def proxy_request_headers(self) -> HTTPHeaders:
                return introduced(super().proxy_request_headers(), token())

        return Handler, {}


def introduced(headers: HTTPHeaders, token: str) -> HTTPHeaders:
    """Return the headers of a request with the session's token instead of what they say of the user."""
    for name in OF_THE_USER:
        headers.pop(name, None)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def without_login(url: str) -> str:
    """Return an address without what logs its user in to this server; the rest stays as it is."""
    address, _, query = url.partition("?")
    kept = (each for each in query.split("&") if each.partition("=")[0] not in QUERY_OF_THE_USER)
    return "?".join(filter(None, (address, "&".join(kept))))


def stay_below(response: Any) -> None:
    """Keep only the path of a redirection: a page knows this server's host, and not where it is below it."""
    if location := response.headers.get("Location"):
        response.headers["Location"] = urlsplit(location)._replace(scheme="", netloc="").geturl()
