"""Dask: what fits the profile; under dask-kubernetes, when what is made, and what is said of it."""

from __future__ import annotations

import copy
import json
import re
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from af_operator import names, plan
from af_operator.api.pools import Pool
from af_operator.components import Component, dask
from af_operator.components._shared import budget, placement
from af_operator.components.dask import secret
from af_operator.components.dask.dask_kubernetes.replicas import HANDLED, WORKER_GROUP
from af_operator.components.dask.groups import DaskAnswer, group_name
from af_operator.errors import InvalidSession
from af_operator.model import SECRET, Audience, Body, Discard, Keep, Manifest, PodPatch, ref_of
from af_operator.observed import Settled, Terms
from af_operator.views import AgentView, PoolAnswer
from tests.support.objects import DASK, UNSCHEDULABLE, container, live, of_component, pod, profile, session, world


def pool(**changes: Any) -> dict[str, Any]:
    return {"name": "cpu", "nodePool": "cpu", "workers": {"min": 2, "max": 2}} | changes


@pytest.mark.parametrize(
    ("pools", "reason", "words"),
    [
        ([pool(nodePool="tape")], "UnknownNodePool", "choose one of: cpu, gpu"),
        ([pool(size="huge")], "UnknownSize", "choose one of: medium, small"),
        ([pool(workers={"max": 9})], "LimitExceeded", "cpu gives at most 8"),
        ([pool(gpusPerWorker=1)], "NoGPUs", "set gpusPerWorker: 0"),
        ([pool(name=name, workers={"max": 5}) for name in "ab"], "LimitExceeded", "10 workers on node pool 'cpu'"),
        (
            [pool(workers={"max": 8}), pool(name="g", nodePool="gpu", gpusPerWorker=1)],
            "LimitExceeded",
            "10 workers over all pools",
        ),
        ([pool(nodePool="gpu")], "NodePoolForGPUs", r"set gpusPerWorker: 1, or choose another nodePool \(cpu\)"),
        ([pool(nodePool="gpu", gpusPerWorker=3)], "LimitExceeded", "6 GPUs over all pools"),
        (
            [pool(name=name, nodePool="gpu", gpusPerWorker=2 + i, workers={"max": 1}) for i, name in enumerate("ab")],
            "LimitExceeded",
            "5 GPUs over all pools",
        ),
    ],
)
def test_check_refuses_what_the_profile_does_not_give(pools: list[Any], reason: str, words: str) -> None:
    with pytest.raises(InvalidSession, match=words) as caught:
        plan.check(session(dask={"pools": pools}), profile(limits={"workers": 9, "gpus": 4}), [cast(Component, dask)])
    assert caught.value.reason == reason


def test_check_takes_what_fits() -> None:
    dask.check(
        session(dask={"pools": [pool(workers={"max": 8}), pool(name="g", nodePool="gpu", gpusPerWorker=2)]}), profile()
    )


def made(observed: Settled, *pools: dict[str, Any], **changes: Any) -> list[Any]:
    s = session(dask={"pools": list(pools) or DASK["pools"]})
    catalogue = profile(**changes)
    shares = budget.shares(catalogue, {"dask": dask.demands(s, catalogue, observed)})
    items = dask.desired(s, catalogue, observed, Terms(workers=shares["dask"]))
    return [item for item in items if isinstance(item, Discard) or item.ref != SECRET.ref(names.dask_secret(s))]


def bodies(items: list[Any]) -> list[Body]:
    """Return what is to exist of Dask's own kinds."""
    found = (item.body for item in items if isinstance(item, Manifest))
    return [body for body in found if body["kind"] != "ConfigMap"]


def as_live(body: Body, owner: str = "session") -> dict[str, Any]:
    """Return an object of ours as the API server would have it."""
    found = copy.deepcopy(dict(body))
    meta = found["metadata"]
    meta |= {"uid": f"uid-of-{meta['name']}", "labels": meta.get("labels", {}) | of_component("dask")}
    return found


def running(*pools: dict[str, Any]) -> tuple[list[dict[str, Any]], Settled]:
    children = [as_live(b) for b in bodies(made(world(), *pools))]
    return children, world(*children)


