"""Pools whose workers have GPUs. The cluster advertises two of them, and has none: what is tested is who gets them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support.tenant import HEADLESS, Body, Tenant, condition, kubectl, poll

PROGRAM = """
from dask.distributed import Client
with Client() as client:
    names = {"GPU": 1}
    print("used by", client.submit(lambda: __import__("socket").gethostname(), resources=names).result(60))
    print("resources", [w["resources"] for w in client.scheduler_info(n_workers=-1)["workers"].values()])
"""


def gpus(least: int, most: int) -> Body:
    """Return pools with one for GPUs."""
    pool = {"name": "gpu", "nodePool": "gpu", "size": "gpu", "gpusPerWorker": 1}
    return {"pools": [pool | {"workers": {"min": least, "max": most}}]}


@pytest.fixture(scope="module")
def generous(facility: demo.Facility) -> Iterator[str]:
    """A profile that gives more GPUs than there are."""
    spec = catalogue.default_spec()
    pools = [pool | {"maxWorkers": 4} for pool in spec["nodePools"]]
    with catalogue.profile(nodePools=pools, limits=spec["limits"] | {"gpus": 4}) as name:
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
    interactive = {"user": "admin", "mode": "Interactive", "profile": generous}
    shared_tenant.apply("greedy", {**interactive, "dask": gpus(3, 3)})
    found = shared_tenant.wait_condition("greedy", "DaskReady", "False", reason="Unschedulable")
    assert "1 Insufficient nvidia.com/gpu" in found["message"]
    summary = condition(shared_tenant.session("greedy"), "Ready")
    assert (summary["status"], summary["reason"]) == ("False", "Unschedulable")

    # With a lower minimum it is ready, and still says why there are not more.
    pools = gpus(2, 3)["pools"]
    shared_tenant.patch("greedy", dask={"pools": pools})
    found = shared_tenant.wait_condition("greedy", "DaskReady")
    assert found["message"].startswith("pool gpu: 2 of 3 workers")
    assert "Insufficient nvidia.com/gpu" in found["message"]
    shared_tenant.kubectl("delete", "analysissession", "greedy")


def test_the_profile_says_how_many_are_free(shared_tenant: Tenant) -> None:
    poll(lambda: free() == (2, 2), "all GPUs of the profile's pool are free")
    shared_tenant.apply("one", {"user": "admin", "mode": "Interactive", "dask": gpus(1, 1)})
    poll(lambda: free() == (2, 1), "one GPU is taken")
    assert "gpu 1 of 2 free" in kubectl("get", "analysisprofiles", "--output=wide")
    shared_tenant.kubectl("delete", "analysissession", "one")
    poll(lambda: free() == (2, 2), "the GPU is free again")


def free() -> tuple[int, int] | None:
    """Return what the facility's profile says of its one pool with GPUs: how many, and how many are free."""
    status = json.loads(kubectl("get", "analysisprofile", "default", "-o", "json")).get("status", {})
    found = [(pool["gpus"], pool["gpusFree"]) for pool in status.get("nodePools", ())]
    return found[0] if found else None


def workers(tenant: Tenant, session: str) -> list[Body]:
    """Return the worker pods of a session."""
    labels = f"analysisfacility.io/session={session},analysisfacility.io/pool=gpu"
    found: list[Body] = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))["items"]
    return found
