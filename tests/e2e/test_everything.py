"""A session with everything at once: it comes up, costs nothing while nobody uses it, and leaves nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from af_operator.components._shared.pools import CALM
from local_cluster import facility as demo
from tests.support import catalogue, spark
from tests.support import served as models
from tests.support.audit import OPERATOR, Audit, all_told
from tests.support.tenant import Body, Tenant, poll

# Alone: how long it takes to come up says something only where nothing else does at the same time.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.alone]

NAME = "everything"
READY_SECONDS = 90.0
IDLE = timedelta(seconds=float(os.environ.get("AF_IDLE_SECONDS", CALM + 5)))
"""More than a minute, in which all agents are asked; ten minutes with ``AF_IDLE_SECONDS=600``."""
MOST_REQUESTS = 10
PARTS = {"NotebookReady", "DaskReady", "SparkReady", "InferenceReady", "XCacheReady"}


def pool(name: str, **more: object) -> Body:
    return {"name": name, "nodePool": name, "size": "small", "workers": {"min": 1, "max": 1}, **more}


@pytest.fixture(scope="module")
def everything(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[Tenant]:
    """The session, ready."""
    with catalogue.profile(sizes=spark.SIZES) as profile:
        spec = {"user": "admin", "mode": "Interactive", "profile": profile, "image": models.IMAGE}
        parts = {
            "notebook": {"size": spark.DRIVER_SIZE},
            "dask": {"pools": [pool("cpu"), pool("gpu", gpusPerWorker=1)]},
            "spark": spark.pools(cpu=(1, 1)),
            "inference": models.DIMUON | {"upload": True, "size": "small"},
            "xcache": {"placement": "Session", "size": "1Gi"},
        }
        begin = time.monotonic()
        with Audit() as audit:
            shared_tenant.apply(NAME, spec | parts)
            shared_tenant.wait_condition(NAME, "Ready", seconds=READY_SECONDS)
            print(f"ready after {time.monotonic() - begin:.0f} s; load {Path('/proc/loadavg').read_text()}")
            poll(lambda: all_told(audit, shared_tenant.namespace), "no status is held back any more")
        yield shared_tenant
        shared_tenant.kubectl("delete", "analysissession", NAME, "--ignore-not-found")


def test_every_part_is_ready(everything: Tenant) -> None:
    conditions = everything.session(NAME)["status"]["conditions"]
    assert {c["type"] for c in conditions if c["status"] == "True"} >= PARTS


def test_an_idle_session_costs_few_requests(everything: Tenant) -> None:
    with Audit() as audit:
        end = datetime.now(UTC) + IDLE
        poll(lambda: datetime.now(UTC) > end, "that time is over", 2 * IDLE.total_seconds())
        calls = audit.calls(OPERATOR, namespace=everything.namespace)
    said = "\n".join(map(str, calls))
    print(f"{len(calls)} requests in {IDLE.total_seconds():.0f} s\n{said}")
    assert len(calls) <= MOST_REQUESTS, said


def test_its_parts_find_each_other(everything: Tenant) -> None:
    where = (f"{NAME}-notebook-0", "--container=notebook")
    assert models.ask(everything, where, "ask")["grpc"] == pytest.approx(models.MASSES, rel=1e-6)


def test_deleted_it_leaves_nothing(everything: Tenant) -> None:
    uid = everything.session(NAME)["metadata"]["uid"]
    everything.kubectl("delete", "analysissession", NAME, "--timeout=10s")
    poll(lambda: not everything.children(uid), "nothing is left", 120)
