"""Which workers go, which have gone, and which were lost, as the agent beside the Spark master says."""

from __future__ import annotations

import json
import threading

import pytest

from af_operator.components.spark.agent import agent as memory
from tests.support.spark_agent import CPU, GPU, MIB, Asked, Spark, executor


def test_idle_workers_go_first_and_then_those_that_hold_least(asked: Asked, spark: Spark) -> None:
    names = [spark.worker(CPU, number, cores_used=1) for number in range(5)]
    busy, cached, shuffled, little = (
        executor(0, running=1),
        executor(1, memoryUsed=9 * MIB, rddBlocks=1),
        executor(2, diskUsed=MIB, totalShuffleWrite=9 * MIB),
        executor(3, memoryUsed=MIB),
    )
    spark.driver(executors=[busy, cached, shuffled, little, executor(4)])
    for keep, gone in ((4, {4}), (3, {3, 4}), (2, {1, 3, 4}), (1, {1, 2, 3, 4})):
        found = asked.ask(cpu={"keep": keep})["cpu"]
        assert found["retiring"] == [names[number] for number in sorted(gone)]
    assert [len(hosts) for hosts in spark.told] == [1, 1, 1, 1]
    assert asked.ask(cpu={"keep": 5})["cpu"]["retiring"] == names[1:], "it cannot be taken back"
    assert len(spark.told) == 4, "nobody is told twice"
    assert found["workers"] == names


def test_only_those_of_the_pool_go(asked: Asked, spark: Spark) -> None:
    cpu, gpu = spark.worker(CPU, 0), spark.worker(GPU, 1)
    spark.worker("other", 2)
    found = asked.ask(cpu={"keep": 0}, gpu={"keep": 1})
    assert found["cpu"]["retiring"] == [cpu]
    assert (found["gpu"]["workers"], found["gpu"]["retiring"]) == ([gpu], [])
    assert spark.told == [["127.0.0.10"]]


def test_retired_is_who_has_no_executor_left(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    assert asked.ask(cpu={"keep": 0, "quiet": 0.0})["cpu"] == {
        "wanted": 0,
        "workers": [name],
        "retiring": [name],
        "retired": [],
        "stuck": [],
    }
    spark.let_executors_end(0)
    assert asked.ask()["cpu"]["retired"] == [name]
    spark.set_state(0, "DEAD")
    found = asked.ask()["cpu"]
    assert (found["retired"], found["workers"]) == ([name], []), "its pod may still be there"
    assert asked.said["lost"] == 0


def test_who_comes_again_under_its_name_is_a_new_one(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    spark.set_state(0, "DEAD")
    assert asked.ask()["cpu"]["retired"] == [name], "what it held went with it"
    spark.workers["before"] = spark.workers["127.0.0.10"]
    spark.worker(CPU, 0, start=1)
    found = asked.ask()["cpu"]
    assert (found["workers"], found["retiring"], found["retired"]) == ([name], [], [])


def test_another_one_at_its_address_does_not_speak_for_it(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    spark.instead["/json/"] = lambda: json.dumps(
        {"id": "worker-other", "executors": [], "status": "ALIVE", "workers": list(spark.workers.values())}
    ).encode()
    found = asked.ask()["cpu"]
    assert (found["retiring"], found["retired"]) == ([name], [])


def test_after_its_time_a_worker_is_retired_whatever_it_runs(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0, "drain": 3600.0})
    assert asked.ask(cpu={"keep": 0, "drain": 3600.0})["cpu"]["retiring"] == [name]
    assert asked.ask(cpu={"keep": 0, "drain": 0.0})["cpu"]["retired"] == [name]


def test_an_agent_that_starts_again_learns_from_the_master_who_goes(asked: Asked, spark: Spark) -> None:
    names = [spark.worker(CPU, number, cores_used=1) for number in range(3)]
    asked.ask(cpu={"keep": 2})
    asked.start()
    assert asked.ask(cpu={"keep": 2})["cpu"]["retiring"] == [names[0]]
    assert len(spark.told) == 1


def test_a_master_that_starts_again_is_told_again(asked: Asked, spark: Spark) -> None:
    """Spark gives such workers executors again, which they do not start: whatever waits for them waits for ever."""
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    spark.status = "RECOVERING"
    status, said = asked.post({"pools": {CPU: {"keep": 0}}})
    assert status == 503
    assert "workers" in said["error"]
    spark.status = "ALIVE"
    spark.set_state(0, "ALIVE")
    assert asked.ask()["cpu"]["retiring"] == [name]
    assert spark.told == [["127.0.0.10"], ["127.0.0.10"]]
    assert asked.said["lost"] == 0


def test_who_could_not_be_told_does_not_go(asked: Asked, spark: Spark) -> None:
    name = spark.worker(CPU, 0)
    spark.refused = 405
    assert asked.ask(cpu={"keep": 0})["cpu"]["retiring"] == []
    spark.refused = 0
    assert asked.ask(cpu={"keep": 0})["cpu"]["retiring"] == [name]


def test_a_worker_that_is_not_there_yet_is_not_lost(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    asked.ask()
    known = spark.workers.copy()
    spark.workers.clear()
    asked.ask()
    spark.workers.update(known)
    asked.ask()
    assert asked.said["lost"] == 0


def test_lost_is_who_ends_without_having_been_told(asked: Asked, spark: Spark) -> None:
    for number in range(3):
        spark.worker(CPU, number)
    spark.set_state(2, "DEAD")
    asked.ask()
    assert asked.said["lost"] == 0, "nobody has seen it alive"
    spark.set_state(0, "DEAD")
    asked.ask()
    spark.worker(CPU, 1, start=1)
    asked.ask()
    asked.ask()
    assert asked.said["lost"] == 2


def test_who_comes_and_dies_while_nobody_asks_is_lost_too(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    asked.agent.look()
    spark.worker(CPU, 0, start=1)
    asked.agent.look()
    spark.set_state(0, "DEAD")
    asked.ask()
    assert asked.said["lost"] == 2


def test_it_looks_by_itself_and_on_where_the_master_was_away(
    asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOOK_EVERY", 0.01)
    ended, looked = threading.Event(), threading.Event()
    looking = threading.Thread(target=asked.agent.keep_looking, args=(ended,))

    def away() -> bytes:
        looked.set()
        return b"<html>"

    spark.instead["/json/"] = away
    try:
        looking.start()
        assert looked.wait(20)
        looked.clear()
        assert looked.wait(20), "it goes on"
    finally:
        ended.set()
        looking.join(20)
    assert not looking.is_alive()


def test_whoever_is_told_to_go_is_not_lost_whoever_looks(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    asked.ask(cpu={"keep": 0})
    asked.agent.look()
    spark.set_state(0, "DEAD")
    asked.agent.look()
    asked.ask()
    assert asked.said["lost"] == 0
