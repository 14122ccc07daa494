"""Spark's workers with GPUs. The cluster advertises two, and has none: what is tested is who is told of which."""

from __future__ import annotations

import pytest

from tests.support import catalogue, spark
from tests.support.tenant import HEADLESS, Tenant

NAME = "gpus"


@pytest.mark.timeout(600)
def test_a_task_that_asks_for_a_gpu_is_told_which(tenant: Tenant) -> None:
    pool = {"name": "gpu", "nodePool": "gpu", "size": spark.WORKER_SIZE, "gpusPerWorker": 1}
    pools = {"size": spark.DRIVER_SIZE, "pools": [pool | {"workers": {"min": 1, "max": 1}}]}
    with catalogue.profile(sizes=spark.SIZES) as profile:
        tenant.apply(NAME, {**HEADLESS, "profile": profile, "run": {"command": ["sleep", "3600"]}, "spark": pools})
        tenant.wait_condition(NAME, "Ready", seconds=spark.PATIENCE)
        [worker] = spark.master(tenant, NAME)["workers"]
        assert worker["resources"]["gpu"]["addresses"] == ["0"], worker["resources"]
        with spark.Client(tenant, f"job/{NAME}-run", "--container=run") as client:
            assert client.ask("gpu_addresses") == ["0"]
        tenant.kubectl("delete", "analysissession", NAME)
