"""What every pod of every case has, under both engines of Dask: all that a quota may ask for, and a place."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from af_operator.components._shared.pod_spec import parse_quantity
from tests.golden.test_golden import CASES, load, planned, pod_specs

Body = dict[str, Any]
CHECKOUT = Path(__file__).parents[2]
SOURCES = {".py", ".yaml", ".tpl", ".txt", ".cfg", ".cc", ".sh", ".json", ""}
QUOTA = ("cpu", "memory", "ephemeral-storage")
"""A quota has requests and limits of each, and refuses a pod of which one container does not say one."""
EVERYWHERE = [(case, engine) for case in CASES for engine in ("Native", "DaskKubernetes")]


def running(case: str, engine: str) -> Iterator[Body]:
    """Yield the pod specs of what is to run: what is stopped keeps the template that it was begun with."""
    for body in planned(case, engine):
        if body.get("spec", {}).get("replicas") != 0:
            yield from pod_specs(body)


def containers(pod: Body) -> list[Body]:
    return [*pod["containers"], *pod.get("initContainers", ())]


@pytest.mark.parametrize(("case", "engine"), EVERYWHERE)
def test_each_container_says_all_that_a_quota_asks_for(case: str, engine: str) -> None:
    for container in (c for pod in running(case, engine) for c in containers(pod)):
        asked, limits = container["resources"]["requests"], container["resources"]["limits"]
        for name in QUOTA:
            assert 0 < parse_quantity(asked[name]) <= parse_quantity(limits[name]), (container["name"], name)


@pytest.mark.parametrize(("case", "engine"), EVERYWHERE)
def test_each_volume_of_the_node_has_a_size_that_its_pod_may_have(case: str, engine: str) -> None:
    for pod in running(case, engine):
        sizes = {v["name"]: v["emptyDir"] for v in pod.get("volumes", ()) if "emptyDir" in v}
        disk = sum(parse_quantity(c["resources"]["limits"]["ephemeral-storage"]) for c in containers(pod))
        memory = sum(parse_quantity(c["resources"]["limits"]["memory"]) for c in containers(pod))
        for volume in sizes.values():
            assert 0 < parse_quantity(volume["sizeLimit"]) <= (memory if volume.get("medium") == "Memory" else disk)


@pytest.mark.parametrize("engine", ["Native", "DaskKubernetes"])
@pytest.mark.parametrize("case", ["placed", "placed-notebook"])
def test_each_pod_has_what_the_profile_says_of_all(case: str, engine: str) -> None:
    secrets = [{"name": name} for name in load(case, "profile.yaml")["spec"]["imagePullSecrets"]]
    pods = list(running(case, engine))
    assert len(pods) > 3
    for pod in pods:
        assert pod["imagePullSecrets"] == secrets
        assert pod["priorityClassName"] == "analysis"
        assert pod["nodeSelector"]


@pytest.mark.parametrize(("case", "engine"), EVERYWHERE)
def test_what_asks_for_no_gpu_keeps_off_nodes_with_gpus(case: str, engine: str) -> None:
    """Each closed node pool of the cases has one label: a pod must not want it, and must want nodes without it.

    What nobody has placed wants them first.
    """
    pools = planned_pools(case)
    for pod in running(case, engine):
        has_gpus = any("nvidia.com/gpu" in c["resources"]["limits"] for c in pod["containers"])
        for label in (item for pool in pools if closed(pool) for item in pool.get("nodeSelector", {}).items()):
            assert (label in pod.get("nodeSelector", {}).items()) == has_gpus
            placed = bool(pod.get("nodeSelector"))
            assert has_gpus or label in kept_off(pod, "required" if placed else "preferred") or elsewhere(pod, label)


def planned_pools(case: str) -> list[Body]:
    common: Body = load("", "profile.yaml")
    found: list[Body] = load(case, "profile.yaml", common)["spec"].get("nodePools", [])
    return found


def closed(pool: Body) -> bool:
    return "gpuResource" in pool and not pool.get("cpuWorkers")


def elsewhere(pod: Body, label: tuple[str, str]) -> bool:
    """A node has one value of a label: who selects another is elsewhere."""
    return pod.get("nodeSelector", {}).get(label[0], label[1]) != label[1]


def kept_off(pod: Body, how: str) -> set[tuple[str, str]]:
    found = pod.get("affinity", {}).get("nodeAffinity", {}).get(f"{how}DuringSchedulingIgnoredDuringExecution", {})
    terms = found.get("nodeSelectorTerms", ()) if how == "required" else [each["preference"] for each in found]
    expressions = (e for term in terms for e in term["matchExpressions"])
    return {(e["key"], value) for e in expressions if e["operator"] == "NotIn" for value in e["values"]}


@pytest.mark.parametrize(("case", "engine"), EVERYWHERE)
def test_nothing_says_what_the_clusters_domain_is(case: str, engine: str) -> None:
    """It is another one in many clusters. The resolver of each pod knows it."""
    for body in planned(case, engine):
        decoded = [
            base64.b64decode(value).decode() for value in body.get("data", {}).values() if body["kind"] == "Secret"
        ]
        assert "cluster.local" not in json.dumps([body, decoded]), body["metadata"]["name"]


@pytest.mark.parametrize("part", ["af_names", "af_kube", "af_operator", "af_client", "helm", "images"])
def test_no_program_says_what_the_clusters_domain_is(part: str) -> None:
    texts = {
        path: path.read_bytes() for path in (CHECKOUT / part).rglob("*") if path.is_file() and path.suffix in SOURCES
    }
    assert texts
    assert not [path for path, text in texts.items() if b"cluster.local" in text]
