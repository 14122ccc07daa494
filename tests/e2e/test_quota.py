"""A namespace with a quota on everything, where a pod that leaves one word out is refused; and what sizes come to."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support import catalogue, spark
from tests.support import served as models
from tests.support.tenant import HEADLESS, Body, Tenant, condition

pytestmark = pytest.mark.timeout(600)

PLENTY = {"cpu": "99", "memory": "999Gi", "ephemeral-storage": "9Ti"}
QUOTA = {f"{what}.{part}": amount for what in ("requests", "limits") for part, amount in PLENTY.items()}
LAB, FULL = "lab", "full"
SHELL = {
    "name": "shell",
    "cpu": "50m",
    "cpuLimit": "2",
    "memory": "768Mi",
    "sharedMemory": "64Mi",
    "ephemeralStorage": "1Gi",
}
TINY = {"name": "tiny", "cpu": "10m", "memory": "512Mi", "ephemeralStorage": "32Mi"}
POOL = {"name": "cpu", "nodePool": "cpu", "size": "shell", "workers": {"min": 1, "max": 1}}
CONFIG = {"distributed.scheduler.allowed-failures": "20", "distributed.worker.memory.target": "0.5"}
PROGRAM = """
import json, shutil
import dask
from dask.distributed import Client

def seen():
    keys = ("distributed.scheduler.allowed-failures", "distributed.worker.memory.target")
    return {"config": [dask.config.get(key) for key in keys], "shm": shutil.disk_usage("/dev/shm").total}

def of_worker(dask_worker):
    memory, directory = dask_worker.memory_manager.memory_limit, dask_worker.local_directory
    return seen() | {"threads": dask_worker.state.nthreads, "memory": memory, "directory": directory}

def of_scheduler(dask_scheduler):
    return seen() | {"failures": dask_scheduler.allowed_failures}

with Client() as client:
    [worker] = client.run(of_worker).values()
    print(json.dumps({"run": seen(), "worker": worker, "scheduler": client.run_on_scheduler(of_scheduler)}), flush=True)
"""


@pytest.fixture(scope="module")
def frugal(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[tuple[Tenant, str]]:
    """A namespace with that quota, and a profile with sizes of the tests' own."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": QUOTA}}
    shared_tenant.kubectl("create", "--filename=-", stdin=json.dumps(quota))
    with catalogue.profile(sizes=[*spark.SIZES, SHELL, TINY]) as profile:
        yield shared_tenant, profile


@pytest.mark.parametrize("engine", ["Native", "DaskKubernetes"])
def test_sizes_and_configuration_reach_every_process(frugal: tuple[Tenant, str], engine: str) -> None:
    """Under both engines: threads, share of memory, /dev/shm, Dask's configuration, and the scheduler's own size."""
    tenant, _ = frugal
    dask = {
        "scheduler": {"size": "driver"},
        "config": CONFIG,
        "pools": [{**POOL, "threadsPerWorker": 3, "memoryPercent": 50}],
    }
    run = {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}, "size": "shell"}
    with catalogue.profile(sizes=[*spark.SIZES, SHELL, TINY], dask={"engine": engine}) as own:
        name = f"shapes-{engine.lower()}"
        tenant.apply(
            name,
            {**HEADLESS, "profile": own, "run": run, "dask": dask, "xcache": {"placement": "Session", "size": "1Gi"}},
        )
        assert tenant.wait_condition(name, "RunComplete", seconds=180)["reason"] == "Succeeded"
    log = json.loads(tenant.kubectl("get", "configmap", f"{name}-run-log", "-o", "json"))["data"]["log"]
    said = next(json.loads(line) for line in log.splitlines() if line.startswith('{"run"'))
    assert [said[who]["config"] for who in ("run", "worker", "scheduler")] == [[20, 0.5]] * 3
    assert said["scheduler"]["failures"] == 20
    worker = said["worker"]
    assert (worker["threads"], worker["memory"]) == (3, 384 * 2**20)
    assert worker["directory"].startswith("/tmp/")
    assert said["run"]["shm"] == said["worker"]["shm"] == 64 * 2**20


def test_a_directory_that_is_full_is_named_with_its_field(frugal: tuple[Tenant, str]) -> None:
    tenant, profile = frugal
    command = ["sh", "-c", "head -c 100M /dev/urandom > large; sleep 300"]
    tenant.apply(FULL, {**HEADLESS, "profile": profile, "run": {"command": command, "size": "tiny"}})
    body = tenant.wait(
        FULL, lambda body: condition(body, "RunComplete").get("status") == "True", 180, "the run is over"
    )
    found = condition(body, "RunComplete")
    assert found["reason"] == "Evicted"
    assert "/af/work has more than 32Mi: write less there, or choose a larger size (spec.run.size)" in found["message"]
    assert "disruptions" not in body["status"]["run"], "it would be evicted again"


def test_every_component_comes_up_where_all_is_counted(frugal: tuple[Tenant, str]) -> None:
    tenant, profile = frugal
    parts: Body = {
        "notebook": {"size": spark.DRIVER_SIZE},
        "dask": {"pools": [{**POOL, "size": "small"}]},
        "spark": spark.pools(cpu=(1, 1)),
        "inference": models.DIMUON | {"upload": True, "size": "small"},
        "xcache": {"placement": "Sidecar", "size": "1Gi"},
    }
    tenant.apply(LAB, {"user": "admin", "mode": "Interactive", "profile": profile} | parts)
    tenant.wait_condition(LAB, "Ready", seconds=240)
    used = json.loads(tenant.kubectl("get", "resourcequota", "all", "-o", "json"))["status"]["used"]
    assert all(used[name] not in ("0", "") for name in QUOTA), used
    # What Spark's workers and its server are is in the size of each.
    pods = json.loads(tenant.kubectl("get", "pods", f"-l=analysisfacility.io/session={LAB}", "-o", "json"))["items"]
    assert len(pods) == 6
    tenant.kubectl("delete", "analysissession", LAB)
