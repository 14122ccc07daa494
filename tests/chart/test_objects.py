"""What the chart makes is what an API server takes, and what a hardened cluster lets run."""

import copy
from collections import Counter
from typing import Any

import kubernetes_validate
import pytest

from tests.support.chart import CHART

from .conftest import DEFAULT, EVERYTHING, NAMESPACE, Objects

OLDEST = "1.34"
NEWEST = kubernetes_validate.latest_version()
# Not Kubernetes' own, so kubernetes-validate has no schema of it.
FOREIGN = {"ServiceMonitor"}
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "projected", "secret", "downwardAPI", "persistentVolumeClaim"}

pytestmark = pytest.mark.timeout(600)  # the first test may build helm


def named(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    [found] = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def pods(objects: Objects, *kinds: str) -> list[dict[str, Any]]:
    return [o["spec"]["template"]["spec"] for o in objects if o["kind"] in (kinds or ("Deployment",))]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", ["default", "everything"])
def test_strict_schema(values: str, version: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    judged = [o for o in objects if o["kind"] not in FOREIGN]
    assert len(judged) >= len(objects) - 1
    for found in judged:
        kubernetes_validate.validate(found, version, strict=True)


def test_the_judge_is_strict(default: Objects) -> None:
    wrong = copy.deepcopy(named(default, "Deployment", "af-operator"))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


@pytest.mark.parametrize("values", ["default", "everything"])
def test_each_container_says_all_that_a_quota_asks_for(values: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    specs = [o["spec"]["template"]["spec"] for o in objects if o["kind"] in {"Deployment", "Job", "StatefulSet"}]
    containers = [c for spec in specs for c in (*spec["containers"], *spec.get("initContainers", ()))]
    assert len(containers) >= len(specs) > 1
    for container in containers:
        for part in ("requests", "limits"):
            assert container["resources"][part].keys() == {"cpu", "memory", "ephemeral-storage"}, container["name"]
    volumes = [volume for spec in specs for volume in spec.get("volumes", ()) if "emptyDir" in volume]
    assert all("sizeLimit" in volume["emptyDir"] for volume in volumes)


@pytest.mark.parametrize("values", ["default", "everything"])
def test_names_are_unique_and_placed(values: str, request: pytest.FixtureRequest) -> None:
    objects: Objects = request.getfixturevalue(values)
    keys = Counter((o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects)
    assert [k for k, n in keys.items() if n > 1] == []
    cluster_scoped = (
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    )
    for found in objects:
        assert ("namespace" not in found["metadata"]) == (found["kind"] in cluster_scoped), found["metadata"]["name"]


@pytest.mark.parametrize("values", ["default", "everything"])
def test_pods_pass_restricted_pod_security(values: str, request: pytest.FixtureRequest) -> None:
    found = pods(request.getfixturevalue(values), "Deployment", "Job")
    assert len(found) == {"default": 3, "everything": 6}[values]
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] != 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()
        assert all(set(v) - {"name"} <= RESTRICTED_VOLUMES for v in pod.get("volumes", []))
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_both_operators_run_from_the_one_image(with_dask: Objects) -> None:
    images = {c["image"] for pod in pods(with_dask) for c in pod["containers"]}
    assert images == {DEFAULT["image"]["operator"]}


def test_each_account_is_there_and_used_once(default: Objects, with_dask: Objects) -> None:
    def accounts(objects: Objects) -> list[str]:
        found = [o["metadata"]["name"] for o in objects if o["kind"] == "ServiceAccount"]
        # The Job before an uninstall has the operator's.
        used = [pod["serviceAccountName"] for pod in pods(objects, "Deployment", "Job")]
        assert sorted([*found, "af-operator"]) == sorted(used)
        return found

    assert sorted(accounts(default)) == ["af-operator", "af-operator-network"]
    assert sorted(accounts(with_dask)) == ["af-operator", "af-operator-network", "dask-operator"]


def test_settings_of_the_operator(default: Objects, everything: Objects) -> None:
    [container] = named(everything, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env["AF_OPERATOR_WATCH_NAMESPACES"] == "physics,detector"
    assert env["AF_OPERATOR_LOG_LEVEL"] == "debug"
    assert env["AF_OPERATOR_LOG_FORMAT"] == "console"
    assert env["AF_OPERATOR_WORKERS"] == "20"
    [container] = named(default, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
    assert {"name": "AF_OPERATOR_WATCH_NAMESPACES", "value": ""} in container["env"]


def test_the_operator_takes_the_settings_that_the_chart_gives(default: Objects, everything: Objects) -> None:
    settings = pytest.importorskip("af_operator.settings")
    for objects in (default, everything):
        [container] = named(objects, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
        env = {e["name"]: e.get("value", "from-a-field") for e in container["env"]}
        loaded = settings.load(env)
        assert loaded.port == container["ports"][0]["containerPort"]


def test_lease_name_is_the_one_the_role_allows(default: Objects) -> None:
    [container] = named(default, "Deployment", "af-operator")["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    rules = named(default, "Role", "af-operator-lease")["rules"]
    assert {name for rule in rules for name in rule.get("resourceNames", [])} == {env["AF_OPERATOR_LEASE_NAME"]}


def test_dask_operator_serves_the_same_namespaces(with_dask: Objects, everything: Objects) -> None:
    [container] = named(with_dask, "Deployment", "dask-operator")["spec"]["template"]["spec"]["containers"]
    assert "--all-namespaces" in container["args"]
    [container] = named(everything, "Deployment", "dask-operator")["spec"]["template"]["spec"]["containers"]
    assert "--all-namespaces" not in container["args"]
    assert [a for a in container["args"] if "namespace=" in a] == ["--namespace=physics", "--namespace=detector"]


def test_never_two_dask_operators(with_dask: Objects) -> None:
    spec = named(with_dask, "Deployment", "dask-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_no_dask_operator_unless_it_is_asked_for(default: Objects, with_dask: Objects) -> None:
    def of_dask(objects: Objects) -> set[str]:
        return {o["kind"] for o in objects if "dask" in o["metadata"]["name"]}

    assert of_dask(default) == set()
    assert {"Deployment", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"} <= of_dask(with_dask)


def test_disruption_budget_only_for_more_than_one(default: Objects, everything: Objects) -> None:
    assert "PodDisruptionBudget" not in {o["kind"] for o in default}
    selector = named(everything, "PodDisruptionBudget", "af-operator")["spec"]["selector"]
    assert selector == named(everything, "Deployment", "af-operator")["spec"]["selector"]


def test_metrics_are_found(default: Objects, everything: Objects) -> None:
    assert "ServiceMonitor" not in {o["kind"] for o in default}
    service = named(default, "Service", "af-operator-metrics")
    template = named(default, "Deployment", "af-operator")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    monitor = named(everything, "ServiceMonitor", "af-operator")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= named(everything, "Service", "af-operator-metrics")["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}


def test_placement_reaches_the_pods(everything: Objects) -> None:
    pod = named(everything, "Deployment", "af-operator")["spec"]["template"]["spec"]
    for key in ("priorityClassName", "nodeSelector", "tolerations", "affinity"):
        assert pod[key] == EVERYTHING["operator"][key]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["topologySpreadConstraints"]


def test_everything_is_in_the_release_namespace(default: Objects) -> None:
    assert {o["metadata"]["namespace"] for o in default if "namespace" in o["metadata"]} == {NAMESPACE}


def test_definitions_come_with_the_chart() -> None:
    definitions = {path.name for path in (CHART / "crds").glob("*.yaml")}
    assert any("analysissession" in name for name in definitions), definitions
    assert any("analysisprofile" in name for name in definitions), definitions
