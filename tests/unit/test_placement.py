"""Which nodes workers without GPUs may run on: none of a node pool with GPUs, but where the profile says so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_operator.api.profile import NodePool
from af_operator.components._shared import choices, placement
from af_operator.errors import InvalidSession
from af_operator.model import Profile
from tests.support.objects import profile

CPU = {"name": "cpu", "nodeSelector": {"site": "a"}}
GPU = {"name": "gpu", "nodeSelector": {"gpus": "true"}, "gpuResource": "nvidia.com/gpu"}
OPEN = GPU | {"cpuWorkers": True}


def expressions(*pools: dict[str, Any], name: str = "cpu") -> list[list[tuple[str, ...]]]:
    """Return the terms of the affinity of a worker without GPUs, each as (key, values that it must not have)."""
    found = profile(nodePools=list(pools))
    affinity = placement.affinity_without_gpus(choices.node_pool(found, name), found)
    if not affinity:
        return []
    terms = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert all(e["operator"] == "NotIn" for term in terms for e in term["matchExpressions"])
    return [[(e["key"], *e["values"]) for e in term["matchExpressions"]] for term in terms]


def gpu(name: str, **labels: str) -> dict[str, Any]:
    return GPU | {"name": name, "nodeSelector": labels}


@pytest.mark.parametrize(
    ("pools", "terms"),
    [
        ([CPU], []),
        ([CPU, GPU], [[("gpus", "true")]]),
        ([{"name": "cpu"}, GPU], [[("gpus", "true")]]),
        ([CPU, OPEN], []),
        # No node has two values of one label: these are apart already.
        ([CPU, gpu("gpu", site="b")], []),
        # Nobody can tell which nodes these are.
        ([CPU, gpu("gpu")], []),
        ([CPU, gpu("h100", type="h100"), gpu("a100", type="a100")], [[("type", "a100", "h100")]]),
        ([CPU, gpu("h100", type="h100"), gpu("mig", mig="1")], [[("mig", "1"), ("type", "h100")]]),
        ([CPU, gpu("gpu", site="a", type="h100")], [[("type", "h100")]]),
        ([CPU, gpu("gpu", rack="r1", type="h100")], [[("rack", "r1")], [("type", "h100")]]),
        # Terms that all say more than another are left out.
        (
            [CPU, gpu("gpu", gpus="1", type="h100"), gpu("two", gpus="1", type="a100")],
            [[("gpus", "1")], [("type", "a100", "h100")]],
        ),
    ],
)
def test_workers_without_gpus_keep_off_nodes_that_are_for_gpus(pools: list[dict[str, Any]], terms: Any) -> None:
    assert expressions(*pools) == terms


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("01"), max_size=3)
GPU_POOLS = st.lists(st.tuples(LABELS, st.booleans()), max_size=4)


@given(LABELS, GPU_POOLS, LABELS)
def test_a_node_is_allowed_if_and_only_if_it_is_of_no_closed_pool(
    mine: dict[str, str], gpus: list[tuple[dict[str, str], bool]], node: dict[str, str]
) -> None:
    """What the affinity means, against the sentence that it stands for."""
    pools = [gpu(f"g{i}", **labels) | {"cpuWorkers": cpu} for i, (labels, cpu) in enumerate(gpus)]
    found = profile(nodePools=[{"name": "cpu", "nodeSelector": mine}, *pools])
    closed = [labels.items() for labels, cpu in gpus if labels and not cpu]
    if not is_possible(found):
        assert any(labels <= mine.items() for labels in closed)
        return
    terms = expressions({"name": "cpu", "nodeSelector": mine}, *pools)
    chosen = not terms or any(all(node.get(key) not in values for key, *values in term) for term in terms)
    allowed = not any(labels <= node.items() for labels in closed)
    assert (mine.items() <= node.items() and chosen) == (mine.items() <= node.items() and allowed)


def is_possible(found: Profile, name: str = "cpu") -> bool:
    try:
        placement.check_without_gpus("dask pool 'p'", choices.node_pool(found, name), found)
    except InvalidSession:
        return False
    return True


@pytest.mark.parametrize(
    ("pools", "name", "words"),
    [
        (
            [CPU, GPU],
            "gpu",
            "dask pool 'p': node pool 'gpu' is for pods with GPUs only: set gpusPerWorker: 1, or choose another "
            "nodePool (cpu), or ask the facility's admin for cpuWorkers: true on node pool 'gpu'",
        ),
        (
            [GPU],
            "gpu",
            "dask pool 'p': node pool 'gpu' is for pods with GPUs only: set gpusPerWorker: 1, or ask the "
            "facility's admin for cpuWorkers: true on node pool 'gpu'",
        ),
        (
            [CPU, GPU, {"name": "fast", "nodeSelector": {"gpus": "true", "disk": "nvme"}}],
            "fast",
            "dask pool 'p': node pool 'fast', whose nodes are all of node pool 'gpu', is for pods with GPUs only: "
            "choose another nodePool (cpu), or ask the facility's admin for cpuWorkers: true on node pool 'gpu'",
        ),
        # One pool of the nodes is open, the other is not.
        ([OPEN, gpu("mig", gpus="true")], "gpu", "node pool 'gpu', whose nodes are all of node pool 'mig', is for"),
        ([CPU, gpu("every")], "every", "choose another nodePool (cpu)"),
    ],
)
def test_a_pool_that_no_node_could_take_is_refused(pools: list[dict[str, Any]], name: str, words: str) -> None:
    found = profile(nodePools=pools)
    with pytest.raises(InvalidSession, match=re.escape(words)) as caught:
        placement.check_without_gpus("dask pool 'p'", choices.node_pool(found, name), found)
    assert caught.value.reason == "NodePoolForGPUs"


def test_the_profile_can_open_nodes_with_gpus() -> None:
    assert is_possible(profile(nodePools=[OPEN]), "gpu")
    assert is_possible(profile(nodePools=[CPU, gpu("every")]))


@pytest.mark.parametrize(
    ("said", "default", "where"),
    [
        (
            "gpu",
            None,
            "run.nodePool: node pool 'gpu' is for pods with GPUs only: choose another nodePool (cpu), or ask",
        ),
        (None, "gpu", "defaults.nodePool of the profile: node pool 'gpu' is for pods with GPUs only"),
        ("other", "cpu", "node pool 'other' is not in profile 'default': choose one of: cpu, gpu"),
    ],
)
def test_what_has_no_gpus_is_refused_where_only_they_may_be(said: str | None, default: str | None, where: str) -> None:
    found = profile(nodePools=[CPU, GPU], defaults={"nodePool": default})
    with pytest.raises(InvalidSession, match=re.escape(where)):
        placement.check("run.nodePool", said, found)
    placement.check("run.nodePool", "cpu", found)


def test_what_nobody_has_placed_goes_to_nodes_without_gpus_first_and_what_is_placed_nowhere_else() -> None:
    found = profile(nodePools=[CPU, GPU])
    placement.check("run.nodePool", None, found)
    nowhere, cpu = placement.of(found, None), placement.of(found, "cpu")
    [term] = nowhere.affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["preference"]["matchExpressions"] == [{"key": "gpus", "operator": "NotIn", "values": ["true"]}]
    assert placement.kept_off({"spec": {"affinity": nowhere.affinity}}) == []
    assert placement.kept_off({"spec": {"affinity": cpu.affinity}}) == ["gpus=true"]
    assert placement.of(found, "gpu", gpus=1).affinity == {}
    opened = profile(nodePools=[CPU, OPEN])
    assert placement.of(opened, None).affinity == placement.of(opened, "cpu").affinity == {}


def test_the_profiles_default_is_where_the_session_does_not_say() -> None:
    pools = [{**CPU, "nodeSelector": {"a": "b"}, "tolerations": [{"key": "t", "operator": "Exists"}]}, GPU]
    found = profile(nodePools=pools, defaults={"nodePool": "cpu"}, imagePullSecrets=["s"], priorityClassName="p")
    place = placement.of(found, None)
    assert (place.node_selector, place.pull_secrets, place.priority) == ({"a": "b"}, ["s"], "p")
    assert place.tolerations == [{"key": "t", "operator": "Exists"}]


def test_labels_that_come_to_too_many_terms_are_refused_at_once() -> None:
    """Sixteen pools of sixteen labels each would be 16 to the power of 16 terms."""
    pools = [gpu(f"g{i}", **{f"k{i}-{j}": "v" for j in range(16)}) for i in range(16)]
    found = profile(nodePools=[CPU, *pools])
    with pytest.raises(InvalidSession, match="one label of their own") as caught:
        placement.check_without_gpus("dask pool 'p'", NodePool.model_validate(CPU), found)
    assert caught.value.reason == "NodePoolsTooManyLabels"


def test_what_a_pod_keeps_off_can_be_read_from_it() -> None:
    found = profile(nodePools=[CPU, gpu("gpu", rack="r1", type="h100"), gpu("two", rack="r2")])
    affinity = placement.affinity_without_gpus(choices.node_pool(found, "cpu"), found)
    assert placement.kept_off({"spec": {"affinity": affinity}}) == ["rack=r1", "rack=r2", "type=h100"]
    assert placement.kept_off({"spec": {}}) == []
