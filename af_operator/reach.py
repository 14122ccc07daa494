"""What sessions of a profile do not reach, or reach and should not: told to admins, for nothing else tells it. Pure.

A policy that lets too little through looks like a server that is away, and one that lets too much through like nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from af_names import plain
from af_operator import cidrs, servers
from af_operator.api import ProfileSpec
from af_operator.api.network import Destination
from af_operator.capacity import Node
from af_operator.cidrs import Network
from af_operator.components.network import egress
from af_operator.model import Body
from af_operator.servers import Server
from af_operator.status import since
from af_operator.views import ClusterNetwork

CONDITION = "NetworkComplete"
MAX_MESSAGE = 4000
"""Characters of all findings together that are told."""
OPERATORS = "is in the operators' namespace, which stays closed"


def findings(spec: ProfileSpec, network: ClusterNetwork, nodes: Iterable[Node]) -> list[str]:
    """Return what is wrong, each with what to do about it."""
    return [
        *(words for server in servers.of_profile(spec) for words in _of_server(spec, network, server)),
        *_of_bucket(spec),
        *(words for each in spec.network.allow for words in _of_destination(network, each)),
        *_of_nodes(spec, network, nodes),
    ]


def _of_server(spec: ProfileSpec, network: ClusterNetwork, server: Server) -> Iterator[str]:
    where = f"{server.field} {server.host}:{server.port}"
    if server.namespace == network.operator.namespace:
        yield f"{where} {OPERATORS}"
    elif server.address and cidrs.left_of(server.address, cidrs.METADATA) is None:
        yield f"{where} is an address of metadata services, which stay closed"
    elif _is_unsaid(server) and not _may_be_allowed(spec, server.port):
        yield f"{where} is a name, and with egress: Closed no policy can say it: list its addresses in network.allow"


def _is_unsaid(server: Server) -> bool:
    return server.namespace is None and server.address is None


def _of_bucket(spec: ProfileSpec) -> Iterator[str]:
    url = spec.results.url if spec.results else "file:"
    if not url.startswith("file:") and not servers.of_url("", url) and not _may_be_allowed(spec, None):
        yield f"results.url {url} names no server: with egress: Closed list the addresses of its store in network.allow"


def _may_be_allowed(spec: ProfileSpec, port: int | None) -> bool:
    """Return whether a server of an unknown address may be reached: nobody resolves names here."""
    ranges = [each.ports for each in spec.network.allow if each.cidr]
    return spec.network.egress == "Open" or any(not ports or port is None or port in ports for ports in ranges)


def _of_destination(network: ClusterNetwork, each: Destination) -> Iterator[str]:
    if each.namespace == network.operator.namespace:
        yield f"network.allow: {each.namespace} {OPERATORS}"
    if each.cidr and cidrs.left_of(cidrs.parse(each.cidr), egress.closed(network)) is None:
        yield (
            f"network.allow: {each.cidr} is the cluster's own, by the chart's network.clusterCidrs, or a metadata "
            "service's: nothing is opened"
        )


def _of_nodes(spec: ProfileSpec, network: ClusterNetwork, nodes: Iterable[Node]) -> Iterator[str]:
    closed = egress.closed(network)
    opened = [(cidrs.parse(each.cidr), closed) for each in spec.network.allow if each.cidr]
    if spec.network.egress == "Open":
        opened += [(each, (*closed, *cidrs.PRIVATE)) for each in cidrs.EVERYTHING]
    reached = sorted({a for node in nodes for a in node.addresses if _is_reached(a, tuple(opened))})
    if reached:
        yield (
            f"{len(reached)} addresses of nodes, such as {reached[0]}, are not in the chart's network.clusterCidrs: "
            "sessions reach kubelets there; add the range of the nodes, and that of the API server"
        )


@lru_cache(maxsize=65_536)
def _is_reached(address: str, opened: tuple[tuple[Network, tuple[Network, ...]], ...]) -> bool:
    one = ip_network(address)
    return any(
        cidrs.covers(wide, one) and not any(cidrs.covers(each, one) for each in closed) for wide, closed in opened
    )


def condition(found: Sequence[str], before: Iterable[Body], now: datetime) -> dict[str, Any]:
    """Return the findings as a condition; `before` are those that the profile has."""
    state, reason = ("False", "Incomplete") if found else ("True", "Complete")
    message = "; ".join(found) or "policies reach all that the profile names, and no node"
    said = {"status": state, "reason": reason, "message": plain.line(message)[:MAX_MESSAGE]}
    return {"type": CONDITION, **said, "lastTransitionTime": since(CONDITION, state, before, now)}
