"""Ranges of addresses: which are closed to sessions for good, and what of a range is left without them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


METADATA = _networks(
    # Where clouds give a machine's credentials to whoever asks; the rest of these ranges is a node's own link.
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::254/128",  # AWS
    "fd20:ce::254/128",  # Google
    "168.63.129.16/32",  # Azure's wire server, which has nodes' settings
    "192.0.0.192/32",  # Oracle
    "100.100.100.200/32",  # Alibaba
    "64:ff9b::a9fe:0/112",  # the first of these once more, as NAT64 translates it
)
"""What no session ever connects to, whatever admins say."""
PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Addresses that a site has for itself (RFC 1918, 6598, 4193)."""
MAPPED = IPv6Network("::ffff:0:0/96")
EVERYTHING = _networks("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class Block:
    """A range of addresses but for parts of it, as a NetworkPolicy writes it."""

    cidr: Network
    without: tuple[Network, ...] = ()


def parse(text: str) -> Network:
    """Return the range that a text names; bits behind the prefix say nothing."""
    return _plain(ip_network(text, strict=False))


def left_of(cidr: Network, closed: Iterable[Network]) -> Block | None:
    """Return what is left of a range without what is closed; None where that is nothing."""
    parts = _merged(other for other in map(_plain, closed) if other.version == cidr.version)
    if any(covers(part, cidr) for part in parts):
        return None
    return Block(cidr, tuple(part for part in parts if covers(cidr, part)))


def covers(outer: Network, inner: Network) -> bool:
    """Return whether all of a range lies in another one."""
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def _plain(network: Network) -> Network:
    """Return IPv4 addresses as such, also where they are written as IPv6 ones: ``::ffff:169.254.0.0/112``."""
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - MAPPED.prefixlen))
    return network


def _merged(networks: Iterable[Network]) -> list[Network]:
    """Return the same addresses in as few ranges as can be, in their order."""
    each = list(networks)
    v4 = collapse_addresses(n for n in each if isinstance(n, IPv4Network))
    v6 = collapse_addresses(n for n in each if isinstance(n, IPv6Network))
    return [*v4, *v6]