def test_cluster_comes_before_its_groups() -> None:
    assert [item.body["kind"] for item in made(world())] == ["ConfigMap", "DaskCluster", "DaskWorkerGroup"]


def test_a_running_cluster_and_its_groups_stay_when_the_profile_changes() -> None:
    children, observed = running()
    images = [{"name": "analysis", "image": "registry.example.org/analysis:2"}]
    _, cluster, group = made(observed, images=images, sizes=[{"name": "small", "cpu": "4", "memory": "8Gi"}])
    assert isinstance(cluster, Keep)
    assert isinstance(group, Manifest)
    assert group.body["spec"] == children[1]["spec"]


def test_more_workers_are_asked_for_in_place() -> None:
    [cluster, two], _ = running(pool())
    two["metadata"]["annotations"] = {HANDLED: json.dumps({"spec": two["spec"]})}
    [group] = bodies(made(world(cluster, two), pool(workers={"min": 5, "max": 5})))
    assert group["spec"]["worker"]["replicas"] == 5


def test_the_dask_operator_looks_again_where_workers_are_missing() -> None:
    [cluster, two], _ = running(pool())
    two["metadata"]["annotations"] = {HANDLED: json.dumps({"spec": two["spec"]})}
    [group] = bodies(made(world(cluster, two), pool()))
    assert group["metadata"]["annotations"] == {HANDLED: "null"}
    assert group["spec"] == two["spec"]
    two["metadata"]["annotations"] = {HANDLED: "null"}
    [group] = bodies(made(world(cluster, two), pool()))
    assert "annotations" not in group["metadata"], "once"


def test_a_group_whose_content_somebody_removed_is_made_anew_and_what_leaves_stays_until_its_workers_are_gone() -> None:
    [cluster, group], _ = running(pool())
    emptied = {key: value for key, value in group.items() if key != "spec"}
    assert bodies(made(world(cluster, emptied), pool())) == bodies(made(world(cluster), pool()))
    left = as_live({**emptied, "metadata": {"name": "zmumu-old-1", "labels": {names.POOL: "old"}}})
    worker = live("apps/v1", "Deployment", "w", of_component("dask", "old", **{WORKER_GROUP: "zmumu-old-1"}))
    assert Keep(ref_of(left)) in made(world(cluster, group, left, worker), pool())
    assert left["metadata"]["name"] not in str(made(world(cluster, group, left), pool())), "and then it goes"


def test_a_group_without_its_label_is_still_its_pools() -> None:
    [cluster, group], _ = running(pool())
    del group["metadata"]["labels"][names.POOL]
    [found] = bodies(made(world(cluster, group), pool()))
    assert found["metadata"]["labels"] == {names.POOL: "cpu"}
    assert found["spec"] == group["spec"]


def test_workers_without_gpus_keep_off_nodes_with_gpus_and_a_pool_is_no_other_for_that() -> None:
    pools = [pool(), pool(name="gpu", nodePool="gpu", gpusPerWorker=1)]
    _, cpu, gpu = bodies(made(world(), *pools))
    assert placement.kept_off(cpu["spec"]["worker"]) == ["example.org/gpus=true"]
    assert "affinity" not in gpu["spec"]["worker"]["spec"]
    nodes = [n.model_dump(by_alias=True, exclude_none=True) for n in profile().spec.node_pools]
    _, anywhere, _ = bodies(made(world(), *pools, nodePools=[nodes[0], nodes[1] | {"cpuWorkers": True}]))
    assert "affinity" not in anywhere["spec"]["worker"]["spec"]
    assert anywhere["metadata"]["name"] == cpu["metadata"]["name"]


def test_another_size_is_another_group_before_the_old_one_goes() -> None:
    children, _ = running(pool())
    labels = of_component("dask", "cpu", **{WORKER_GROUP: children[-1]["metadata"]["name"]})
    observed = world(*children, live("apps/v1", "Deployment", "w-1", labels))
    new, old = bodies(made(observed, pool(size="medium")))
    assert observed.get(Manifest(new).ref) is None
    assert old["spec"]["worker"]["replicas"] == 2


def test_a_group_is_not_made_while_workers_of_its_namesake_are_left() -> None:
    (cluster, group), _ = running()
    labels = of_component("dask", "cpu", **{WORKER_GROUP: group["metadata"]["name"]})
    left = live("apps/v1", "Deployment", "w-1", labels)
    assert bodies(made(world(cluster, left))) == []
    assert len(bodies(made(world(cluster)))) == 1


