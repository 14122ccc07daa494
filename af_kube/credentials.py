"""Where the API server is, and how it knows us: the pod's service account, or else the kubeconfig."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from af_kube.errors import NoCredentials
from af_kube.kubeconfig import Context
from af_kube.kubeconfig import load as load_context

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
"""The kubelet renews a token long before its end: so old may the copy of it be."""


class Credentials(Protocol):
    """Of one API server."""

    server: str
    """URL, without a slash at its end."""
    tls: ssl.SSLContext | bool
    """What vouches for the server; True for an http URL, where it is not asked."""

    @property
    def server_name(self) -> str | None:
        """Whom the server's certificate must be made out to, if that is not the URL's host."""

    @property
    def proxy(self) -> str | None:
        """URL of the proxy on the way to the server, if there is one."""

    async def authorization(self) -> str | None:
        """Return the header's value for a request that is made now."""


async def load() -> Credentials:
    """Return the service account's where there is one, as in every pod, else the kubeconfig's.

    Raises
    ------
    NoCredentials
        Neither can be used.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").exists():
        return service_account(SERVICE_ACCOUNT)
    return await kubeconfig(os.environ.get("KUBECONFIG"))


def service_account(directory: Path) -> ServiceAccount:
    """Return what the kubelet has mounted into this pod, at `directory`."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    try:
        tls = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    except OSError as error:
        raise NoCredentials(f"cannot use the service account's ca.crt: {error}") from error
    return ServiceAccount(f"https://{host}:{port}", tls, directory / "token")


async def kubeconfig(path: str | None = None) -> KubeConfig:
    """Return those of the current context of a kubeconfig, or of the one in ~/.kube."""
    context = await asyncio.to_thread(load_context, path)
    tls = await asyncio.to_thread(context.tls)
    return KubeConfig(context.server, True if tls is None else tls, context)


@dataclass
class ServiceAccount:
    """Of the pod that this process runs in."""

    server: str
    tls: ssl.SSLContext | bool
    token_file: Path
    server_name: str | None = None
    proxy: str | None = None
    _token: str = field(default="", repr=False)
    _read: float = float("-inf")

    async def authorization(self) -> str:
        """Return the token of the file, which is renewed from time to time."""
        if time.monotonic() - self._read > TOKEN_SECONDS:
            try:
                self._token, self._read = self.token_file.read_text().strip(), time.monotonic()
            except OSError as error:
                raise NoCredentials(f"cannot read the service account's token: {error}") from error
        return f"Bearer {self._token}"


@dataclass
class KubeConfig:
    """Of one context."""

    server: str
    tls: ssl.SSLContext | bool
    context: Context = field(repr=False)

    @property
    def server_name(self) -> str | None:
        """See ``Credentials``."""
        return self.context.server_name

    @property
    def proxy(self) -> str | None:
        """See ``Credentials``."""
        return self.context.proxy

    async def authorization(self) -> str | None:
        """Return the token, if that is how the user is known; a certificate is in `tls`."""
        return await asyncio.to_thread(self.context.login.authorization)
