"""What the operator's account may say in a NetworkPolicy: what a session needs, and nothing that opens it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from rich.console import Console

from af_operator import cidrs
from local_cluster.control_plane import ControlPlane, control_plane
from local_cluster.progress import Progress
from tests.contract.test_operator_objects import GOLDEN, changed, golden
from tests.support.bounded import LABEL, SYSTEM, TENANT, UID, Account, Body, Bounded, bounded, tenant
from tests.support.chart import CHART

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
# What the network of the golden cases is, to the chart.
VALUES: Body = {
    "image": {"operator": "x", "hub": "x"},
    "network": {
        "clusterCidrs": ["10.5.0.0/16", "10.96.0.0/12", "fd00:10::/48"],
        "dns": {"addresses": ["FD00:20:0::10/128"]},
    },
    "hub": {"enabled": True, "existingSecret": "x"},
}
OF_NETWORKS = sorted(path.parent.name for path in GOLDEN.glob("*/network.yaml"))
POLICY = "af-operator-own-network"
SELECTED = "choose the pods of the session that owns them"
LET_IN = "lets into a session only its own pods"
NAMED = "lets sessions connect only to their own pods, namespaces by their names, and addresses"
NO_OTHERS = "lets no session connect to other sessions, the operators, or Kubernetes' own pods but for DNS"
NO_METADATA = "lets no session connect to metadata services"
NOT_INSIDE = "lets sessions connect to none of network.clusterCidrs"
OWN = {"podSelector": {"matchLabels": {LABEL: UID}}}
NO_SESSION = {"matchExpressions": [{"key": LABEL, "operator": "DoesNotExist"}]}
HTTPS = [{"port": 443, "protocol": "TCP"}]


def namespace(name: str, **selector: Any) -> Body:
    chosen = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    return chosen | ({"podSelector": selector} if selector else {})


def block(cidr: str, *without: str) -> Body:
    return {"ipBlock": {"cidr": cidr, **({"except": list(without)} if without else {})}}


def policy(**spec: Any) -> Body:
    """Return a session's policy that says nothing, or what is given of its spec."""
    [found] = [copy.deepcopy(b) for b in golden("network-suspended") if b["kind"] == "NetworkPolicy"]
    return changed(found, ("spec", {"podSelector": OWN["podSelector"], "policyTypes": ["Ingress", "Egress"], **spec}))


def egress(*to: Body, **more: Any) -> Body:
    return policy(egress=[{"to": list(to), **more}])


def ingress(*peers: Body, **more: Any) -> Body:
    return policy(ingress=[{"from": list(peers), **more}])


@pytest.fixture(scope="module")
def control() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True))) as found:
        yield found


@pytest.fixture(scope="module")
def plane(control: ControlPlane) -> Iterator[Bounded]:
    with bounded(control, VALUES) as found:
        yield found