@pytest.mark.parametrize(("api_version", "kind"), [("apps/v1", "Deployment"), ("v1", "Service")])
def test_a_cluster_is_not_made_while_something_of_its_namesake_is_left(api_version: str, kind: str) -> None:
    assert made(world(live(api_version, kind, "zmumu-scheduler", of_component("dask") | SCHEDULER))) == []
    assert len(made(world(live(api_version, kind, "zmumu-xcache", of_component("xcache"))))) == 3


SCHEDULER = {"dask.org/component": "scheduler"}


def what_the_dask_operator_made(*, phase: str = "Running") -> list[dict[str, Any]]:
    children, _ = running()
    children[0]["status"] = {"phase": phase}
    return [
        *children,
        live("v1", "Service", "zmumu-scheduler", of_component("dask", **SCHEDULER)),
        live("kubernetes.dask.org/v1", "DaskWorkerGroup", "zmumu-default", of_component("dask")),
        live("apps/v1", "Deployment", "zmumu-scheduler", of_component("dask", **SCHEDULER)),
    ]


def test_a_cluster_that_has_lost_its_scheduler_goes_to_be_made_anew() -> None:
    whole = what_the_dask_operator_made()
    assert len(made(world(*whole))) == 3
    assert made(world(*whole[:-1])) == []


@pytest.mark.parametrize("missing", ["Service", "DaskWorkerGroup"])
def test_an_event_that_is_late_is_no_loss(missing: str) -> None:
    whole = what_the_dask_operator_made()[:-1]
    unseen = [
        c for c in whole if c["kind"] != missing or c["metadata"]["name"] not in ("zmumu-scheduler", "zmumu-default")
    ]
    assert len(made(world(*unseen))) == 3
    assert len(made(world(*what_the_dask_operator_made(phase="Pending")[:-1]))) == 3


def test_a_cluster_that_is_called_pending_for_ever_goes_as_well() -> None:
    """Two handlers of the Dask operator write the phase, and the first may come last."""
    whole = what_the_dask_operator_made(phase="Pending")
    begun = datetime.fromisoformat("2026-01-01T10:00:00Z")
    whole[0]["metadata"]["creationTimestamp"] = "2026-01-01T10:00:00Z"
    just_before, then = begun + timedelta(seconds=59), begun + timedelta(seconds=60)
    for now, number in ((just_before, 3), (then, 0)):
        assert len(made(world(*whole[:-1], now=now))) == number
        assert len(made(world(*whole, now=now))) == 3
    assert dask.deadline(session(dask=DASK), world(*whole[:-1], now=just_before)) == then
    assert dask.deadline(session(dask=DASK), world(*whole[:-1], now=then)) is None
    assert dask.deadline(session(dask=DASK), world(*whole, now=just_before)) is None


def scheduler(**more: Any) -> dict[str, Any]:
    return pod("s", of_component("dask", **SCHEDULER), **more)


def worker(name: str, *containers: dict[str, Any], pool: str = "cpu", **more: Any) -> dict[str, Any]:
    return pod(name, of_component("dask", pool, **{WORKER_GROUP: f"zmumu-{pool}-1"}), *containers, **more)


def under_it(*children: Body, **more: Any) -> Settled:
    """Return a world in which there are a DaskCluster, and a group for each of two pools."""
    groups = [live("kubernetes.dask.org/v1", "DaskWorkerGroup", f"zmumu-{p}-1", of_component("dask", p)) for p in POOLS]
    return world(cluster(phase="Running"), *groups, *children, **more)


POOLS = ("cpu", "gpu")


def said(**pool: Any) -> AgentView:
    """Return what the agent says of the wanted group of the pool in `DASK`."""
    name = group_name(session(dask=DASK), Pool.model_validate(DASK["pools"][0]))
    return AgentView(DaskAnswer(pools={name: PoolAnswer(**pool)}))


def cluster(**status: Any) -> dict[str, Any]:
    return live("kubernetes.dask.org/v1", "DaskCluster", "zmumu", of_component("dask"), status=status)


