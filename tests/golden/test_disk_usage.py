"""What is said of a pod that wrote too much: for every directory of every pod that there is."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator.components._shared import disruptions, pod_reasons
from tests.golden.test_golden import CASES, planned
from tests.golden.test_places import containers

Body = dict[str, Any]


def pods(case: str) -> list[Body]:
    """Return every pod of a case, or what pods are made of, with its labels."""
    made = [body if body["kind"] == "Pod" else body.get("spec", {}).get("template") for body in planned(case, "Native")]
    return [{"spec": pod["spec"], "metadata": {"name": "p", **pod["metadata"]}} for pod in made if pod and pod["spec"]]


def evicted(pod: Body, message: str) -> str:
    """Return what is said of a pod that the kubelet has evicted with these words."""
    found = pod | {"status": {"phase": "Failed", "reason": "Evicted", "message": message}}
    assert disruptions.over_its_limit(found)
    reason = pod_reasons.why(found)
    assert reason.reason == "Evicted"
    return reason.message


@pytest.mark.parametrize("case", CASES)
def test_a_volume_is_told_by_its_directory_and_the_field(case: str) -> None:
    for pod in pods(case):
        first = pod["spec"]["containers"][0]["name"]
        for volume in (v["name"] for v in pod["spec"].get("volumes", ()) if "sizeLimit" in v.get("emptyDir", {})):
            mounts = [(c["name"], m) for c in containers(pod["spec"]) for m in c.get("volumeMounts", ())]
            paths = {mount["mountPath"]: name for name, mount in mounts if mount["name"] == volume}
            said = evicted(pod, f'Usage of EmptyDir volume "{volume}" exceeds the limit "1Gi". ')
            [path] = [path for path in paths if f" {path} has more than 1Gi: " in said]
            labels = pod["metadata"]["labels"]
            chosen = paths[path] == first and labels["analysisfacility.io/component"] != "xcache"
            assert ("ephemeralStorage" in said and ".size)" in said) == chosen, said
            assert chosen or "admin" in said


@pytest.mark.parametrize("case", ["placed", "native-zmumu", "notebook-hub"])
def test_the_sum_of_all_and_what_is_outside_of_volumes(case: str) -> None:
    [pod] = [p for p in pods(case) if p["metadata"]["labels"]["analysisfacility.io/component"] in {"run", "notebook"}]
    said = evicted(pod, "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ")
    home = "/af/home, /af/results, /af/work" if case != "notebook-hub" else "/home/analysis"
    assert home in said.replace("/cache, ", "").replace("/run/xcache, ", "")
    assert "/dev/shm" not in said
    name = pod["spec"]["containers"][0]["name"]
    said = evicted(pod, f'Container {name} exceeded its local ephemeral storage limit "10Gi". ')
    assert f"container {name} wrote more than 10Gi outside of its volumes, or into its log: write less there" in said


def test_what_a_node_says_of_itself_is_left_as_it_is() -> None:
    low = "The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 0. "
    found: Body = pods("minimal")[0] | {"status": {"phase": "Failed", "reason": "Evicted", "message": low}}
    assert pod_reasons.why(found).message == f"pod p: {low}"
