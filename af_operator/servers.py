"""The facility's servers that a profile names, and how a NetworkPolicy can name them. Pure.

It knows addresses and pods, and no host names. A Service's name says in which namespace its pods are; any other name is
an address that only its admin knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from af_operator.api import ProfileSpec
from af_operator.cidrs import Network

SERVICE = re.compile(r"^(?:[^.]+\.)+([^.]+)\.svc(?:\.|$)")
PORTS = {"root": 1094, "roots": 1094, "xroot": 1094, "http": 80, "https": 443, "dav": 80, "davs": 443}
"""Where servers listen that no port is said of, by scheme. What has a scheme that is not here is no server: a bucket's
URL names none, nor does that of a file."""


@dataclass(frozen=True)
class Server:
    """A server that sessions connect to.

    Attributes
    ----------
    field
        Which field names it: ``xcache.origin``.
    host, port
        As they are written there; the port is that of its scheme where none is.
    """

    field: str
    host: str
    port: int

    @property
    def namespace(self) -> str | None:
        """The namespace of its pods, where its name is a Service's; empty: that of the session."""
        if service := SERVICE.match(self.host):
            return service[1]
        return "" if "." not in self.host and self.address is None else None

    @property
    def address(self) -> Network | None:
        """Its one address, where that is what is written."""
        try:
            return ip_network(ip_address(self.host))
        except ValueError:
            return None


def of_profile(spec: ProfileSpec) -> list[Server]:
    """Return the servers that sessions of a profile connect to."""
    return list(_of_profile(spec))


def _of_profile(spec: ProfileSpec) -> Iterator[Server]:
    if spec.xcache:
        yield from of_url("xcache.origin", f"root://{spec.xcache.origin}")
    if spec.results:
        yield from of_url("results.url", spec.results.url)
    if spec.inference and spec.inference.url:
        yield from of_url("inference.url.grpc", f"http://{spec.inference.url.grpc}")


def of_url(field: str, url: str) -> list[Server]:
    """Return the server that a URL names, if it names one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:  # a port beyond all ports: nobody listens there
        return []
    return [Server(field, host.rstrip("."), port)] if host and port else []