def deployment(message: str | None = None, labels: dict[str, str] | None = None) -> dict[str, Any]:
    failed = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}]
    status = {"conditions": failed if message else []}
    return live("apps/v1", "Deployment", f"d-{message}", labels or of_component("dask", **SCHEDULER), status=status)


QUOTA = 'pods "w" is forbidden: exceeded quota: small'
UP = scheduler(ready=True)
PULL = container("worker", waiting={"reason": "ErrImagePull", "message": "no such image"})


@pytest.mark.parametrize(
    ("children", "reason", "words"),
    [
        ([], "Starting", "not there yet"),
        ([cluster()], "SchedulerMissing", "the Dask operator is not running"),
        ([cluster(phase="Error")], "DaskClusterError", "refuses DaskCluster zmumu"),
        ([cluster(phase="Running")], "SchedulerMissing", "suspend and resume"),
        ([cluster(phase="Running"), deployment()], "Starting", "no pod yet"),
        ([cluster(phase="Running"), deployment(QUOTA)], "QuotaExceeded", "scheduler: .*exceeded quota"),
        ([scheduler()], "Starting", "scheduler: pod s is starting"),
        ([scheduler(conditions=[UNSCHEDULABLE])], "Unschedulable", "scheduler: 0/1 nodes"),
        ([UP], "Starting", "pool cpu: 0 of at least 1 workers"),
        ([UP, worker("w")], "Starting", "pool cpu: 0 of at least 1"),
        ([UP, worker("w", PULL)], "ImagePullBackOff", "pool cpu: 0 of .*no such image"),
        ([UP, worker("w", conditions=[UNSCHEDULABLE])], "Unschedulable", "Insufficient nvidia.com/gpu"),
        ([UP, deployment(QUOTA, of_component("dask", "cpu"))], "QuotaExceeded", "pool cpu: .*exceeded quota"),
        ([UP, worker("w", pool="gpu", ready=True)], "Starting", "pool cpu: 0 of"),
        ([scheduler(), worker("w", PULL)], "ImagePullBackOff", "pool cpu: 0 of"),
    ],
)
def test_health_names_the_real_reason(children: list[Any], reason: str, words: str) -> None:
    begun = not children or children[0]["kind"] == "DaskCluster"
    found = dask.health(session(dask=DASK), world(*children) if begun else under_it(*children))
    assert not found.ready
    assert found.reason == reason
    assert re.search(words, found.message)
    assert found.endpoints == {}


def test_health_says_what_keeps_a_ready_pool_from_what_is_wanted() -> None:
    refused = deployment(QUOTA, of_component("dask", "cpu"))
    found = dask.health(session(dask=DASK), under_it(UP, worker("w", ready=True), refused, dask=said(wanted=5)))
    assert found.ready
    assert "exceeded quota" in found.message


def test_health_is_ready_at_the_minimum_and_says_what_is_missing_to_what_is_wanted() -> None:
    waiting = worker("b", conditions=[UNSCHEDULABLE])
    observed = under_it(UP, worker("a", ready=True), waiting, dask=said(wanted=5))
    found = dask.health(session(dask=DASK), observed)
    assert (found.ready, found.reason) == (True, "Ready")
    assert found.message == f"pool cpu: 1 of 2 workers ({UNSCHEDULABLE['message']})"
    assert found.details == {"pools": {"cpu": {"ready": 1, "desired": 2}}}
    assert found.endpoints == {
        "dask": "tls://zmumu-scheduler.physics.svc:8786",
        "dashboard": "http://zmumu-scheduler.physics.svc:8787/status",
    }


def test_health_says_how_many_gpus_are_asked_for_and_free() -> None:
    gpus = {"name": "gpu", "nodePool": "gpu", "gpusPerWorker": 1, "workers": {"min": 2, "max": 2}}
    waiting = worker("w", pool="gpu", conditions=[UNSCHEDULABLE])
    waiting["spec"]["containers"] = [{"resources": {"limits": {"memory": "1Gi", "nvidia.com/mig-1g.10gb": "1"}}}]
    found = dask.health(session(dask={"pools": [gpus]}), under_it(UP, waiting, gpus_free={"gpu": 0}))
    assert found.reason == "Unschedulable"
    asked = "asks for 1 more nvidia.com/mig-1g.10gb, 0 free: "
    assert found.message == f"pool gpu: 0 of at least 2 workers ready: {asked}{UNSCHEDULABLE['message']}"


