"""Spark's pools are resized, by hand and by what tasks ask for, while it computes and has a table in its memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support import catalogue, spark
from tests.support.tenant import HEADLESS, Body, Tenant, poll

NAME = "resized"
DRIVER = (f"job/{NAME}-run", "--container=run")
TASKS, SECONDS = 12, 3
ANSWER = sum(range(TASKS * 100))
PARTS = 6
SCALING = {"quietSeconds": 3, "drainSeconds": 120, "silenceSeconds": 600}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def resized(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[Tenant]:
    """A session with three workers, and a run in which a test may drive them."""
    with catalogue.profile(sizes=spark.SIZES, scaling=SCALING) as profile:
        run = {"command": ["sleep", "3600"]}
        shared_tenant.apply(NAME, {**HEADLESS, "profile": profile, "run": run, "spark": spark.pools(cpu=(3, 3))})
        shared_tenant.wait_condition(NAME, "Ready", seconds=spark.PATIENCE)
        yield shared_tenant
        shared_tenant.kubectl("delete", "analysissession", NAME)


@pytest.fixture(scope="module")
def client(resized: Tenant) -> Iterator[spark.Client]:
    """A program that drives the session's Spark."""
    with spark.Client(resized, *DRIVER) as found:
        yield found


@pytest.fixture(scope="module")
def marks(client: spark.Client) -> list[str]:
    """The marks of a table in the executors' memory: each part has one, and another one when it is made anew."""
    assert client.ask("count_slowly", TASKS, SECONDS) == ANSWER  # so that there are executors on all workers
    found: list[str] = client.ask("hold", PARTS)
    assert len(found) == PARTS
    return found


@pytest.mark.parametrize("number", [1, 3])
def test_a_query_survives_a_resize(resized: Tenant, client: spark.Client, marks: list[str], number: int) -> None:
    client.begin("count_slowly", TASKS, SECONDS)
    poll(lambda: spark.running(resized, NAME), "tasks run", spark.PATIENCE)
    resized.patch(NAME, spark=spark.pools(cpu=(number, number)))
    assert client.answer() == ANSWER
    spark.settled(resized, NAME, cpu=number)
    poll(lambda: len(spark.workers(resized, NAME)) == number, f"{number} workers", 90)
    assert client.ask("held") == marks, "what was in memory was moved, and not made anew"
    assert nothing_was_done_twice(resized)


def test_an_elastic_pool_comes_for_its_tasks_and_goes_after_them(
    resized: Tenant, client: spark.Client, marks: list[str]
) -> None:
    resized.patch(NAME, spark=spark.pools(cpu=(1, 3)))
    spark.settled(resized, NAME, cpu=1)
    client.begin("count_slowly", 3 * TASKS, 2 * SECONDS)
    resized.wait(NAME, grown, spark.PATIENCE, "three workers wanted, and more than one there")
    assert client.answer(2 * spark.PATIENCE) == sum(range(3 * TASKS * 100))
    spark.settled(resized, NAME, cpu=1)
    assert nothing_was_done_twice(resized)
    # Right, if perhaps made anew: whoever stays may have come too late to be given what the others had.
    assert len(client.ask("held")) == len(marks)


def grown(body: Body) -> bool:
    """Return whether three workers are wanted, and more than one is there: for the last there may be no room."""
    ready, desired = spark.sizes(body).get("cpu", (0, 0))
    return desired == 3 and ready > 1


def nothing_was_done_twice(tenant: Tenant) -> bool:
    """Return whether no task failed, and no stage had to be run again for what was lost."""
    stages = spark.driver(tenant, NAME, "stages")
    troubles = [(s["stageId"], s["attemptId"], s["numFailedTasks"]) for s in stages]
    assert not [each for each in troubles if any(each[1:])], troubles
    return bool(stages)
