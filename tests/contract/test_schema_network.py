"""What a profile may say of its sessions' network, by the API server itself."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import cidrs
from tests.contract.conftest import Kubectl
from tests.contract.schema import Body, Server, load, merged

pytestmark = pytest.mark.cluster


def allow(*each: Body) -> Body:
    return {"allow": list(each)}


def created(server: Server, network: Body) -> Any:
    return server.create(merged(load("profile-minimal.yaml"), {"spec": {"network": network}}))


EITHER = "write either cidr or namespace"
WRONG: dict[str, tuple[Body, str]] = {
    "half open": ({"egress": "Half"}, 'supported values: "Open", "Closed"'),
    "unknown field": ({"ingress": "Open"}, 'unknown field "spec.network.ingress"'),
    "nothing": (allow({}), EITHER),
    "ports alone": (allow({"ports": [80]}), EITHER),
    "both": (allow({"cidr": "192.0.2.0/24", "namespace": "storage"}), EITHER),
    "an address without a prefix": (allow({"cidr": "192.0.2.1"}), "must be of type cidr"),
    "a host": (allow({"cidr": "eos.example.org"}), "must be of type cidr"),
    "a prefix too long": (allow({"cidr": "192.0.2.0/33"}), "must be of type cidr"),
    "a mask": (allow({"cidr": "192.0.2.0/255.255.255.0"}), "must be of type cidr"),
    "octal digits": (allow({"cidr": "010.0.0.0/8"}), "without leading zeros"),
    "octal digits at the end": (allow({"cidr": "10.0.0.08/32"}), "without leading zeros"),
    "octal digits behind colons": (allow({"cidr": "::ffff:012.0.0.0/104"}), "without leading zeros"),
    "a zone": (allow({"cidr": "fe80::1%eth0/64"}), "must be of type cidr"),
    "nowhere": (allow({"cidr": ""}), "must be of type cidr"),
    "a namespace in upper case": (allow({"namespace": "Storage"}), "write the name of a namespace"),
    "all namespaces": (allow({"namespace": "*"}), "write the name of a namespace"),
    "Kubernetes' own": (allow({"namespace": "kube-system"}), "no business with the cluster's own pods"),
    "labels of addresses": (
        allow({"cidr": "192.0.2.0/24", "podLabels": {"a": "b"}}),
        "podLabels choose pods of a namespace",
    ),
    "a label's key": (
        allow({"namespace": "a", "podLabels": {"a b": "c"}}),
        "a key of podLabels is the key of a pod's label",
    ),
    "port 0": (allow({"namespace": "a", "ports": [0]}), "greater than or equal to 1"),
    "port 65536": (allow({"namespace": "a", "ports": [65_536]}), "less than or equal to 65535"),
    "a port by name": (allow({"namespace": "a", "ports": ["https"]}), "must be of type integer"),
    "a port twice": (allow({"namespace": "a", "ports": [1, 1]}), "Duplicate value"),
    "33 of them": (allow(*({"namespace": f"a{i}"} for i in range(33))), "must have at most 32 items"),
    "33 ports": (allow({"namespace": "a", "ports": list(range(1, 34))}), "must have at most 32 items"),
}


@pytest.mark.parametrize(("network", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_network_is_refused(server: Server, network: Body, says: str) -> None:
    answer = created(server, network)
    assert answer.code in {400, 422}, answer.body
    assert says in answer.message


@pytest.mark.parametrize(
    "cidr",
    [
        "0.0.0.0/0",
        "::/0",
        "192.0.2.7/8",
        "2001:DB8::/32",
        "2001:0db8:0010::/48",
        "::ffff:10.0.0.0/104",
        "fe80::/10",
        "0.0.0.0/00",
        "64:ff9b::192.0.2.0/120",
    ],
)
def test_the_operator_reads_every_range_that_the_server_takes(server: Server, cidr: str) -> None:
    answer = created(server, allow({"cidr": cidr}))
    assert answer.code == 200, answer.message
    assert cidrs.parse(answer.body["spec"]["network"]["allow"][0]["cidr"])


def test_what_is_left_out(server: Server) -> None:
    assert created(server, {}).body["spec"]["network"] == {"egress": "Open"}
    [found] = created(server, allow({"namespace": "a"})).body["spec"]["network"]["allow"]
    assert found == {"namespace": "a"}


def test_kubectl_explains_it(server: Server, kubectl: Kubectl) -> None:
    told = kubectl("explain", "analysisprofile.spec.network", "--recursive=false")
    assert "nothing outside the" in told
    assert "xcache.origin" in " ".join(told.split())
    told = " ".join(kubectl("explain", "analysisprofile.spec.network.allow").split())
    assert "network.clusterCidrs" in told
    assert "Defaults to" in " ".join(kubectl("explain", "analysisprofile.spec.network.egress").split())