FINE = {
    "nothing": policy(),
    "itself": policy(ingress=[{"from": [OWN]}], egress=[{"to": [OWN]}]),
    "the operator at a port": ingress(namespace(SYSTEM), ports=HTTPS),
    "a cache of names": egress(block("fd00:20::10/128"), ports=[{"port": 53, "protocol": "UDP"}]),
    "DNS": egress(namespace("kube-system"), ports=[{"port": 53, "protocol": "UDP"}]),
    "storage": egress(namespace("storage", **NO_SESSION)),
    "an address": egress(block("192.0.2.0/24")),
    "one port of one address inside": egress(block("10.5.0.7/32"), ports=HTTPS),
    "one port of one such address": egress(block("fd00:10::7/128"), ports=HTTPS),
    "around the cluster": egress(block("10.4.0.0/15", "10.5.0.0/16")),
}
WRONG = {
    "some of its pods": (changed(policy(), ("spec/podSelector/matchLabels/app", "x")), SELECTED),
    "pods by an expression": (
        changed(policy(), ("spec/podSelector/matchExpressions", [{"key": "x", "operator": "Exists"}])),
        SELECTED,
    ),
    "one direction": (changed(policy(), ("spec/policyTypes", ["Ingress"])), SELECTED),
    "from everywhere": (policy(ingress=[{}]), LET_IN),
    "from everywhere to a port": (policy(ingress=[{"ports": HTTPS}]), LET_IN),
    "from another session": (ingress({"podSelector": {"matchLabels": {LABEL: "1-2-3"}}}), LET_IN),
    "from the whole namespace": (ingress({"podSelector": {}}), LET_IN),
    "from all namespaces": (ingress({"namespaceSelector": {}}, ports=HTTPS), LET_IN),
    "from another namespace": (ingress(namespace("physics"), ports=HTTPS), LET_IN),
    "from the operator to all ports": (ingress(namespace(SYSTEM)), LET_IN),
    "from the operator to a range of ports": (
        ingress(namespace(SYSTEM), ports=[{"port": 1, "endPort": 9, "protocol": "TCP"}]),
        LET_IN,
    ),
    "from an address": (ingress(block("192.0.2.1/32"), ports=HTTPS), LET_IN),
    "beside itself, a stranger": (ingress(OWN, {"podSelector": {}}, ports=HTTPS), LET_IN),
    "to everything": (policy(egress=[{}]), NAMED),
    "to everything at a port": (policy(egress=[{"ports": HTTPS}]), NAMED),
    "to all namespaces": (egress({"namespaceSelector": {}}), NAMED),
    "to another session": (egress({"podSelector": {"matchLabels": {LABEL: "1-2-3"}}}), NAMED),
    "to a namespace with its sessions": (egress(namespace("physics")), NO_OTHERS),
    "to a namespace, sessions chosen": (egress(namespace("physics", matchLabels={LABEL: "1-2-3"})), NO_OTHERS),
    "to the operators": (egress(namespace(SYSTEM, **NO_SESSION), ports=HTTPS), NO_OTHERS),
    "to Kubernetes' own pods": (egress(namespace("kube-system"), ports=HTTPS), NO_OTHERS),
    "to all ports of DNS": (egress(namespace("kube-system", **NO_SESSION)), NO_OTHERS),
    "to the whole world": (egress(block("0.0.0.0/0")), NO_METADATA),
    "to the metadata service": (egress(block("169.254.169.254/32"), ports=HTTPS), NO_METADATA),
    "around half of it": (egress(block("168.0.0.0/7", "169.254.128.0/17", "168.63.129.16/32")), NO_METADATA),
    "to Azure's wire server": (egress(block("168.63.129.16/32"), ports=HTTPS), NO_METADATA),
    "to links": (egress(block("fe80::1/128"), ports=HTTPS), NO_METADATA),
    "to the world of IPv6": (egress(block("::/0", "fe80::/10")), NO_METADATA),
    "to the cluster": (egress(block("10.5.7.0/24"), ports=HTTPS), NOT_INSIDE),
    "to all ports of an address inside": (egress(block("10.5.7.1/32")), NOT_INSIDE),
    "to a range with the cluster in it": (egress(block("10.4.0.0/15")), NOT_INSIDE),
    "around the half of it": (egress(block("10.4.0.0/15", "10.5.128.0/17")), NOT_INSIDE),
    "to the cluster by IPv6": (egress(block("fd00::/16", "fd00:ec2::254/128")), NOT_INSIDE),
    "beside what is fine": (policy(egress=[{"to": [OWN]}, {"to": [block("10.5.0.0/16")]}]), NOT_INSIDE),
}


def facts(case: str) -> Body:
    """Return what of a golden case's network the chart is told."""
    told: Body = yaml.safe_load((GOLDEN / case / "network.yaml").read_text())
    values: Body = {"network": {"clusterCidrs": told["clusterCidrs"], "dns": told["dns"]}}
    if "metrics" in told:
        values["network"]["metrics"] = told["metrics"]
    if "hub" in told and told["hub"]["namespace"] == SYSTEM:
        values |= {"image": VALUES["image"], "hub": VALUES["hub"]}
    elif "hub" in told:
        url = f"http://hub.{told['hub']['namespace']}.svc:8081/hub/api"
        values["hub"] = {"external": {"apiUrl": url, "tokenSecret": {"name": "x"}, "account": "x"}}
    return values


