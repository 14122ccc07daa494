"""How many workers the agent beside the Spark master wants, and when something was computed last."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from af_operator.components.spark.agent import agent as memory
from tests.support.spark_agent import APP, CPU, GPU, MIB, Asked, Spark, executor, profile, stage, wanted


def test_tasks_that_have_not_ended_want_workers(asked: Asked, spark: Spark) -> None:
    driver = spark.driver(stages=[stage(7, done=2, seconds=9.0), stage(1)])
    spark.driver("app-2", stages=[stage(2)])
    pool = {"pool": "cpu", "most": 9, "quiet": 0.0}
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 8}
    assert wanted(asked.ask(cpu=pool | {"threads": 3})) == {"cpu": 3}
    assert wanted(asked.ask(cpu=pool | {"leaving": True})) == {"cpu": 0}
    driver["stages"] = [stage(1000, done=500, seconds=0.05)]
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 7}, "many short ones need not each have a slot"
    spark.drivers.clear()
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 0}


def test_less_is_wanted_after_the_quiet_time_only(asked: Asked, spark: Spark) -> None:
    driver = spark.driver(stages=[stage(4)])
    assert wanted(asked.ask(cpu={"quiet": 3600.0})) == {"cpu": 4}
    driver["stages"] = []
    assert wanted(asked.ask(cpu={"quiet": 3600.0})) == {"cpu": 4}
    assert wanted(asked.ask(cpu={"quiet": 0.0})) == {"cpu": 0}


def test_what_one_pool_cannot_do_is_wanted_of_the_next_like_it(asked: Asked, spark: Spark) -> None:
    spark.driver(stages=[stage(5)])
    first, next_one = {"pool": "cpu", "most": 3, "quiet": 0.0}, {"pool": "gpu", "most": 9, "quiet": 0.0}
    assert wanted(asked.ask(cpu=first, gpu=next_one)) == {"cpu": 5, "gpu": 2}
    assert wanted(asked.ask(cpu=first | {"most": 5}, gpu=next_one)) == {"cpu": 5, "gpu": 0}
    assert wanted(asked.ask(cpu=first, gpu=next_one | {"resources": {"GPU": 1}})) == {"cpu": 5, "gpu": 0}


def test_what_a_pool_of_a_fixed_size_can_do_is_wanted_of_nobody_else(asked: Asked, spark: Spark) -> None:
    spark.worker(GPU, 0)
    spark.driver(stages=[stage(5)])
    elastic, fixed = {"pool": "cpu", "most": 9, "quiet": 0.0}, {"threads": 2}
    assert wanted(asked.ask(cpu=elastic, gpu=fixed))["cpu"] == 3


def test_tasks_that_ask_for_gpus_want_the_pool_that_has_them(asked: Asked, spark: Spark) -> None:
    profiles = {"resourceProfiles": [profile(0, cpus=2.0), profile(1, cpus=1.0, gpu=0.5), profile(2, fpga=1.0)]}
    spark.driver(stages=[stage(8), stage(6, profile=1), stage(99, profile=2)], environment=profiles)
    cpu, gpu = {"pool": "cpu", "most": 9, "threads": 4}, {"pool": "gpu", "most": 9, "threads": 4}
    assert wanted(asked.ask(cpu=cpu, gpu=gpu | {"resources": {"GPU": 1}})) == {"cpu": 4, "gpu": 3}


def test_workers_stay_that_hold_cached_blocks(asked: Asked, spark: Spark) -> None:
    for number in range(4):
        spark.worker(CPU, number, cores_used=1)
    blocks = [executor(number, memoryUsed=30 * MIB, rddBlocks=2) for number in range(4)]
    driver = spark.driver(executors=blocks)
    pool = {"quiet": 0.0}
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 3}
    driver["executors"] = [each | {"memoryUsed": 90 * MIB} for each in blocks]
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 4}, "more workers would not change where they are"
    driver["executors"] = [each | {"rddBlocks": 0} for each in blocks]
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 0}, "what is there are copies of what the driver has"


def test_who_works_in_the_session_says_how_many(asked: Asked) -> None:
    pools: dict[str, dict[str, Any]] = {"cpu": {}, "gpu": {"pool": "gpu"}}
    asked.ask(**pools)
    for workers, found in ((2, 2), (10**9, 10**6), (None, 0)):
        assert asked.post({"pool": "gpu", "workers": workers}, "/af/v1/scale") == (200, {})
        assert asked.ask(**pools)["gpu"]["wanted"] == found
    status, said = asked.post({"pool": "cpu", "workers": 2}, "/af/v1/scale")
    assert status == 400
    assert "`af scale`" in said["error"]
    for wrong in (-1, "2", True, 1.5):
        assert asked.post({"pool": "gpu", "workers": wrong}, "/af/v1/scale")[0] == 400


def test_an_executor_of_which_no_driver_speaks_may_run_anything(asked: Asked, spark: Spark) -> None:
    names = [spark.worker(CPU, number, cores_used=1) for number in range(3)]
    spark.driver(executors=[executor(1, memoryUsed=99), executor(2)])
    spark.drivers["app-20260101000000-0001"] = {}  # it does not answer: the third executor may be its own
    asked.agent._active = 600.5
    found = asked.ask(cpu={"keep": 1, "quiet": 0.0})["cpu"]
    assert (found["wanted"], found["retiring"]) == (1, names[1:])
    assert asked.said["active"] > 600


def test_an_executor_that_has_only_just_started_goes_before_one_that_holds_blocks(asked: Asked, spark: Spark) -> None:
    """Were it thought busy until its driver speaks of it, who holds blocks would go before it can take any."""
    names = [spark.worker(CPU, number, cores_used=1) for number in range(3)]
    spark.driver(executors=[executor(1, memoryUsed=99)])
    found = asked.ask(cpu={"keep": 1, "quiet": 0.0})["cpu"]
    assert found["retiring"] == [names[0], names[2]]


def test_a_driver_of_which_the_master_does_not_say_where_it_is_is_the_connect_server(
    asked: Asked, spark: Spark
) -> None:
    spark.driver(stages=[stage(3)])
    spark.instead["/app/"] = lambda: b'<a href="http://127.0.0.1.example:4040">Application Detail UI</a>'
    assert wanted(asked.ask()) == {"cpu": 0}
    asked.start(connect=f"http://127.0.0.1:{spark.port}")
    assert wanted(asked.ask()) == {"cpu": 3}


@pytest.mark.parametrize(
    ("before", "after", "active"),
    [
        ({}, {}, False),
        ({}, {"stages": [stage(1)]}, True),
        ({}, {"executors": [executor(0, running=1)]}, True),
        ({}, {"executors": [executor(0, totalTasks=1)]}, True),
        ({"executors": [executor(0, totalTasks=1)]}, {"executors": [executor(0, totalTasks=1)]}, False),
        ({"executors": [executor(0, totalTasks=1)]}, {"executors": [executor(0, totalTasks=2)]}, True),
        ({"executors": [executor(0, totalTasks=1)]}, {"executors": []}, False),
    ],
)
def test_it_is_told_when_something_was_computed_last(
    asked: Asked, spark: Spark, before: dict[str, Any], after: dict[str, Any], active: bool
) -> None:
    spark.driver(**before)
    asked.ask()
    asked.agent._active = 600.5
    spark.driver(**after)
    asked.ask()
    found = asked.said["active"]
    assert found % 300 == 0
    assert (time.time() - found < 600) if active else found == 600


def test_what_a_driver_said_last_stands_while_it_does_not_answer(
    asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes while driver and worker still hang: they are let go by the end of the test only."""
    monkeypatch.setattr(memory, "SECONDS", 0.2)
    name = spark.worker(CPU, 0, cores_used=1)
    spark.driver(stages=[stage(4)], executors=[executor(0)])
    pool = {"pool": "cpu", "most": 9, "quiet": 0.0}
    assert wanted(asked.ask(cpu=pool)) == {"cpu": 4}
    end = threading.Event()

    def hang() -> bytes:
        end.wait(60)
        return b"[]"

    spark.instead[f"/api/v1/applications/{APP}/executors"] = hang
    found = asked.ask(cpu=pool | {"keep": 0})["cpu"]
    assert (found["wanted"], found["retiring"]) == (4, [name])
    end.set()


def test_drivers_are_not_asked_each_time(asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PACE", 3600.0)
    spark.driver(stages=[stage(1)])
    for _ in range(2):
        assert wanted(asked.ask(cpu={"quiet": 0.0})) == {"cpu": 1}
        spark.drivers[APP]["stages"] = [stage(9)]
