"""What a profile is told of the network of its sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from af_operator import reach
from af_operator.capacity import Node
from af_operator.views import ClusterNetwork
from tests.support.networks import NETWORK
from tests.support.objects import profile

NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
CLOSED: dict[str, Any] = {"egress": "Closed"}
INSIDE = Node("n1", {}, {}, usable=True, addresses=("10.0.0.7", "fd00::7"))
OUTSIDE = Node("n2", {}, {}, usable=True, addresses=("10.0.0.8", "203.0.113.7", "2001:db8::7"))


def findings(network: dict[str, Any], *nodes: Node, cidrs: list[str] | None = None, **spec: Any) -> list[str]:
    told = NETWORK | ({"clusterCidrs": cidrs} if cidrs else {})
    given = {"xcache": None, "results": None, **spec}
    return reach.findings(profile(network=network, **given).spec, ClusterNetwork.model_validate(told), nodes)


def origin(host: str) -> dict[str, str]:
    return {"image": "xcache", "origin": host}


@pytest.mark.parametrize("network", [{}, CLOSED])
def test_nothing_is_wrong(network: dict[str, Any]) -> None:
    assert findings(network, INSIDE) == []
    assert findings(network, xcache=origin("origin.storage.svc:1094"), results={"url": "file:///x"}) == []
    assert findings(network, results={"url": "https://192.0.2.1/x"}) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"xcache": origin("eos.example.org")}, "xcache.origin eos.example.org:1094 is a name"),
        ({"results": {"url": "https://eos.example.org/x"}}, "results.url eos.example.org:443 is a name"),
        ({"results": {"url": "s3://bucket/af"}}, "results.url s3://bucket/af names no server"),
    ],
)
def test_a_closed_profile_lists_the_addresses_of_what_has_a_name(spec: dict[str, Any], words: str) -> None:
    [found] = findings(CLOSED, **spec)
    assert found.startswith(words)
    assert "network.allow" in found
    assert findings({}, **spec) == []
    assert findings(CLOSED | {"allow": [{"cidr": "192.0.2.0/24"}]}, **spec) == []
    assert findings(CLOSED | {"allow": [{"cidr": "192.0.2.0/24", "ports": [443, 1094]}]}, **spec) == []
    assert findings(CLOSED | {"allow": [{"namespace": "storage"}]}, **spec) == [found]


def test_another_port_is_no_way_to_a_server() -> None:
    allow = [{"cidr": "192.0.2.0/24", "ports": [80]}]
    assert len(findings(CLOSED | {"allow": allow}, xcache=origin("eos.example.org"))) == 1


@pytest.mark.parametrize(
    "cidr", ["10.4.0.0/16", "169.254.169.254/32", "fd00::/8", "::ffff:169.254.0.0/112", "168.63.129.16/32"]
)
def test_what_stays_closed_though_it_is_allowed(cidr: str) -> None:
    [found] = findings({"allow": [{"cidr": cidr}]})
    assert found.startswith(f"network.allow: {cidr} is the cluster's own")


def test_the_operators_stay_closed() -> None:
    assert findings({"allow": [{"namespace": "af-system"}]}) == [f"network.allow: af-system {reach.OPERATORS}"]
    assert findings({}, xcache=origin("hub.af-system.svc:8081")) == [
        f"xcache.origin hub.af-system.svc:8081 {reach.OPERATORS}"
    ]
    [found] = findings({}, results={"url": "http://169.254.169.254/latest"})
    assert "an address of metadata services" in found


def test_nodes_that_sessions_reach() -> None:
    [found] = findings({}, INSIDE, OUTSIDE)
    assert found.startswith("2 addresses of nodes, such as 2001:db8::7, are not in the chart's network.clusterCidrs")
    assert findings(CLOSED, INSIDE, OUTSIDE) == []
    assert len(findings(CLOSED | {"allow": [{"cidr": "203.0.113.0/24"}]}, OUTSIDE)) == 1
    # Private ones are closed to who is Open, but not where they are allowed.
    narrow = ["10.96.0.0/12", "203.0.113.0/24", "2001:db8::/32"]
    assert findings({}, OUTSIDE, cidrs=narrow) == []
    [found] = findings({"allow": [{"cidr": "10.0.0.0/16"}]}, OUTSIDE, cidrs=narrow)
    assert found.startswith("1 addresses of nodes, such as 10.0.0.8")


def test_the_condition_says_since_when() -> None:
    first = reach.condition(["a", "b"], [], NOW)
    assert (first["status"], first["reason"], first["message"]) == ("False", "Incomplete", "a; b")
    later = reach.condition(["a"], [first], NOW + timedelta(hours=1))
    assert later["lastTransitionTime"] == first["lastTransitionTime"] == "2026-01-01T10:10:00Z"
    good = reach.condition([], [later], NOW + timedelta(hours=1))
    assert (good["status"], good["lastTransitionTime"]) == ("True", "2026-01-01T11:10:00Z")
