"""How many GPUs of a node pool are free: nodes and pods of sessions in, the profile's status out."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import capacity
from af_operator.capacity import Node, PodRequest, parse_node, parse_pod
from tests.support import objects

GPU = "nvidia.com/gpu"
POOL = {"name": "gpu", "nodeSelector": {"pool": "gpu"}, "gpuResource": GPU}


def node(name: str = "n1", gpus: int = 2, **more: Any) -> Node:
    return Node(**{"name": name, "labels": {"pool": "gpu"}, "extended": {GPU: gpus}, "usable": True, **more})


def pod(gpus: int = 1, on: str | None = "n1", phase: str = "Running", **more: Any) -> dict[str, Any]:
    found = objects.pod("w", {}, phase=phase)
    limits = {GPU: str(gpus), "memory": "1Gi"} if gpus else {"memory": "1Gi"}
    placed = {"nodeName": on} if on else {}
    found["spec"] = {
        "containers": [{"resources": {"limits": limits}}],
        "nodeSelector": {"pool": "gpu"},
        **placed,
    } | more
    return found


def asked(pods: list[dict[str, Any]]) -> list[PodRequest]:
    return [request for request in map(parse_pod, pods) if request]


def going(body: dict[str, Any]) -> dict[str, Any]:
    body["metadata"]["deletionTimestamp"] = "2026-01-01T10:02:00Z"
    return body


@pytest.mark.parametrize(
    ("nodes", "pods", "gpus", "free"),
    [
        pytest.param([], [], 0, 0, id="no nodes"),
        pytest.param([node()], [], 2, 2, id="nobody"),
        pytest.param([node()], [pod()], 2, 1, id="one worker"),
        pytest.param([node()], [pod(0), pod(0)], 2, 2, id="workers without a GPU"),
        pytest.param([node()], [pod(phase="Succeeded"), pod(phase="Failed")], 2, 2, id="pods that are over"),
        pytest.param([node()], [going(pod())], 2, 1, id="one that goes still has it"),
        pytest.param([node()], [pod(on=None, phase="Pending")], 2, 1, id="one that waits"),
        pytest.param([node()], [going(pod(on=None, phase="Pending"))], 2, 2, id="one that goes no longer waits"),
        pytest.param([node()], [pod(on=None)] * 9, 2, 0, id="more wait than there are"),
        pytest.param([node()], [pod(8, on=None)], 2, 2, id="what no node can give is not waited for"),
        pytest.param([node()], [pod(on=None, nodeSelector={"pool": "other"})], 2, 2, id="one that waits for others"),
        pytest.param([node()], [pod(on="elsewhere")], 2, 2, id="one on another pool's node"),
        pytest.param([node("n1"), node("n2", 4)], [pod(2, on="n1"), pod(3, on="n2")], 6, 1, id="two nodes"),
        pytest.param([node("n1"), node("n2", labels={"pool": "cpu"})], [], 2, 2, id="a node of another pool"),
        pytest.param([node("n1", usable=False), node("n2")], [pod(on="n1")], 2, 2, id="a cordoned node"),
        pytest.param([node("n1", 1), node("n2", 2)], [pod(2, on="n1")], 3, 2, id="a node that lost a GPU owes none"),
        pytest.param([node(extended={"amd.com/gpu": 8})], [], 0, 0, id="another make"),
    ],
)
def test_what_is_free(nodes: list[Node], pods: list[dict[str, Any]], gpus: int, free: int) -> None:
    profile = objects.profile(nodePools=[{"name": "cpu"}, POOL])
    found = capacity.status(profile.spec, nodes, asked(pods))["nodePools"]
    assert found == [{"name": "gpu", "gpus": gpus, "gpusFree": free}]


def test_pools_that_share_nodes_share_what_is_free() -> None:
    pools = [POOL, {"name": "every", "gpuResource": GPU}]
    found = capacity.status(objects.profile(nodePools=pools).spec, [node("n1"), node("n2", labels={})], asked([pod(2)]))
    assert [(p["name"], p["gpus"], p["gpusFree"]) for p in found["nodePools"]] == [("gpu", 2, 0), ("every", 4, 2)]
    assert found["gpus"] == "gpu 0 of 2 free, every 2 of 4 free"


def test_a_profile_without_gpus_says_nothing() -> None:
    assert capacity.status(objects.profile(nodePools=[{"name": "cpu"}]).spec, [node()], []) == {}


@pytest.mark.parametrize(
    ("spec", "ready", "usable"), [({}, "True", True), ({"unschedulable": True}, "True", False), ({}, "Unknown", False)]
)
def test_of_a_node_only_what_is_counted_is_kept(spec: dict[str, Any], ready: str, usable: bool) -> None:
    body = {
        "metadata": {"name": "n1", "labels": {"pool": "gpu"}},
        "spec": spec,
        "status": {
            "allocatable": {GPU: "2", "cpu": "64", "memory": "24581696Ki", "pods": "240"},
            "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T10:00:00Z"}],
        },
    }
    assert parse_node(body) == node(usable=usable)


@pytest.mark.parametrize("body", [pod(0), pod(phase="Succeeded"), pod(phase="Failed"), {"metadata": {}}])
def test_a_pod_that_takes_no_gpu_is_not_counted(body: dict[str, Any]) -> None:
    assert parse_pod(body) is None


def test_of_a_pod_only_what_is_counted_is_kept() -> None:
    selector = {"pool": "gpu"}
    assert parse_pod(pod(2)) == PodRequest({GPU: 2}, "n1", selector, waits=False)
    assert parse_pod(pod(on=None)) == PodRequest({GPU: 1}, None, selector, waits=True)
    assert parse_pod(going(pod(on=None))) == PodRequest({GPU: 1}, None, selector, waits=False)


class Labels(dict[str, str]):
    """Labels that count how often they are looked at."""

    looks = 0

    def __getitem__(self, key: str) -> str:
        Labels.looks += 1
        return super().__getitem__(key)


def test_each_node_is_matched_once_however_many_pools_there_are() -> None:
    for pools in (1, 60):
        Labels.looks = 0
        profile = objects.profile(nodePools=[POOL | {"name": f"gpu-{index}"} for index in range(pools)])
        nodes = [node(f"n{index}", labels=Labels(pool="gpu", host=f"n{index}")) for index in range(50)]
        found = capacity.status(profile.spec, nodes, asked([pod(1, on=f"n{index}") for index in range(50)]))
        assert {(each["gpus"], each["gpusFree"]) for each in found["nodePools"]} == {(100, 50)}
        assert Labels.looks == 50


class Asked(dict[str, int]):
    """Extended resources that count how often they are looked at."""

    looks = 0

    def items(self) -> Any:
        Asked.looks += 1
        return super().items()

    def get(self, key: str, default: Any = None) -> Any:
        Asked.looks += 1
        return super().get(key, default)


def test_each_pod_is_counted_once_however_many_pools_there_are() -> None:
    profile = objects.profile(nodePools=[POOL | {"name": f"gpu-{index}"} for index in range(60)])
    Asked.looks = 0
    waiting = [PodRequest(Asked({GPU: 1}), None, {"pool": "gpu"}, waits=True) for _ in range(30)]
    found = capacity.status(profile.spec, [node("n1", 100)], waiting)
    assert {each["gpusFree"] for each in found["nodePools"]} == {70}
    assert Asked.looks == 30
