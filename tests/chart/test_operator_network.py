"""What the chart tells the operator of the facility's network."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import settings
from af_operator.views import ClusterNetwork, Pods

from .conftest import DEFAULT, NAMESPACE, Objects, Render
from .test_objects import named

EXTERNAL = {
    "apiUrl": "http://hub.jupyterhub.svc.cluster.local:8081/hub/api",
    "account": "system:serviceaccount:jupyterhub:hub",
    "tokenSecret": {"name": "hub"},
}

pytestmark = pytest.mark.timeout(600)


def told(objects: Objects) -> ClusterNetwork | None:
    [container] = named(objects, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"] if e["name"] == "AF_OPERATOR_NETWORK"}
    return settings.load(env).network


def labels_of(objects: Objects, deployment: str) -> dict[str, str]:
    found: dict[str, str] = named(objects, "Deployment", deployment)["spec"]["template"]["metadata"]["labels"]
    return found


def external(**more: Any) -> dict[str, Any]:
    return {**DEFAULT, "hub": {"external": EXTERNAL | more}}


def test_by_itself(default: Objects) -> None:
    found = told(default)
    assert found is not None
    assert found.operator == Pods(namespace=NAMESPACE, pod_labels=labels_of(default, "af-operator"))
    assert (found.hub, found.proxy, found.metrics) == (None, None, None)
    assert found.dns.ports == (53,)
    assert {str(each) for each in found.cluster_cidrs} >= {"10.0.0.0/8", "fc00::/7"}


def test_the_pods_of_its_own_hub_are_found_by_their_labels(everything: Objects) -> None:
    found = told(everything)
    assert found is not None
    for who, pods in (("hub", found.hub), ("proxy", found.proxy)):
        assert pods is not None
        assert pods.namespace == NAMESPACE
        assert pods.pod_labels.items() <= labels_of(everything, who).items()


def test_a_hub_of_others_is_where_its_address_says_or_the_admin(render: Render) -> None:
    found = told(render(external()))
    assert found is not None
    assert found.hub == Pods(namespace="jupyterhub", pod_labels={"component": "hub"})
    assert found.proxy == Pods(namespace="jupyterhub", pod_labels={"component": "proxy"})
    elsewhere = told(render(external(apiUrl="https://hub.example.org/hub/api")))
    assert elsewhere is not None
    assert (elsewhere.hub, elsewhere.proxy) == (None, None)
    said = told(render(external(apiUrl="https://hub.example.org/hub/api", namespace="people", podLabels={"a": "b"})))
    assert said is not None
    assert said.hub == Pods(namespace="people", pod_labels={"a": "b"})


def test_what_an_admin_says(render: Render) -> None:
    network = {
        "clusterCidrs": ["10.42.0.0/16", "2001:db8::/48"],
        "dns": {"namespace": "dns", "podLabels": {"app": "dns"}, "ports": [5353], "addresses": ["169.254.20.10/32"]},
        "metrics": {"namespace": "monitoring"},
    }
    found = told(render({**DEFAULT, "network": network}))
    assert found is not None
    assert [str(each) for each in found.cluster_cidrs] == network["clusterCidrs"]
    assert found.metrics == Pods(namespace="monitoring")
    assert (found.dns.ports, [str(each) for each in found.dns.addresses]) == ((5353,), ["169.254.20.10/32"])


def test_policies_can_be_left_out(render: Render) -> None:
    assert told(render({**DEFAULT, "network": {"policies": False}})) is None


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "10.0.0.0/33", "10.0.0/8"])
def test_a_range_that_is_none_stops_the_operator_at_its_start(render: Render, wrong: str) -> None:
    """The schema of the values knows no numbers of addresses."""
    objects = render({**DEFAULT, "network": {"clusterCidrs": [wrong]}})
    with pytest.raises(SystemExit, match="AF_OPERATOR_NETWORK"):
        told(objects)
