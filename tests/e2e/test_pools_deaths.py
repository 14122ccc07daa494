"""Workers die, or go unheard, while a session holds results: they come back, and what is computed stays right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
from kubernetes import client

from tests.support import signals
from tests.support.catalogue import profile
from tests.support.pools import pools, settled, workers
from tests.support.programs import survivors
from tests.support.tenant import Body, Tenant, condition, poll

NAME = "deaths"
PROGRAM = Path(survivors.__file__).read_text()
SILENCE = 15
DRAIN = 1
POD = "analysisfacility.io/role=worker"


def start(tenant: Tenant, name: str, workers: int, **more: object) -> None:
    spec = {"user": "admin", "mode": "Interactive", "dask": pools((workers, workers), (0, 0)), **more}
    tenant.apply(name, spec)
    tenant.wait_condition(name, "Ready")


def compute(tenant: Tenant, name: str, *what: str) -> Any:
    """Let the program do something in the scheduler's pod; return what it says."""
    where = ("-i", f"deployment/{name}-scheduler", "--container=scheduler")
    said = tenant.kubectl("exec", *where, "--", "python", "-", *what, stdin=PROGRAM)
    return json.loads(said.splitlines()[-1])


def worker_pods(tenant: Tenant, name: str) -> dict[str, str]:
    """Return the names of a session's workers that are ready, which are those of their pods, with the pod's uid."""
    labels = f"{POD},analysisfacility.io/session={name}"
    found = json.loads(tenant.kubectl("get", "pods", "-l", labels, "-o", "json"))
    ready = [p for p in found["items"] if "deletionTimestamp" not in p["metadata"] and is_ready(p)]
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in ready}


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


@pytest.fixture(scope="module")
def two_workers(shared_tenant: Tenant) -> Iterator[Tenant]:
    """A session with two workers, for all that die by themselves."""
    start(shared_tenant, NAME, 2)
    yield shared_tenant
    shared_tenant.kubectl("delete", "analysissession", NAME)


@pytest.mark.parametrize("way", ["too much memory", "its container ends"])
def test_a_worker_that_a_task_ends_comes_back(two_workers: Tenant, way: str) -> None:
    before = compute(two_workers, NAME, "hold")
    victim = before["victim"]
    assert compute(two_workers, NAME, "die", victim, way) == 7, "once it has died, its task runs anew"
    assert victim in compute(two_workers, NAME, "workers", "2"), "it is back under its name"
    settled(two_workers, NAME, cpu=2)
    lost_what_it_had_and_no_more(compute(two_workers, NAME, "check"), before)
    print(how_it_ended(two_workers, victim))


def how_it_ended(tenant: Tenant, worker: str) -> list[str]:
    restarts = tenant.kubectl("get", "pod", worker, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
    log = tenant.kubectl("logs", worker, "--container=worker")
    return [f"{restarts} restarts", *re.findall(r"(?:Worker process \d+ was killed|exceeded \d+% memory).*", log)]


def evict(tenant: Tenant, pod: str) -> None:
    body = {"metadata": {"name": pod, "namespace": tenant.namespace}}
    client.CoreV1Api(tenant.api).create_namespaced_pod_eviction(pod, tenant.namespace, body)


def delete(tenant: Tenant, pod: str) -> None:
    tenant.kubectl("delete", "pod", pod, "--wait=false")


@pytest.mark.parametrize("end", [evict, delete])
def test_a_worker_whose_pod_is_taken_is_replaced(two_workers: Tenant, end: Callable[[Tenant, str], None]) -> None:
    before = compute(two_workers, NAME, "hold")
    victim = before["victim"]
    end(two_workers, victim)
    poll(lambda: len(worker_pods(two_workers, NAME).keys() - {victim}) == 2, "another worker is ready", 60)
    settled(two_workers, NAME, cpu=2)
    lost_what_it_had_and_no_more(compute(two_workers, NAME, "check"), before)


def lost_what_it_had_and_no_more(after: Body, before: Body) -> None:
    assert after["right"], "every result, also those that were computed again"
    assert after["again"], "something was lost with it"
    assert before["kept"], "others had some"
    assert not set(after["again"]) & set(before["kept"]), "what others had was not lost"


def test_a_silent_scheduler_is_waited_for_until_the_deadline_that_the_profile_sets(tenant: Tenant) -> None:
    # With an elastic pool it is asked all the time, and not only from when a pool is too large.
    gpu = {"name": "gpu", "nodePool": "gpu", "size": "gpu", "gpusPerWorker": 1, "workers": {"min": 0, "max": 1}}
    many, few = ({"pools": [*pools((n, n), (0, 0))["pools"], gpu]} for n in (2, 1))
    with profile(scaling={"silenceSeconds": SILENCE, "drainSeconds": 60, "quietSeconds": 30}) as own:
        start(tenant, "silent", 2, profile=own, dask=many)
        compute(tenant, "silent", "hold")
        signals.send(tenant.namespace, "deployment/silent-scheduler", "scheduler", Signals.SIGSTOP)
        tenant.patch("silent", dask=few)
        message = dask_says(tenant, "silent", "no worker is removed until it does")
        until = re.findall(r"from (\d\d:\d\d:\d\d UTC) on workers go without its word", message)[0]
        deadline = clock(until)
        assert timedelta(seconds=0) < deadline - datetime.now(UTC) <= timedelta(seconds=SILENCE)
        poll(lambda: len(workers(tenant, "cpu")) < 2, "a worker goes without the scheduler's word", SILENCE + 15)
        assert datetime.now(UTC) >= deadline
        assert "suspend and resume" in dask_says(tenant, "silent", f"since {until} workers go without its word")
        poll(lambda: len(worker_pods(tenant, "silent")) == 1, "its pod is gone", 60)
        assert len(workers(tenant, "cpu")) == 1, "no more than the one that is too many"
        signals.send(tenant.namespace, "deployment/silent-scheduler", "scheduler", Signals.SIGCONT)
        tenant.wait("silent", lambda s: "does not answer" not in condition(s, "DaskReady")["message"], 60, "good again")
        tenant.wait_condition("silent", "Ready")
        assert compute(tenant, "silent", "check")["right"], "what was lost was computed again"


def dask_says(tenant: Tenant, name: str, words: str) -> str:
    body = tenant.wait(name, lambda s: words in condition(s, "DaskReady").get("message", ""), 60, words)
    message = str(condition(body, "DaskReady")["message"])
    print(message)
    return message


def clock(time: str) -> datetime:
    return datetime.combine(datetime.now(UTC).date(), datetime.strptime(time, "%H:%M:%S UTC").time(), UTC)


def test_removed_workers_do_not_count_as_failures_of_the_tasks_that_they_ran(tenant: Tenant) -> None:
    with profile(scaling={"drainSeconds": DRAIN, "quietSeconds": 30, "silenceSeconds": 600}) as own:
        start(tenant, "planned", 2, profile=own)
        compute(tenant, "planned", "begin_without_end")
        for _ in range(3):
            before = set(workers(tenant, "cpu"))
            tenant.patch("planned", dask=pools((1, 1), (0, 0)))
            settled(tenant, "planned", cpu=1, other=0)
            tenant.patch("planned", dask=pools((2, 2), (0, 0)))
            settled(tenant, "planned", cpu=2, other=0)
            assert compute(tenant, "planned", "running", "2") == [0, 0], "each runs somewhere, and has not failed"
            assert set(workers(tenant, "cpu")) != before
        assert compute(tenant, "planned", "end") == [0, 1]