@pytest.mark.parametrize("case", OF_NETWORKS)
def test_what_the_golden_cases_have(control: ControlPlane, case: str) -> None:
    """By a release that was told of this network; its account makes the very objects, but for where the operator is."""
    [body] = [b for b in golden(case) if b["kind"] == "NetworkPolicy"]
    system = f"af-{case}"
    moved = json.loads(json.dumps(body).replace(f'"{SYSTEM}"', f'"{system}"'))
    with bounded(control, facts(case), system) as found:
        assert found.operator.create(moved, keep=True) == ""
        assert found.operator.delete(moved) == ""


@pytest.mark.parametrize("body", FINE.values(), ids=FINE)
def test_what_a_session_needs(plane: Bounded, body: Body) -> None:
    assert plane.operator.create(body) == ""


@pytest.mark.parametrize(("body", "said"), WRONG.values(), ids=WRONG)
def test_nothing_that_opens_a_session(plane: Bounded, body: Body, said: str) -> None:
    """Kubernetes itself would take each."""
    assert plane.admin.create(body) == ""
    answer = plane.operator.create(body)
    assert POLICY in answer
    assert said in answer


@pytest.mark.parametrize("selector", [{}, {"matchLabels": {LABEL: "1-2-3"}}])
def test_of_no_other_session(plane: Bounded, selector: Body) -> None:
    """Which of two policies answers nobody knows: both refuse what chooses all pods."""
    answer = plane.operator.create(changed(policy(), ("spec/podSelector", selector)))
    assert "selects no pods but those of the session that owns the object" in answer or SELECTED in answer


def test_no_change_opens_one(plane: Bounded) -> None:
    assert plane.operator.create(policy(), keep=True) == ""
    assert LET_IN in plane.operator.change(changed(policy(ingress=[{}])))
    assert plane.operator.change(policy(egress=[{"to": [OWN]}])) == ""
    assert plane.operator.delete(policy()) == ""


@pytest.fixture(scope="module")
def editor(control: ControlPlane, plane: Bounded) -> Iterator[Account]:
    """Somebody with all rights in the tenant's namespace, as Kubernetes' own role `admin` has."""
    everything = [{"apiGroups": ["", "networking.k8s.io"], "resources": ["*"], "verbs": ["*"]}]
    with tenant(control, plane.admin, "editor", everything) as found:
        yield found


def test_who_may_edit_a_namespace_leaves_the_policies_of_sessions_alone(plane: Bounded, editor: Account) -> None:
    said = "closes an AnalysisSession: only the operator changes it"
    named = changed(policy(), ("metadata/name", "kept"))
    assert plane.operator.create(named, keep=True) == ""
    assert said in editor.change(changed(named, ("spec/policyTypes", ["Ingress"])))
    assert said in editor.delete(named)
    # Without its label it would be nobody's, and open to all.
    unmarked = {"metadata": {"name": "kept", "namespace": TENANT, "labels": {LABEL: None}}}
    assert editor.change({"apiVersion": named["apiVersion"], "kind": named["kind"], **unmarked}) != ""
    own = changed(policy(), ("metadata", {"name": "own", "namespace": TENANT}))
    assert editor.create(own, keep=True) == editor.change(changed(own, ("spec/policyTypes", ["Egress"]))) == ""
    assert editor.delete(own) == ""
    assert plane.admin.change(changed(named, ("metadata/annotations", {"x": "y"}))) == ""
    assert plane.admin.delete(named) == ""


def test_the_chart_closes_what_the_operator_closes() -> None:
    text = (CHART / "templates" / "admission" / "operator-network.yaml").read_text()
    [listed] = re.findall(r"^      \['(169[^]]*)'\]", text, re.MULTILINE)
    assert set(yaml.safe_load(f"['{listed}']")) == {str(each) for each in cidrs.METADATA}
