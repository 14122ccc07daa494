"""The network namespace that holds the whole cluster, and the way into it from the host."""

import json
import subprocess
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

from local_cluster.errors import ClusterError
from local_cluster.settings import (
    CLUSTER,
    HOST_ADDRESS,
    LINK_CIDR,
    NODE_ADDRESS,
    POD_CIDR,
    SERVICE_CIDR,
    Paths,
)

# Interface names have at most 15 characters.
HOST_LINK = "af-local-host"
NODE_LINK = "af-local-node"
NAMESPACE_SYSCTLS = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")


def inside(argv: Sequence[str], paths: Paths) -> list[str]:
    """Return the command that runs ``argv`` in the cluster's network, and in nothing else of its own.

    Not ``ip netns exec``: that mounts a new /sys, and hides the cgroups from kubelet and runc.
    """
    return ["nsenter", f"--net={paths.network_namespace}", *argv]


def ip(*arguments: str) -> str:
    """Run ``ip``, return what it prints."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def create(paths: Paths) -> None:
    """Make namespace, link and routes; whatever was there of an earlier cluster must have been removed."""
    _refuse_conflicts()
    ip("netns", "add", CLUSTER)
    ip("link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", CLUSTER)
    ip("address", "add", f"{HOST_ADDRESS}/24", "dev", HOST_LINK)
    ip("link", "set", HOST_LINK, "up")
    ip("-n", CLUSTER, "address", "add", f"{NODE_ADDRESS}/24", "dev", NODE_LINK)
    ip("-n", CLUSTER, "link", "set", "lo", "up")
    ip("-n", CLUSTER, "link", "set", NODE_LINK, "up")
    # Nothing in the cluster can reach anything beyond this machine.
    ip("-n", CLUSTER, "route", "add", "blackhole", "default")
    # Without these a packet for a pod or a service takes the host's default route, out to the world.
    for cidr in (POD_CIDR, SERVICE_CIDR):
        ip("route", "add", cidr, "via", NODE_ADDRESS, "dev", HOST_LINK)
    for sysctl in NAMESPACE_SYSCTLS:
        subprocess.run(inside(["sh", "-c", f"echo 1 > /proc/sys/{sysctl}"], paths), check=True)


def _refuse_conflicts() -> None:
    ours = [ip_network(cidr) for cidr in (LINK_CIDR, POD_CIDR, SERVICE_CIDR)]
    for route in json.loads(ip("-json", "-4", "route", "show", "table", "main")):
        if route["dst"] == "default":
            continue
        for network in ours:
            if network.overlaps(ip_network(route["dst"])):
                raise ClusterError(
                    f"This machine already routes {route['dst']} (device {route.get('dev', 'none')}), which overlaps "
                    f"{network} of the local cluster. Remove that route, or use another machine."
                )


def leftovers(paths: Paths) -> list[str]:
    """Name what is there of the cluster's network."""
    found = []
    if paths.network_namespace.exists():
        found.append(f"network namespace {CLUSTER}")
    if Path("/sys/class/net", HOST_LINK).exists():
        found.append(f"link {HOST_LINK}")
    return found


def remove(paths: Paths) -> None:
    """Remove link and namespace; fine if there is none."""
    if Path("/sys/class/net", HOST_LINK).exists():
        # The routes and the other end go with it.
        ip("link", "delete", HOST_LINK)
    if paths.network_namespace.exists():
        ip("netns", "delete", CLUSTER)
