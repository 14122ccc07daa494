"""What a session's pods connect to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from af_operator import cidrs, servers
from af_operator.api.network import Destination
from af_operator.cidrs import Block, Network
from af_operator.components.network import peers
from af_operator.model import Body, Profile, Session
from af_operator.servers import Server
from af_operator.views import ClusterNetwork, HubView, Pods

DNS = (53,)


def rules(session: Session, profile: Profile, network: ClusterNetwork, hub: HubView | None) -> list[Body]:
    """Return the rules. What is closed for good is in none of them, whatever the profile says."""
    wanted = profile.spec.network
    found: list[Body] = [{"to": [peers.own(session)]}, *_names(network)]
    if session.spec.notebook and hub:
        found += _hub(session, network, hub)
    for server in servers.of_profile(profile.spec):
        found += _server(session, network, server)
    for destination in wanted.allow:
        found += _allowed(network, destination)
    if wanted.egress == "Open":
        found += _outside(network)
    # Origin and results are often one server.
    return [rule for index, rule in enumerate(found) if rule not in found[:index]]


def closed(network: ClusterNetwork) -> tuple[Network, ...]:
    """Return the addresses that no profile can open."""
    return *cidrs.METADATA, *network.cluster_cidrs


def _names(network: ClusterNetwork) -> Iterator[Body]:
    dns = network.dns
    yield {"to": [peers.pods(dns)], "ports": peers.ports(dns.ports, ("UDP", "TCP"))}
    if dns.addresses:
        to = [peers.addresses(Block(each)) for each in dns.addresses]
        yield {"to": to, "ports": peers.ports(DNS, ("UDP", "TCP"))}


def _hub(session: Session, network: ClusterNetwork, hub: HubView) -> Iterator[Body]:
    for server in servers.of_url("hub", hub.api_url):
        if network.hub and server.namespace == network.hub.namespace:
            yield {"to": [peers.pods(network.hub)], "ports": peers.ports([server.port])}
        else:
            yield from _server(session, network, server)


def _server(session: Session, network: ClusterNetwork, server: Server) -> Iterator[Body]:
    """Yield the way to a server at its one port; nothing where it has a name that no policy can say."""
    at = peers.ports([server.port])
    if server.namespace is not None:
        namespace = server.namespace or session.namespace
        yield from ({**rule, "ports": at} for rule in _pods(network, Pods(namespace=namespace)))
    elif server.address and (block := cidrs.left_of(server.address, cidrs.METADATA)):
        yield {"to": [peers.addresses(block)], "ports": at}


def _allowed(network: ClusterNetwork, destination: Destination) -> Iterator[Body]:
    at = {"ports": peers.ports(destination.ports)} if destination.ports else {}
    if destination.namespace:
        which = Pods(namespace=destination.namespace, pod_labels=destination.pod_labels)
        yield from (rule | at for rule in _pods(network, which))
    elif destination.cidr and (block := cidrs.left_of(cidrs.parse(destination.cidr), closed(network))):
        yield {"to": [peers.addresses(block)], **at}


def _pods(network: ClusterNetwork, which: Pods) -> Iterator[dict[str, Any]]:
    """Yield the way to pods that are nobody's session; none leads to the operators."""
    if which.namespace != network.operator.namespace:
        yield {"to": [peers.strangers(which)]}


def _outside(network: ClusterNetwork) -> Iterator[Body]:
    """Yield the way to everything that is neither the cluster's nor private."""
    blocks = (cidrs.left_of(each, (*closed(network), *cidrs.PRIVATE)) for each in cidrs.EVERYTHING)
    if to := [peers.addresses(block) for block in blocks if block]:
        yield {"to": to}
