"""Passes over a session whose pools change."""

from __future__ import annotations

from af_operator.components.dask.dask_kubernetes.replicas import WORKER_GROUP
from af_operator.components.dask.groups import DaskAnswer
from af_operator.views import AgentView, PoolAnswer
from tests.support.bench import SPEC, UNDER_DASK_KUBERNETES, Bench


async def test_workers_are_deleted_before_the_dask_operator_is_told_of_fewer() -> None:
    pool = SPEC["dask"]["pools"][0] | {"workers": {"min": 2, "max": 2}}
    bench = Bench(profile=UNDER_DASK_KUBERNETES, spec=SPEC | {"dask": {"pools": [pool]}})
    await bench.settle()
    [(_, group)] = [each for each in bench.made.items() if each[0][0] == "DaskWorkerGroup"]
    owner = {"kind": "DaskWorkerGroup", "controller": True, "uid": group["metadata"]["uid"]}
    labels = group["metadata"]["labels"] | {WORKER_GROUP: group["metadata"]["name"]}
    made = [f"{group['metadata']['name']}-worker-{index}" for index in range(2)]
    for name in made:
        metadata = {"name": name, "namespace": "physics", "labels": labels, "ownerReferences": [owner]}
        bench.cluster.store({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
    view = AgentView(DaskAnswer(pools={group["metadata"]["name"]: PoolAnswer(retired=frozenset(made[:1]))}))
    bench.reconcile._agents.views = lambda _: {"dask": view}  # type: ignore[method-assign]
    bench.change(dask={"pools": [SPEC["dask"]["pools"][0] | {"workers": {"min": 1, "max": 1}}]})
    bench.cluster.writes.clear()
    await bench.reconcile(bench.key)
    assert [(verb, name) for verb, (kind, _, name) in bench.cluster.writes if kind != "AnalysisSession"] == [
        ("delete", made[0]),
        ("apply", group["metadata"]["name"]),
    ]
    assert (
        bench.cluster.objects["DaskWorkerGroup", "physics", group["metadata"]["name"]]["spec"]["worker"]["replicas"]
        == 1
    )
