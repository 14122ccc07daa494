"""Whom the agent beside the Spark master answers, and what it makes of whatever anybody says to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from af_operator.components.spark.agent import jws, spark_api
from tests.support.spark_agent import APP, BEARER, CPU, PAGE_KEY, TOKEN, Asked, Spark, profile, stage, wanted

FOLDER = Path(__file__).parents[3] / "af_operator" / "components" / "spark"
FORGED = b'{"pools": {"zmumu-spark-cpu-1a2b3c": {"keep": 0, "drain": 0}}}'
TAKEN_BY_SPARK = "eyJhbGciOiJIUzM4NCJ9.e30.rMzEYdqiKLVtBM3YnGvvO9uSbk1Ah2x2E0BhPBZBhGLKViqwr-XD6KLQyC_vIVpm"
"""By the filter of Spark 4.3's pages, with the key ``ab…ab``."""
WRONG = ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Basic {TOKEN}", "Bearer \xff"]


@pytest.mark.parametrize("shown", [None, *WRONG])
@pytest.mark.parametrize("path", ["/af/v1/pools", "/af/v1/scale", "/elsewhere"])
def test_who_does_not_show_the_token_is_not_answered(asked: Asked, spark: Spark, path: str, shown: str | None) -> None:
    spark.worker(CPU, 0)
    status, said = asked.request("POST", path, FORGED, shown)
    assert (status, said) == (401, {"error": "the session's token is needed"})
    assert spark.told == [], "nobody was told to go"
    assert asked.ask()["cpu"]["retired"] == []


def test_who_shows_it_is_answered(asked: Asked, spark: Spark) -> None:
    spark.worker(CPU, 0)
    assert asked.request("POST", "/af/v1/pools", FORGED, BEARER)[0] == 200
    assert len(spark.told) == 1


def test_in_a_pod_that_was_begun_without_tokens_everybody_is(asked: Asked, spark: Spark) -> None:
    """Its container has started again, with the code of today and the variables of then."""
    spark.key = ""
    asked.start(token="", key="")
    name = spark.worker(CPU, 0)
    status, said = asked.request("POST", "/af/v1/pools", FORGED)
    assert (status, said["pools"][CPU]["workers"]) == (200, [name])


def test_pages_are_shown_a_token_that_ends_soon(asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the address of a worker that has gone gets the next one, and has it for a minute at most."""
    spark.worker(CPU, 0)
    assert asked.ask()["cpu"]["workers"], "the imitation asks for an end"
    monkeypatch.setattr(spark_api, "VALID", -1)
    assert asked.post({"pools": {CPU: {}}})[0] == 503
    monkeypatch.undo()
    asked.start(key=PAGE_KEY[::-1])
    status, said = asked.post({"pools": {CPU: {}}})
    assert (status, "answers 403" in said["error"]) == (503, True), "nor is one that another key has signed"


def test_a_token_is_one_for_spark() -> None:
    assert jws.signed("ab" * 32) == TAKEN_BY_SPARK


def test_no_key_is_in_what_is_written_of_an_agent() -> None:
    assert PAGE_KEY not in repr(spark_api.Spark(key=PAGE_KEY))


def test_a_master_that_does_not_answer_is_not_one_without_workers(asked: Asked, spark: Spark) -> None:
    spark.instead["/json/"] = lambda: b"<html>"
    assert asked.post({"pools": {CPU: {}}})[0] == 503


DEEP = b"[" * 100_000
NONSENSE = [b"", b"null", b"7", b"{}", b"[[]]", b'[{"id": {}}]', b'"', b"\xff", DEEP, b'[{"numTasks": 1e999}]']


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("what", ["executors", "stages", "environment"])
def test_a_driver_may_say_anything(asked: Asked, spark: Spark, what: str, nonsense: bytes) -> None:
    name = spark.worker(CPU, 0)
    spark.driver(stages=[stage(1, profile=3)])
    spark.instead[f"/api/v1/applications/{APP}/{what}"] = lambda: nonsense
    assert asked.ask(cpu={"keep": 0})["cpu"]["retiring"] == [name]


def test_a_driver_may_say_any_amount(asked: Asked, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_api, "MAX_BYTES", 2000)
    spark.driver(stages=[stage(1)] * 20)
    assert wanted(asked.ask()) == {"cpu": 0}
    next_to_nothing = {"resourceProfiles": [profile(0, cpus=5e-324)]}
    spark.driver(stages=[stage(2**60), stage(10**6), stage(10**6)], environment=next_to_nothing)
    assert wanted(asked.ask(cpu={"pool": "cpu"})) == {"cpu": 10**6}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_worker_may_say_anything(asked: Asked, spark: Spark, nonsense: bytes) -> None:
    name = spark.worker(CPU, 0, cores_used=1)
    asked.ask(cpu={"keep": 0})
    master = json.dumps(spark._master()).encode()
    said = iter([master, nonsense])
    spark.instead["/json/"] = lambda: next(said)
    assert asked.ask()["cpu"]["retiring"] == [name]


@pytest.mark.parametrize(
    "worker",
    [
        7,
        {},
        {"webuiaddress": 7, "host": 7},
        {"webuiaddress": "http://[", "host": "127.0.0.1"},
        {"webuiaddress": f"http://{CPU}-worker-1:99999", "host": "127.0.0.1"},
        {"webuiaddress": f"http://{CPU}-worker-1:8081", "host": "metadata.example"},
        {"webuiaddress": f"http://{CPU}-worker-{'1' * 60}:8081", "host": "127.0.0.1"},
    ],
)
def test_a_worker_of_which_the_master_says_nonsense_is_left_out(asked: Asked, spark: Spark, worker: Any) -> None:
    name = spark.worker(CPU, 0)
    spark.workers["127.0.0.99"] = worker
    assert asked.ask()["cpu"]["workers"] == [name]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b'{"pools": {"a": {"keeep": 1}}}', b'{"pools": {"a": 7}}', b'{"pools": 7}', DEEP]
)
def test_what_is_not_understood_is_refused(asked: Asked, body: bytes) -> None:
    status, said = asked.post(body)
    assert status == 400
    assert said["error"]


def test_it_says_that_it_listens(asked: Asked, spark: Spark) -> None:
    spark.status = "STANDBY"
    assert asked.request("GET", "/health")[0] == 200
    assert asked.request("GET", "/elsewhere")[0] == 401
    assert asked.request("GET", "/elsewhere", authorization=BEARER)[0] == 404
    assert asked.post({}, "/elsewhere")[0] == 404


def test_it_runs_with_nothing_but_python() -> None:
    program = "import sys, agent.__main__; print(*(m for m in sys.modules if m.startswith('af_')))"
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