def test_health_says_that_workers_keep_off_nodes_with_gpus() -> None:
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    stuck = worker("w", conditions=[UNSCHEDULABLE | {"message": message}])
    assert dask.health(session(dask=DASK), under_it(UP, stuck)).message.endswith(message)
    _, group = bodies(made(world()))
    stuck["spec"]["affinity"] = group["spec"]["worker"]["spec"]["affinity"]
    found = dask.health(session(dask=DASK), under_it(UP, stuck))
    assert (found.ready, found.reason) == (False, "Unschedulable")
    keep = (
        "workers without GPUs keep off nodes with GPUs, known by their labels (example.org/gpus=true): choose another"
    )
    assert f"{message[:-1]}; {keep}" in found.message


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (PoolAnswer(retiring=frozenset("ab")), "workers that finish their tasks and copy their results away .*: 2"),
        (PoolAnswer(stuck=frozenset("a")), "workers that stay because no other worker can take their results: 1"),
    ],
)
def test_health_says_what_keeps_workers_that_are_to_go(view: PoolAnswer, words: str) -> None:
    answer = DaskAnswer(pools={"zmumu-cpu-1": view})
    observed = under_it(UP, worker("w", ready=True), dask=AgentView(answer))
    assert re.search(words, dask.health(session(dask=DASK), observed).message)


def test_a_pool_without_a_minimum_keeps_nobody_waiting() -> None:
    s = session(dask={"pools": [pool(workers={"min": 0, "max": 2})]})
    assert dask.health(s, under_it(UP)).ready


def test_what_dask_kubernetes_makes_of_a_group_carries_our_labels() -> None:
    """The controller of the installed version: its workers are found by session, component and pool."""
    controller = pytest.importorskip("dask_kubernetes.operator.controller.controller")
    group = as_live(bodies(made(world()))[1])
    deployment = controller.build_worker_deployment_spec(
        worker_group_name=group["metadata"]["name"],
        namespace="physics",
        cluster_name="zmumu",
        uuid="0123456789",
        pod_spec=group["spec"]["worker"]["spec"],
        annotations={},
        labels=group["metadata"]["labels"],
    )
    made_pod = deployment["spec"]["template"]
    assert of_component("dask", "cpu").items() <= made_pod["metadata"]["labels"].items()
    assert made_pod["metadata"]["labels"][WORKER_GROUP] == group["metadata"]["name"]
    assert len(deployment["metadata"]["name"]) <= 63
    [own] = made_pod["spec"]["containers"]
    variables = {e["name"]: e.get("value") for e in own["env"]}
    assert len(variables) == len(own["env"])
    assert variables["DASK_WORKER_NAME"] == deployment["metadata"]["name"]
    assert variables["DASK_SCHEDULER_ADDRESS"] == "tls://zmumu-scheduler.physics.svc:8786", "not what it would say"


@pytest.mark.parametrize("engine", ["Native", "DaskKubernetes"])
def test_what_is_for_pods_of_users_is_in_no_worker_and_no_scheduler(engine: str) -> None:
    s, catalogue = session(dask=DASK), profile(dask={"engine": engine})
    token, cache = ({"name": name, "value": f"the {name}"} for name in ("TOKEN", "CACHE"))
    patches: dict[Audience, PodPatch] = {"user": PodPatch(env=(token,)), "worker": PodPatch(env=(cache,))}
    found = str(dask.desired(s, catalogue, world(nonce="0" * 64), Terms(patches=patches, workers={"cpu": 1})))
    assert "the CACHE" in found
    assert "the TOKEN" not in found


def test_only_programs_of_users_are_told_where_the_scheduler_is_by_a_patch() -> None:
    s = session(dask=DASK)
    assert dask.pod_patch(s, profile(), world(), "worker") == PodPatch()
    address = {"name": "DASK_SCHEDULER_ADDRESS", "value": "tls://zmumu-scheduler.physics.svc:8786"}
    assert dask.pod_patch(s, profile(), world(), "user") == PodPatch(env=(address,)) + secret.patch(s, world())
