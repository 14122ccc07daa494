"""Who the release's own pods talk to, and the Job that tries whether that holds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from af_operator import enforcement, names, network_probe

from .conftest import DEFAULT, EVERYTHING, Objects, Render, Values
from .test_objects import named

pytestmark = pytest.mark.timeout(600)

JOBS = {"af-operator-uninstall", "af-operator-network"}


def job(objects: Objects) -> dict[str, Any]:
    [found] = [
        o for o in objects if o["kind"] == "Job" and o["metadata"]["name"].startswith(f"{enforcement.CONFIG_MAP}-")
    ]
    return found


def labels_of_pods(objects: Objects) -> dict[str, dict[str, str]]:
    """Return the labels of what each Deployment and Job makes, by the pods' own name."""
    made = [o["spec"]["template"]["metadata"]["labels"] for o in objects if o["kind"] in ("Deployment", "Job")]
    return {labels["app.kubernetes.io/name"]: labels for labels in made}


def policies(objects: Objects) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}


def ports(rule: dict[str, Any]) -> set[int | str]:
    return {port["port"] for port in rule["ports"]}


def reaches(objects: Objects, name: str, peer: dict[str, Any]) -> set[int | str]:
    """Return the ports at which a policy lets its pods connect to this peer."""
    return {p for rule in policies(objects)[name]["egress"] for p in ports(rule) if peer in rule.get("to", ())}


def anywhere(objects: Objects, name: str) -> set[int | str]:
    """Return the ports at which a policy lets its pods connect to every address."""
    return {port for rule in policies(objects)[name]["egress"] for port in ports(rule) if "to" not in rule}


def session_pods(component: str = "") -> dict[str, Any]:
    label = {"matchLabels": {names.COMPONENT: component}} if component else {}
    chosen = {"key": names.SESSION_UID, "operator": "Exists"}
    return {"namespaceSelector": {}, "podSelector": {**label, "matchExpressions": [chosen]}}


def own_pods(name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": "af-operator"}
    return {"podSelector": {"matchLabels": labels}}


@pytest.mark.parametrize("values", ["default", "everything"])
def test_each_pod_of_the_release_has_a_policy_both_ways(values: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    pods = labels_of_pods(objects)
    assert pods.keys() > JOBS
    assert policies(objects).keys() == pods.keys()
    for name, spec in policies(objects).items():
        assert spec["podSelector"]["matchLabels"].items() <= pods[name].items()
        assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]


def test_nobody_connects_to_an_operator_but_whom_the_facility_names(everything: Objects, render: Render) -> None:
    for name in ("af-operator", "dask-operator", *JOBS):
        assert "ingress" not in policies(everything)[name]
    named_reader = {"network": {"metrics": {"namespace": "monitoring", "podLabels": {"app": "prometheus"}}}}
    [rule] = policies(render({**EVERYTHING, **named_reader}))["af-operator"]["ingress"]
    [container] = named(everything, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
    assert ports(rule) == {port["name"] for port in container["ports"]}
    assert rule["from"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
            "podSelector": {"matchLabels": {"app": "prometheus"}},
        }
    ]


def test_what_the_operators_connect_to(everything: Objects) -> None:
    agents = {names.DASK_DASHBOARD_PORT, names.SPARK_AGENT_PORT}
    assert reaches(everything, "af-operator", session_pods()) == agents
    assert reaches(everything, "af-operator", own_pods("hub")) == {8081}
    schedulers = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"dask.org/component": "scheduler"}}}
    scheduler_ports = {names.DASK_SCHEDULER_PORT, names.DASK_DASHBOARD_PORT}
    assert reaches(everything, "dask-operator", schedulers) == scheduler_ports
    for name in ("af-operator", "dask-operator", *JOBS):
        assert anywhere(everything, name) == {443, 6443}


def test_what_the_hub_and_its_proxy_connect_to(everything: Objects) -> None:
    for name in ("hub", "proxy"):
        assert reaches(everything, name, session_pods("notebook")) == {names.NOTEBOOK_PORT}
    assert reaches(everything, "hub", own_pods("proxy")) == {8001}
    assert reaches(everything, "proxy", own_pods("hub")) == {8081}
    assert anywhere(everything, "hub") == {443, 6443}
    assert anywhere(everything, "proxy") == set()


