"""The port to the API server: one call, one stream. Without the Kubernetes client: to load it takes a second."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from af_client.errors import Unreachable, from_kube, from_response
from af_kube import kubeconfig
from af_kube.errors import NoCredentials
from af_kube.request import Request
from af_names import plain

LOG = logging.getLogger(__name__)
_WARNING = re.compile(r'299 \S+ "(.*)"')
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS = 10.0
TOKEN_SECONDS = 60.0
"""As for client-go: so old may the copy of a file's token be. Whoever writes the file renews it long before its end."""
TOKEN_LEFT = timedelta(seconds=30)
"""So long must a plug-in's token still live. The library wants five minutes, and GitHub gives none that live longer."""


@dataclass(frozen=True)
class WebSocketAddress:
    """Where and how a websocket to the API server is opened; for one use, since tokens are renewed."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None


class Transport(Protocol):
    """What ``Sessions`` asks of a connection to an API server."""

    namespace: str
    """Namespace of the kubeconfig's context."""

    def call(self, request: Request) -> dict[str, Any]:
        """Return the answer; raise a ``ClientError``."""

    def lines(self, request: Request) -> Iterator[bytes]:
        """Yield the answer line by line, as it comes; raise a ``ClientError``."""

    def websocket(self, request: Request) -> WebSocketAddress:
        """Return where a websocket for this request is opened; sends nothing."""


class Cluster:
    """A connection by the ordinary rules: $KUBECONFIG, ~/.kube/config, or the pod's service account.

    Raises
    ------
    NoCluster
        There is none of these, or the kubeconfig's login program has failed.
    BadInput
        The context does not exist.
    """

    def __init__(self, context: str | None = None) -> None:
        with _told():
            self._context = _context(context)
            self._tls = self._context.tls()
        self.namespace = self._context.namespace
        self._pool: Any = None

    def call(self, request: Request) -> dict[str, Any]:
        """Return the answer."""
        with self._open(request) as response:
            content = response.read()
            _warn(response.headers.getlist("Warning"))
        found = json.loads(content or b"{}")
        return found if isinstance(found, dict) else {}

    def lines(self, request: Request) -> Iterator[bytes]:
        """Yield the answer line by line, as it comes."""
        with self._open(request) as response:
            rest = b""
            for chunk in response.stream(65536):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
            if rest:
                yield rest

    def websocket(self, request: Request) -> WebSocketAddress:
        """Return where a websocket for this request is opened."""
        context = self._context
        return WebSocketAddress(self._url(request), self._headers(), self._tls, context.server_name, _proxy(context))

    def _url(self, request: Request) -> str:
        query = f"?{urlencode(request.query)}" if request.query else ""
        return f"{self._context.server}{request.path}{query}"

    def _headers(self) -> dict[str, str]:
        with _told():
            authorization = self._context.login.authorization()
        return {"Authorization": authorization} if authorization else {}

    @contextmanager
    def _open(self, request: Request) -> Iterator[Any]:
        import urllib3  # noqa: PLC0415 - `af --help` must not pay for it

        self._pool = self._pool or _pool(self._context, self._tls)
        headers = {"Accept": "application/json, */*", "Content-Type": request.content_type, **self._headers()}
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=request.read_seconds)
        body = None if request.body is None else json.dumps(request.body)
        response = None
        try:
            response = self._pool.request(
                request.verb,
                self._url(request),
                headers=headers,
                body=body,
                timeout=timeout,
                preload_content=False,
                retries=False,
                redirect=False,  # the token is for this server alone
            )
            if response.status >= 300:
                raise from_response(response.status, response.read().decode("utf-8", "replace"))
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason, next_step = _reason(error)
            raise Unreachable(f"{reason}: {self._context.server}: {next_step}") from error
        finally:
            if response is not None:
                response.close()


def _warn(headers: Sequence[str]) -> None:
    """Pass on what the API server warns of: to stderr, unless the program that this is part of logs elsewhere."""
    for header in headers:
        if found := _WARNING.fullmatch(header):
            LOG.warning("the API server warns: %s", plain.line(found[1].replace('\\"', '"')))


def _pool(context: kubeconfig.Context, tls: ssl.SSLContext | None) -> Any:
    import urllib3  # noqa: PLC0415 - see above

    name = context.server_name
    secure: dict[str, Any] = {"ssl_context": tls} if tls else {}
    secure |= {"server_hostname": name, "assert_hostname": name} if tls and name else {}
    proxy = _proxy(context)
    return urllib3.ProxyManager(proxy, **secure) if proxy else urllib3.PoolManager(**secure)


def _proxy(context: kubeconfig.Context) -> str | None:
    """Return the proxy of the kubeconfig, or else that of the environment, as kubectl does."""
    if context.proxy:
        return context.proxy
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - seldom needed

    at = urlsplit(context.server)
    return None if proxy_bypass(at.netloc) else getproxies().get(at.scheme)


def _reason(error: Exception) -> tuple[str, str]:
    """Return what happened, and what to look at."""
    text = str(error).lower()
    if "certificate" in text:
        return (
            "the API server's certificate is not trusted",
            "is certificate-authority in the kubeconfig that server's?",
        )
    reason = "the API server does not answer in time" if "timed out" in text else "the API server cannot be reached"
    return reason, "is the cluster up, the address in the kubeconfig right, the network or VPN on?"


def _context(name: str | None) -> kubeconfig.Context:
    paths = os.environ.get("KUBECONFIG") or kubeconfig.DEFAULT
    there = any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path)
    if not there and name is None and (SERVICE_ACCOUNT / "token").exists():
        return kubeconfig.in_cluster(SERVICE_ACCOUNT)
    return kubeconfig.load(paths, name)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except NoCredentials as error:
        raise from_kube(error) from error
