import os
import subprocess

import pytest

from local_cluster import network
from local_cluster.settings import Paths


@pytest.mark.parametrize(
    ("destinations", "taken"),
    [
        ([], None),
        (["default", "192.168.1.0/24", "172.17.0.0/16"], None),
        (["10.0.0.0/8"], None),
        (["default", "10.200.0.0/24"], "10.200.0.0/24"),
        (["10.0.0.0/8", "10.244.3.0/24"], "10.244.3.0/24"),
        (["10.96.0.1"], "10.96.0.1"),
    ],
)
def test_only_routes_that_fight_with_ours_are_refused(destinations: list[str], taken: str | None) -> None:
    assert network.conflict({"dst": destination, "dev": "eth0"} for destination in destinations) == taken


def test_the_way_in_keeps_the_mounts_of_the_host() -> None:
    assert network.inside(["true"], Paths())[:2] == ["nsenter", "--net=/run/netns/af-local"]


def test_names_of_links_fit_the_kernel() -> None:
    assert all(len(name) <= 15 for name in (network.HOST_LINK, network.NODE_LINK))


CHAIN = "iptables -N KUBE-ROUTER-FORWARD"
ACCEPT = "iptables -A KUBE-ROUTER-FORWARD -m comment --comment x -m mark --mark 0x20000/0x20000 -j ACCEPT"


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
@pytest.mark.parametrize(
    ("rules", "enforces"), [(":", False), (CHAIN, False), (f"{CHAIN} && {ACCEPT}", True)], ids=["none", "begun", "all"]
)
def test_policies_hold_once_the_first_pass_is_through(
    rules: str, enforces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ["unshare", "--net", "sh", "-c", f'{rules} && exec "$@"', "sh"]
    monkeypatch.setattr(network, "inside", lambda argv, _: [*alone, *argv])
    assert network.enforces(Paths()) is enforces


def test_this_machine_has_the_tool_whose_output_is_read() -> None:
    assert subprocess.run(["ip", "-json", "-4", "route"], capture_output=True, check=True).stdout.strip()[:1] in (
        b"[",
        b"",
    )