def test_the_ports_of_own_pods_are_those_at_which_they_listen(everything: Objects) -> None:
    for name, wanted in {"hub": 8081, "proxy": 8001}.items():
        [container] = named(everything, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert wanted in {port["containerPort"] for port in container["ports"]}


def test_an_api_server_with_an_address_is_the_only_one(render: Render) -> None:
    objects = render({**EVERYTHING, "network": {"apiServer": {"ports": [8443], "cidrs": ["192.0.2.7/32"]}}})
    for name in ("af-operator", "dask-operator", *JOBS):
        assert anywhere(objects, name) == set()
        assert reaches(objects, name, {"ipBlock": {"cidr": "192.0.2.7/32"}}) == {8443}
    assert anywhere(objects, "hub") == {443}


def test_a_name_server_with_an_address_is_asked_at_its_own_port(render: Render) -> None:
    """The ports that an admin says are those of the pods behind the Service; NodeLocal DNSCache listens at 53."""
    dns = {"namespace": "dns", "podLabels": {"app": "dns"}, "ports": [5353], "addresses": ["169.254.20.10/32"]}
    objects = render({**EVERYTHING, "network": {"dns": dns}})
    pods = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dns"}}}
    for name in policies(objects):
        assert reaches(objects, name, pods | {"podSelector": {"matchLabels": {"app": "dns"}}}) == {5353}
        assert reaches(objects, name, {"ipBlock": {"cidr": "169.254.20.10/32"}}) == {53}


def test_more_may_be_let_through(render: Render) -> None:
    ldap = {"ports": [{"port": 636, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    hub = {**EVERYTHING["hub"], "egress": [ldap], "proxy": {"egress": [ldap]}}
    objects = render({**EVERYTHING, "hub": hub})
    assert all(ldap in policies(objects)[name]["egress"] for name in ("hub", "proxy"))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [("http://hub.z2jh.svc:8000/hub/api", 8000), ("https://hub.example.org/api", 443), ("http://hub.z2jh.svc/api", 80)],
)
def test_a_hub_of_others_is_reached_at_its_port(render: Render, url: str, wanted: int) -> None:
    external = {"apiUrl": url, "account": "hub", "tokenSecret": {"name": "token"}}
    objects = render({**DEFAULT, "hub": {"external": external}})
    assert wanted in anywhere(objects, "af-operator")


def test_all_policies_go_with_one_value(render: Render) -> None:
    assert policies(render({**EVERYTHING, "network": {"policies": False}})) == {}


# --- the Job that tries it ------------------------------------------------------------------------------------------


def rights(objects: Objects, role: str) -> set[tuple[str, str, tuple[str, ...]]]:
    """Return (verb, resource, names) of a Role."""
    return {
        (verb, resource, tuple(rule.get("resourceNames", ())))
        for rule in named(objects, "Role", role)["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_probe_deletes_and_writes_by_name_alone(default: Objects) -> None:
    pair = (network_probe.OPEN, network_probe.CLOSED)
    assert rights(default, "af-operator-network") == {
        *((verb, "pods", ()) for verb in ("create", "get", "list", "watch")),
        ("delete", "pods", pair),
        ("create", "networkpolicies", ()),
        ("delete", "networkpolicies", (network_probe.CLOSED,)),
        ("patch", "configmaps", (enforcement.CONFIG_MAP,)),
    }
    assert rights(default, "af-operator-network-reader") == {("get", "configmaps", (enforcement.CONFIG_MAP,))}
    bound = {
        o["metadata"]["name"]: (o["roleRef"]["name"], o["subjects"][0]["name"])
        for o in default
        if o["kind"] == "RoleBinding" and "network" in o["metadata"]["name"]
    }
    assert bound == {
        "af-operator-network": ("af-operator-network", "af-operator-network"),
        "af-operator-network-reader": ("af-operator-network-reader", "af-operator"),
    }


def test_the_finding_outlives_an_upgrade(default: Objects) -> None:
    """helm changes what a manifest says and leaves the rest: with data in it each upgrade would empty it."""
    assert "data" not in named(default, "ConfigMap", enforcement.CONFIG_MAP)


def test_the_probe_is_bounded_and_no_release_waits_for_it(default: Objects) -> None:
    probe = job(default)
    assert not any("helm.sh/hook" in key for key in probe["metadata"].get("annotations", {}))
    longest = 3 * network_probe.START_SECONDS + network_probe.POLICY_SECONDS
    assert longest < probe["spec"]["activeDeadlineSeconds"] <= network_probe.POD_SECONDS
    [container] = probe["spec"]["template"]["spec"]["containers"]
    assert container["command"][-1] == network_probe.__name__


def test_the_probe_takes_the_arguments_that_the_chart_gives(default: Objects) -> None:
    [container] = job(default)["spec"]["template"]["spec"]["containers"]
    given = {argument.partition("=")[0].removeprefix("--").replace("-", "_") for argument in container["args"]}
    assert given == set(network_probe.Place.__dataclass_fields__)
    used = {name for argument in container["args"] for name in re.findall(r"\$\((\w+)\)", argument)}
    assert used == {variable["name"] for variable in container["env"]}


@pytest.mark.parametrize(
    "change",
    [
        {"image": {"operator": "registry.example.org/af-operator@sha256:4567"}},
        {"operator": {"nodeSelector": {"a": "b"}}},
    ],
)
def test_a_job_that_would_change_is_another_one(change: Values, default: Objects, render: Render) -> None:
    """The API server lets nobody change a Job's pods; where nothing changes it stays as it is."""
    assert job(render(DEFAULT))["metadata"]["name"] == job(default)["metadata"]["name"]
    assert job(render({**DEFAULT, **change}))["metadata"]["name"] != job(default)["metadata"]["name"]


def test_the_probe_can_be_left_out(render: Render) -> None:
    objects = render({**DEFAULT, "network": {"probe": False}})
    assert not [o for o in objects if enforcement.CONFIG_MAP in o["metadata"]["name"]]
