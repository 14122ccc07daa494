"""Pools whose workers have GPUs. The cluster advertises two of them, and has none: what is tested is who gets them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support.pools import sizes, start
from tests.support.tenant import HEADLESS, Body, Tenant, condition, kubectl, poll

PROGRAM = """
from dask.distributed import Client
with Client() as client:
    names = {"GPU": 1}
    print("used by", client.submit(lambda: __import__("socket").gethostname(), resources=names).result(60))
    print("resources", [w["resources"] for w in client.scheduler_info(n_workers=-1)["workers"].values()])
"""
ELASTIC = """
import time
from dask.distributed import Client
with Client() as client:
    begin = time.time()
    first = client.submit(lambda: time.time(), resources={"GPU": 1}, pure=False)
    more = client.map(lambda index: time.sleep(1) or index, range(8), resources={"GPU": 1}, pure=False)
    print(f"first GPU task after {first.result(180) - begin:.1f} s", flush=True)
    assert sorted(client.gather(more)) == list(range(8))
    print("workers", len(client.nthreads()), flush=True)
    del more
    end = time.time() + 150
    while len(client.nthreads()) > 1 and time.time() < end:
        time.sleep(0.5)
    print("workers at the end", len(client.nthreads()), flush=True)
"""
MORE = "from af_client.here import session; session.scale('gpu', 3); __import__('time').sleep(600)"
INTERACTIVE = {"user": "admin", "mode": "Interactive"}
KEEP_OFF = (
    "didn't match Pod's node affinity/selector; workers without GPUs keep off nodes with GPUs, known by their labels "
    "(analysisfacility.io/node-pool-gpu=true): choose another nodePool, or ask the facility's admin for nodes without"
)


def gpus(least: int, most: int, **changes: Any) -> Body:
    """Return pools with one for GPUs."""
    return {"pools": [gpu_pool("gpu", least, most, **changes)]}


def gpu_pool(name: str, least: int, most: int, **changes: Any) -> Body:
    """Return a pool for GPUs."""
    pool = {"name": name, "nodePool": "gpu", "size": "gpu", "gpusPerWorker": 1}
    return pool | {"workers": {"min": least, "max": most}} | changes


@pytest.fixture(autouse=True)
def nothing_left(shared_tenant: Tenant) -> Iterator[None]:
    """Let no session keep GPUs that the next test needs."""
    yield
    shared_tenant.kubectl("delete", "analysissessions", "--all")


@pytest.fixture(scope="module")
def generous(facility: demo.Facility) -> Iterator[str]:
    """A profile that gives more GPUs than there are."""
    spec = catalogue.default_spec()
    pools = [pool | {"maxWorkers": 4} for pool in spec["nodePools"]]
    with catalogue.profile(nodePools=pools, limits=spec["limits"] | {"gpus": 4}) as name:
        yield name


@pytest.fixture(scope="module")
def closed(facility: demo.Facility) -> Iterator[str]:
    """A profile whose nodes with GPUs are for workers with GPUs; the cluster has no other node."""
    pools = [pool | {"cpuWorkers": False} for pool in catalogue.default_spec()["nodePools"]]
    with catalogue.profile(nodePools=pools) as name:
        yield name


def test_a_task_that_asks_for_a_gpu(shared_tenant: Tenant) -> None:
    run = {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}}
    shared_tenant.apply("task", {**HEADLESS, "run": run, "dask": gpus(1, 1)})
    # Not DaskReady: the run may be over before that is told.
    [worker] = poll(lambda: workers(shared_tenant, "task"), "a worker")
    assert worker["spec"]["nodeSelector"] == {"analysisfacility.io/node-pool-gpu": "true"}
    assert worker["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    shared_tenant.wait_condition("task", "RunComplete", reason="Succeeded")
    log = json.loads(shared_tenant.kubectl("get", "configmap", "task-run-log", "-o", "json"))["data"]["log"]
    assert f"used by {worker['metadata']['name']}" in log
    assert "resources [{'GPU': 1" in log


def test_more_gpus_than_there_are(shared_tenant: Tenant, generous: str) -> None:
    shared_tenant.apply("greedy", {**INTERACTIVE, "profile": generous, "dask": gpus(3, 3)})
    found = condition(shared_tenant.wait("greedy", missing_one, what="told what is missing"), "DaskReady")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    assert "1 Insufficient nvidia.com/gpu" in found["message"]
    summary = condition(shared_tenant.session("greedy"), "Ready")
    assert (summary["status"], summary["reason"]) == ("False", "Unschedulable")


def test_an_elastic_pool_that_finds_no_more_gpus(shared_tenant: Tenant, generous: str) -> None:
    """With its minimum it is ready, and says why there are not more."""
    run = {"command": ["python", "-c", MORE]}
    shared_tenant.apply("more", {**HEADLESS, "run": run, "profile": generous, "dask": gpus(2, 3)})
    found = condition(shared_tenant.wait("more", missing_one, what="told what is missing"), "DaskReady")
    assert found["status"] == "True"
    assert found["message"].startswith("pool gpu: 2 of 3 workers (asks for 1 more nvidia.com/gpu, 0 free: ")


def test_gpus_of_all_pools_count(shared_tenant: Tenant) -> None:
    """The facility's profile gives a session two, and its node pool two workers."""
    pools = [gpu_pool("one", 0, 1), gpu_pool("two", 0, 1, gpusPerWorker=2)]
    shared_tenant.apply("sum", {**INTERACTIVE, "dask": {"pools": pools}})
    found = shared_tenant.wait_condition("sum", "Accepted", "False", reason="LimitExceeded")
    assert found["message"].startswith("3 GPUs over all pools is over the limit of profile 'default'")


