"""One budget over the pools of all components: what a spec may ask for, and what each group may have by now."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator.api.pools import Pool, Workers
from af_operator.components._shared import budget
from af_operator.components._shared.budget import Demand
from af_operator.errors import InvalidSession
from af_operator.model import Profile
from tests.support.objects import profile

NODES = [
    {"name": "cpu", "nodeSelector": {"pool": "cpu"}, "maxWorkers": 8},
    {"name": "gpu", "nodeSelector": {"pool": "gpu"}, "gpuResource": "nvidia.com/gpu", "maxWorkers": 4},
    {"name": "any"},
]


def catalogue(**limits: int) -> Profile:
    return profile(nodePools=NODES, limits={"workers": 100, "gpus": 100} | limits)


def pool(node_pool: str, most: int, gpus: int = 0) -> Pool:
    workers = {"min": 0, "max": most}
    return Pool.model_validate({"name": "p", "nodePool": node_pool, "workers": workers, "gpusPerWorker": gpus})


@pytest.mark.parametrize(
    ("pools", "limits", "said"),
    [
        ({"dask": [pool("cpu", 8)]}, {}, None),
        ({"dask": [pool("cpu", 9)]}, {}, "9 workers on node pool 'cpu' .* cpu gives at most 8"),
        ({"dask": [pool("cpu", 8), pool("cpu", 8)]}, {}, "16 workers on node pool 'cpu'"),
        ({"dask": [pool("cpu", 5)], "other": [pool("cpu", 3)]}, {}, None),
        ({"dask": [pool("cpu", 5)], "other": [pool("cpu", 4)]}, {}, "9 workers on node pool 'cpu'"),
        ({"dask": [pool("any", 50)], "other": [pool("any", 50)]}, {}, None),
        ({"dask": [pool("any", 50)], "other": [pool("any", 51)]}, {}, "101 workers over all pools .* add up to 100"),
        ({"dask": [pool("gpu", 2, 2)], "other": [pool("gpu", 1, 3)]}, {"gpus": 7}, None),
        ({"dask": [pool("gpu", 2, 2)], "other": [pool("gpu", 1, 3)]}, {"gpus": 6}, "7 GPUs over all pools"),
        ({}, {"workers": 0, "gpus": 0}, None),
    ],
)
def test_what_a_spec_may_ask_for(pools: Any, limits: dict[str, int], said: str | None) -> None:
    if said is None:
        budget.check(catalogue(**limits), pools)
        return
    with pytest.raises(InvalidSession, match=said) as caught:
        budget.check(catalogue(**limits), pools)
    assert caught.value.reason == "LimitExceeded"


def wants(pool: str, wanted: int, there: int = 0, **more: Any) -> Demand:
    return Demand(pool, more.pop("node_pool", "any"), wanted, there, **more)


def replaced(there: int, **more: Any) -> Demand:
    return wants("old", 0, there, outgoing=True, **more)


@pytest.mark.parametrize(
    ("demands", "limits", "shares"),
    [
        ({"dask": [wants("a", 3)]}, {}, {"dask": {"a": 3}}),
        # Who comes first has what is free.
        ({"dask": [wants("a", 3), wants("b", 3)]}, {"workers": 4}, {"dask": {"a": 3, "b": 1}}),
        ({"dask": [wants("b", 3), wants("a", 3)]}, {"workers": 4}, {"dask": {"b": 3, "a": 1}}),
        ({"dask": [wants("a", 3)], "other": [wants("a", 3)]}, {"workers": 4}, {"dask": {"a": 3}, "other": {"a": 1}}),
        # What is there counts until it is gone, and is never taken away for the budget alone.
        ({"dask": [wants("a", 1, 4), wants("b", 3)]}, {"workers": 4}, {"dask": {"a": 1, "b": 0}}),
        ({"dask": [wants("a", 3), wants("b", 4, 4)]}, {"workers": 4}, {"dask": {"a": 0, "b": 4}}),
        ({"dask": [wants("a", 5, 5)]}, {"workers": 4}, {"dask": {"a": 5}}),
        # What is replaced counts, and gets nothing any more.
        ({"dask": [wants("a", 3), replaced(3)]}, {"workers": 4}, {"dask": {"a": 1}}),
        ({"dask": [wants("a", 3)], "other": [replaced(2)]}, {"workers": 4}, {"dask": {"a": 2}, "other": {}}),
        # GPUs: whole workers.
        ({"dask": [wants("a", 3, gpus=2)]}, {"gpus": 5}, {"dask": {"a": 2}}),
        ({"dask": [wants("a", 2, gpus=2), wants("b", 2, gpus=1)]}, {"gpus": 5}, {"dask": {"a": 2, "b": 1}}),
        ({"dask": [wants("a", 2, gpus=2), replaced(2, gpus=2)]}, {"gpus": 4}, {"dask": {"a": 0}}),
        ({"dask": [wants("a", 2), replaced(2, gpus=2)]}, {"gpus": 1}, {"dask": {"a": 2}}),
        # One node pool, whoever asks for it; and what an engine does not know the nodes of is in no node pool.
        (
            {"dask": [wants("a", 6, node_pool="cpu")], "other": [wants("a", 6, node_pool="cpu")]},
            {},
            {"dask": {"a": 6}, "other": {"a": 2}},
        ),
        ({"dask": [wants("a", 8, node_pool="cpu"), replaced(3, node_pool="cpu")]}, {}, {"dask": {"a": 5}}),
        ({"dask": [wants("a", 8, node_pool="cpu"), replaced(3, node_pool="")]}, {}, {"dask": {"a": 8}}),
        ({"dask": [wants("a", 9, node_pool="cpu"), wants("b", 9)]}, {}, {"dask": {"a": 8, "b": 9}}),
        # The least of all limits.
        ({"dask": [wants("a", 4, node_pool="gpu", gpus=1)]}, {"workers": 3, "gpus": 2}, {"dask": {"a": 2}}),
        ({"dask": [wants("a", 9, node_pool="gpu", gpus=1)]}, {}, {"dask": {"a": 4}}),
    ],
)
def test_what_each_may_have_by_now(demands: Any, limits: dict[str, int], shares: dict[str, dict[str, int]]) -> None:
    assert budget.shares(catalogue(**limits), demands) == shares


def test_replicas_that_are_where_the_profile_says_count_there() -> None:
    from_default = Pool.model_construct(name="replicas", node_pool="", workers=Workers(max=9), gpus_per_worker=0)
    budget.check(profile(), {"inference": [from_default]})
    with pytest.raises(InvalidSession, match="9 workers on node pool 'cpu'"):
        budget.check(profile(defaults={"nodePool": "cpu"}), {"inference": [from_default]})
