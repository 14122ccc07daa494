"""The network namespace that holds the whole cluster, and the way into it from the host."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

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
RANGES = (LINK_CIDR, POD_CIDR, SERVICE_CIDR)
MODULES = ("br_netfilter", "overlay")
ENFORCER_CHAIN = "KUBE-ROUTER-FORWARD"
ENFORCER_ACCEPTS = "--mark 0x20000/0x20000"
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
    # Built into some kernels, which then have nothing to load: what counts is whether the switches below are there.
    subprocess.run(["modprobe", "--all", "--quiet", *MODULES], capture_output=True, check=False)
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
        _enable(sysctl, paths)


def _enable(sysctl: str, paths: Paths) -> None:
    done = subprocess.run(inside(["sh", "-c", f"echo 1 > /proc/sys/{sysctl}"], paths), capture_output=True, check=False)
    if done.returncode:
        raise ClusterError(f"The kernel has no {sysctl}: it needs the modules {' and '.join(MODULES)}.")


def enforces(paths: Paths) -> bool:
    """Say whether NetworkPolicies hold: kube-router's first pass puts this rule behind those of the pods."""
    argv = ["iptables", "--wait", "--list-rules", ENFORCER_CHAIN]
    done = subprocess.run(inside(argv, paths), capture_output=True, text=True, check=False)
    return done.returncode == 0 and f"{ENFORCER_ACCEPTS} -j ACCEPT" in done.stdout


def _refuse_conflicts() -> None:
    if taken := conflict(json.loads(ip("-json", "-4", "route", "show", "table", "main"))):
        raise ClusterError(
            f"This machine routes {taken}, which the local cluster needs for itself ({', '.join(RANGES)}). "
            "Remove that route, or use another machine."
        )


def conflict(routes: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the first destination of ``ip -json route`` that our routes would fight with.

    A wider one, such as a VPN's 10.0.0.0/8, does not: the kernel prefers the more specific.
    """
    ours = [IPv4Network(cidr) for cidr in RANGES]
    for route in routes:
        if route["dst"] == "default":
            continue
        theirs = IPv4Network(route["dst"])
        if any(theirs.subnet_of(network) for network in ours):
            return str(route["dst"])
    return None


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
