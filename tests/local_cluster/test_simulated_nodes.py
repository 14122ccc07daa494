"""A control plane with simulated nodes: who asks for pods gets pods that run, and nothing that is deleted stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from local_cluster import binaries, simulated_nodes
from local_cluster.control_plane import NODES_PATH, ControlPlane, Options, control_plane
from local_cluster.processes import poll
from local_cluster.progress import Progress

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(180)]
NUMBER = 3
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
LABELS = {"app": "simulated"}
SPEC = {"containers": [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "100"}}}]}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    progress = Progress(Console(quiet=True))
    if not binaries.is_built(progress, binaries.KWOK):
        pytest.skip("KWOK is not built: only `make bench` needs it, and builds it")
    with control_plane(progress, Options(nodes=NUMBER)) as found:
        yield found


def pods(plane: ControlPlane) -> list[dict[str, Any]]:
    return list(plane.request("GET", PODS)["items"])


def test_nodes_are_there(plane: ControlPlane) -> None:
    assert simulated_nodes.ready(plane.request("GET", NODES_PATH), NUMBER)
    assert not simulated_nodes.ready(plane.request("GET", NODES_PATH), NUMBER + 1)


def test_a_deployment_gets_pods_that_run_where_there_is_room_and_go_with_it(plane: ControlPlane) -> None:
    template = {"metadata": {"labels": LABELS}, "spec": SPEC}
    spec = {"replicas": NUMBER + 1, "selector": {"matchLabels": LABELS}, "template": template}
    plane.request("POST", DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec})

    def settled() -> bool:
        return len(pods(plane)) == NUMBER + 1 and sum(is_ready(pod) for pod in pods(plane)) == NUMBER

    assert poll(settled, 30), pods(plane)
    taken = {pod["spec"].get("nodeName") for pod in pods(plane)}
    assert taken == {None, *(node["metadata"]["name"] for node in simulated_nodes.nodes(NUMBER))}
    plane.request("DELETE", f"{DEPLOYMENTS}/d", {"propagationPolicy": "Background"})
    assert poll(lambda: not pods(plane), 30), pods(plane)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
    return pod["status"]["phase"] == "Running" and conditions.get("Ready") == "True"