def test_workers_without_gpus_do_not_get_onto_nodes_with_gpus(shared_tenant: Tenant, closed: str) -> None:
    pools = [gpu_pool("gpu", 1, 1), {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}}]
    shared_tenant.apply("closed", {**INTERACTIVE, "profile": closed, "dask": {"pools": pools}})

    def settled(body: Body) -> bool:
        dask = body.get("status", {}).get("components", {}).get("dask", {})
        ready = {name: pool["ready"] for name, pool in dask.get("pools", {}).items()}
        return ready == {"gpu": 1, "cpu": 0} and condition(body, "DaskReady")["reason"] == "Unschedulable"

    found = condition(shared_tenant.wait("closed", settled, what="of one worker with a GPU"), "DaskReady")
    assert found["message"].startswith("pool cpu: 0 of at least 1 workers ready: 0/1 nodes are available: ")
    assert KEEP_OFF in found["message"]
    [stuck] = workers(shared_tenant, "closed", "cpu")
    assert (stuck["status"]["phase"], stuck["spec"].get("nodeName")) == ("Pending", None)


def test_a_pool_without_gpus_on_nodes_with_gpus(shared_tenant: Tenant, closed: str) -> None:
    """It is refused, and taken where the profile says so."""
    without = gpus(1, 1, gpusPerWorker=0)
    shared_tenant.apply("refused", {**INTERACTIVE, "profile": closed, "dask": without})
    found = shared_tenant.wait_condition("refused", "Accepted", "False", reason="NodePoolForGPUs")
    assert found["message"] == (
        "dask pool 'gpu': node pool 'gpu' is for pods with GPUs only: set gpusPerWorker: 1, or choose another "
        "nodePool (cpu), or ask the facility's admin for cpuWorkers: true on node pool 'gpu'"
    )
    shared_tenant.apply("taken", {**INTERACTIVE, "dask": without})
    shared_tenant.wait_condition("taken", "DaskReady")
    [worker] = workers(shared_tenant, "taken")
    assert "nvidia.com/gpu" not in worker["spec"]["containers"][0]["resources"]["limits"]


def test_the_profile_says_how_many_are_free(shared_tenant: Tenant) -> None:
    poll(lambda: free() == (2, 2), "all GPUs of the profile's pool are free")
    shared_tenant.apply("one", {**INTERACTIVE, "dask": gpus(1, 1)})
    poll(lambda: free() == (2, 1), "one GPU is taken")
    assert "gpu 1 of 2 free" in kubectl("get", "analysisprofiles", "--output=wide")
    shared_tenant.kubectl("delete", "analysissession", "one")
    poll(lambda: free() == (2, 2), "the GPU is free again")


@pytest.mark.timeout(400)
def test_an_elastic_pool_comes_for_its_tasks_and_goes_after_them(shared_tenant: Tenant) -> None:
    cpu = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}}
    start(shared_tenant, "elastic", ELASTIC, {"pools": [cpu, gpu_pool("gpu", 0, 2)]})
    shared_tenant.wait(
        "elastic", lambda body: sizes(body).get("gpu", (0, 0))[1] == 2, 120, "two GPU workers are wanted"
    )
    shared_tenant.wait_condition("elastic", "RunComplete", reason="Succeeded", seconds=240)
    log = json.loads(shared_tenant.kubectl("get", "configmap", "elastic-run-log", "-o", "json"))["data"]["log"]
    assert "workers at the end 1" in log
    print(re.findall(r"first GPU task after .*", log))


def missing_one(body: Body) -> bool:
    """Return whether a session says that it has one GPU too few."""
    return "asks for 1 more nvidia.com/gpu, 0 free: " in condition(body, "DaskReady").get("message", "")


def free() -> tuple[int, int] | None:
    """Return what the facility's profile says of its one pool with GPUs: how many, and how many are free."""
    status = json.loads(kubectl("get", "analysisprofile", "default", "-o", "json")).get("status", {})
    found = [(pool["gpus"], pool["gpusFree"]) for pool in status.get("nodePools", ())]
    return found[0] if found else None


def workers(tenant: Tenant, session: str, pool: str = "gpu") -> list[Body]:
    """Return the worker pods of a session's pool."""
    labels = f"analysisfacility.io/session={session},analysisfacility.io/pool={pool}"
    found: list[Body] = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    return found
