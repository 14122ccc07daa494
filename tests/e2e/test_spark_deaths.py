"""Spark's programs die while a query runs: where that can be, the answer is right; where not, the session says so.

All of it in one session, in turn: each test leaves it as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from local_cluster import facility as demo
from tests.support import catalogue, spark
from tests.support.tenant import HEADLESS, Body, Tenant, condition, kubectl, poll

NAME = "mortal"
DRIVER = (f"job/{NAME}-run", "--container=run")
TASKS, SECONDS = 8, 4
ANSWER = sum(range(TASKS * 100))
LABELS = f"analysisfacility.io/session={NAME},analysisfacility.io/component=spark,analysisfacility.io/role="

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def mortal(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[Tenant]:
    """A session with two workers, and a run in which a test may drive them."""
    with catalogue.profile(sizes=spark.SIZES) as profile:
        run = {"command": ["sleep", "3600"]}
        shared_tenant.apply(NAME, {**HEADLESS, "profile": profile, "run": run, "spark": spark.pools(cpu=(2, 2))})
        shared_tenant.wait_condition(NAME, "Ready", seconds=spark.PATIENCE)
        yield shared_tenant
        shared_tenant.kubectl("delete", "analysissession", NAME)


@pytest.fixture(scope="module")
def client(mortal: Tenant) -> Iterator[spark.Client]:
    """A program that drives the session's Spark, and is there over all deaths."""
    with spark.Client(mortal, *DRIVER) as found:
        yield found


def begin(tenant: Tenant, client: spark.Client) -> str:
    """Begin a query; return the name of a worker that runs tasks of it, as soon as there is one."""
    client.begin("count_slowly", TASKS, SECONDS)
    busy = poll(lambda: spark.running(tenant, NAME), "a worker runs tasks", spark.PATIENCE)
    return next(name for name, address in spark.workers(tenant, NAME).items() if address in busy)


def test_a_query_survives_the_death_of_the_master(mortal: Tenant, client: spark.Client) -> None:
    begin(mortal, client)
    spark.kill(mortal, f"deployment/{NAME}-spark", spark.MASTER)
    assert client.answer() == ANSWER
    poll(lambda: restarts(mortal)["master"] == 1, "its container is started again", spark.PATIENCE)
    mortal.wait_condition(NAME, "Ready", seconds=spark.PATIENCE)
    assert restarts(mortal) == {"master": 1, "connect": 0, "agent": 0}
    assert client.ask("count_slowly", TASKS, 0) == ANSWER, "executors are still given"
    assert not condition(mortal.session(NAME), "SparkLost"), "nothing was lost"


def of_the_jvm(tenant: Tenant, worker: str) -> None:
    spark.kill(tenant, worker, spark.WORKER)


def of_the_pod(tenant: Tenant, worker: str) -> None:
    tenant.kubectl("delete", "pod", worker, "--wait=false")


@pytest.mark.parametrize("death", [of_the_jvm, of_the_pod])
def test_a_query_survives_the_death_of_a_worker(
    mortal: Tenant, client: spark.Client, death: Callable[[Tenant, str], None]
) -> None:
    before = lost_workers(mortal.session(NAME))
    death(mortal, begin(mortal, client))
    assert client.answer() == ANSWER
    spark.settled(mortal, NAME, cpu=2)
    mortal.wait(NAME, lambda body: lost_workers(body) == before + 1, 150, "one more worker that was lost")
    assert client.ask("count_slowly", TASKS, 0) == ANSWER


def test_a_lost_connect_server_is_said(mortal: Tenant, client: spark.Client) -> None:
    assert client.ask("connect")
    spark.kill(mortal, f"deployment/{NAME}-spark", spark.CONNECT)
    found = mortal.wait_condition(NAME, "SparkLost", seconds=120, reason="Restarted")
    how = "its container ended and was started again: container connect ended with exit code 137: "
    assert found["message"].startswith(f"the Spark Connect server was lost ({how}"), "and the last line that it wrote"
    assert "call `spark.stop()`" in found["message"]
    comes_back(mortal, client)


def test_a_lost_pod_is_said(mortal: Tenant, client: spark.Client) -> None:
    """Master and Connect server are others then, at another address: the workers are the same, and go there."""
    workers = spark.workers(mortal, NAME)
    mortal.kubectl("delete", "pod", "-l", f"{LABELS}master", "--wait=false")
    found = mortal.wait_condition(NAME, "SparkLost", seconds=120, reason="Replaced")
    # Who is told while the old pod is still there knows more than who is told after that.
    ways = ("its pod was deleted", "its pod was evicted or deleted, or its node was lost")
    assert found["message"].startswith(tuple(f"the Spark Connect server was lost ({way}): " for way in ways))
    comes_back(mortal, client)
    assert spark.workers(mortal, NAME) == workers


def comes_back(tenant: Tenant, client: spark.Client) -> None:
    """The session is ready, with an Event of what was lost; and a program does what it is advised to do."""
    poll(lambda: alive(tenant) == 2, "both workers are at the master", spark.PATIENCE)
    tenant.wait_condition(NAME, "Ready", seconds=spark.PATIENCE)
    events = kubectl("get", "events", "-n", tenant.namespace, "--field-selector=type=Warning")
    assert "the Spark Connect server was lost" in events
    client.ask("stop")
    assert client.ask("count_slowly", TASKS, 0) == ANSWER


def alive(tenant: Tenant) -> int:
    """Return how many workers the master has; none while it is not there."""
    try:
        return int(spark.master(tenant, NAME)["aliveworkers"])
    except AssertionError:
        return 0


def restarts(tenant: Tenant) -> dict[str, int]:
    """Return how often the containers beside the master were started again."""
    [pod] = json.loads(tenant.kubectl("get", "pods", "-l", f"{LABELS}master", "-o", "json"))["items"]
    return {each["name"]: each["restartCount"] for each in pod["status"]["containerStatuses"]}


def lost_workers(body: Body) -> int:
    """Return how many workers were lost, as the session says."""
    words = condition(body, "SparkReady").get("message", "").partition("workers that were lost: ")[2]
    return int(words.split()[0]) if words else 0
