"""The port to the API server: one call, one stream. The only file of the client that imports ``kubernetes``."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from af_client.errors import BadInput, NoCluster, Unreachable, from_response
from af_kube.request import Request

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
        There is none of these.
    BadInput
        The context does not exist.
    """

    def __init__(self, context: str | None = None) -> None:
        self._client, self.namespace = _connect(context)

    def call(self, request: Request) -> dict[str, Any]:
        """Return the answer."""
        with self._open(request) as response:
            content = response.read()
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
        _, url, headers, _, _ = self._client.param_serialize(
            request.verb, request.path, query_params=list(request.query.items()), auth_settings=["BearerToken"]
        )
        settings = self._client.configuration
        return WebSocketAddress(url, headers, _tls(settings), settings.tls_server_name, _proxy(settings))

    @contextmanager
    def _open(self, request: Request) -> Iterator[Any]:
        import urllib3  # noqa: PLC0415 - as kubernetes

        method, url, headers, _, _ = self._client.param_serialize(
            request.verb,
            request.path,
            query_params=list(request.query.items()),
            header_params={"Accept": "application/json, */*", "Content-Type": request.content_type},
            auth_settings=["BearerToken"],
        )
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=request.read_seconds)
        body = None if request.body is None else json.dumps(request.body)
        response = None
        try:
            response = self._client.rest_client.pool_manager.request(
                method, url, headers=headers, body=body, timeout=timeout, preload_content=False, retries=False
            )
            if response.status >= 400:
                raise from_response(response.status, response.read().decode("utf-8", "replace"))
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason, next_step = _reason(error)
            raise Unreachable(f"{reason}: {self._client.configuration.host}: {next_step}") from error
        finally:
            if response is not None:
                response.close()


def _tls(settings: Any) -> ssl.SSLContext | None:
    if settings.host.startswith("http://"):
        return None
    from urllib3.util.ssl_ import create_urllib3_context  # noqa: PLC0415 - as kubernetes

    # As strict as for every other request, which urllib3 makes.
    context = create_urllib3_context()
    if settings.ssl_ca_cert or settings.ca_cert_data:
        context.load_verify_locations(settings.ssl_ca_cert, cadata=settings.ca_cert_data)
    else:
        context.load_default_certs()
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy(settings: Any) -> str | None:
    from kubernetes.client.rest import should_bypass_proxies  # noqa: PLC0415 - 0.5 s, which `af --help` must not pay

    bypassed = settings.proxy and should_bypass_proxies(settings.host, settings.no_proxy or "")
    return None if bypassed else settings.proxy


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


class _Login:
    """Who we are by a kubeconfig, kept up to date while a command runs.

    Parameters
    ----------
    loader
        Of the library's, for one context.
    settings
        The library's; what is found goes into these.
    """

    def __init__(self, loader: Any, settings: Any) -> None:
        self._loader, self._settings = loader, settings
        self._load()

    @property
    def namespace(self) -> str:
        """The context's."""
        return str(self._loader.current_context["context"].get("namespace") or "default")

    def _load(self) -> None:
        self._loader.load_and_set(self._settings)
        self._read = time.monotonic()
        if token := self._settings.api_key.get("BearerToken"):
            self._settings.api_key["BearerToken"] = token.strip()  # a file ends with a line feed
            self._settings.refresh_api_key_hook = self._renew

    def _renew(self, _: Any) -> None:
        if self._due():
            self._load()

    def _due(self) -> bool:
        ends = getattr(self._loader, "expiry", None)
        if isinstance(ends, datetime):
            return ends - TOKEN_LEFT < datetime.now(UTC)
        # A plug-in that names no end is asked once, as by kubectl.
        asked = "exec" in (self._loader._user or {})
        return not asked and time.monotonic() - self._read > TOKEN_SECONDS


def _connect(context: str | None) -> tuple[Any, str]:
    import yaml  # noqa: PLC0415 - as kubernetes
    from kubernetes import client, config  # noqa: PLC0415 - 0.5 s, which `af --help` must not pay
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger  # noqa: PLC0415 - as kubernetes

    # Not config.load_config: it prints to stdout, and does not know a $KUBECONFIG of several files.
    paths = os.environ.get("KUBECONFIG") or "~/.kube/config"
    settings = client.Configuration()
    try:
        if any(Path(p).expanduser().exists() for p in paths.split(os.pathsep) if p):
            # Relative paths in a file are its own folder's.
            loader = KubeConfigLoader(KubeConfigMerger(paths).config, active_context=context, config_base_path=None)
            namespace = _Login(loader, settings).namespace
        elif context is None and (SERVICE_ACCOUNT / "token").exists():
            config.load_incluster_config(client_configuration=settings)
            namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
        else:
            raise NoCluster(f"no kubeconfig at {paths}: set KUBECONFIG, or ask your facility for one")
    except config.ConfigException as error:
        if context is not None and "context" in str(error):
            raise BadInput(f"no context {context!r} in {paths}: `kubectl config get-contexts` lists them") from error
        raise NoCluster(f"cannot use the kubeconfig {paths}: {error}") from error
    except (yaml.YAMLError, OSError) as error:
        raise NoCluster(f"cannot read the kubeconfig {paths}: {error}") from error
    return client.ApiClient(settings), namespace
