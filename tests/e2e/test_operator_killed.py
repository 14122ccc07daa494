"""The operator dies by SIGKILL at three moments of a run: the run ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.support import operator_pod
from tests.support.audit import JOB_CONTROLLER, OPERATOR, Audit
from tests.support.tenant import DASK, HEADLESS, Tenant, poll

PROGRAM = """
import math, os, pathlib, time
import numpy as np
from af_client.models import Models
from dask.distributed import Client
mass = Models().predict("dimuon", np.array([[45, 0, 0, 45, 0, math.pi]], np.float32)).item()
print("the mass is", round(mass, 3), flush=True)
with Client() as client:
    client.wait_for_workers(1)
    print("the sum is", client.submit(sum, [20, 22]).result(), flush=True)
    time.sleep(3)
pathlib.Path(os.environ["AF_RESULTS"], "sum.txt").write_text(f"42 {mass:.1f}")
"""
RUN = {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}}
SPEC = {**HEADLESS, "run": RUN, "dask": DASK, "inference": {"models": [{"name": "dimuon"}]}}

pytestmark = pytest.mark.alone  # they kill the operator

Moment = Callable[[Tenant, Audit], object]


@pytest.fixture
def operator(tenant: Tenant) -> Iterator[str]:
    """The leading pod; another one afterwards, because the kubelet starts a container that died ever later."""
    yield poll(lambda: (pod := operator_pod.leader()) in operator_pod.ready() and pod, "an operator that leads")
    operator_pod.replace()


def while_children_are_created(tenant: Tenant, audit: Audit) -> None:
    """Some children are there, and others are not: watched in the audit log, for it is a matter of 0.1 s."""
    end = time.monotonic() + 30
    while not audit.created(OPERATOR, namespace=tenant.namespace):
        assert time.monotonic() < end, "no child was created"


def while_the_program_runs(tenant: Tenant, audit: Audit) -> None:
    """The program has said something."""
    poll(lambda: "the sum is" in tenant.kubectl("logs", "job/killed-run", check=False), "the program runs", 90)


def as_the_run_ends(tenant: Tenant, audit: Audit) -> None:
    """The pod has ended, and the Job controller is about to say so."""
    path = "jsonpath={.items[0].status.containerStatuses[0].state.terminated.exitCode}"
    tenant.wait_condition("killed", "Ready", seconds=90)
    poll(lambda: tenant.kubectl("get", "pods", "-l", "job-name=killed-run", "-o", path) == "0", "the run's end")


@pytest.mark.parametrize("moment", [while_children_are_created, while_the_program_runs, as_the_run_ends])
def test_a_run_survives_the_operators_death(tenant: Tenant, operator: str, moment: Moment) -> None:
    before = operator_pod.restarts(operator)
    with Audit() as audit:
        with operator_pod.armed(operator, signal.SIGKILL) as kill:
            tenant.apply("killed", SPEC)
            moment(tenant, audit)
            there = audit.created(OPERATOR, namespace=tenant.namespace)
            kill()
        poll(lambda: operator_pod.restarts(operator) == before + 1, "the operator's container is started again")
        tenant.wait_condition("killed", "RunComplete", reason="Succeeded", seconds=120)
        print(f"{moment.__name__}: killed after {len(there)} creations")
        _nothing_was_created_twice(tenant, audit)
    _the_run_is_recorded(tenant)


def _nothing_was_created_twice(tenant: Tenant, audit: Audit) -> None:
    ours = audit.created(OPERATOR, namespace=tenant.namespace)
    pods = audit.created(JOB_CONTROLLER, namespace=tenant.namespace)
    twice = {name: count for name, count in Counter(ours).items() if count > 1}
    assert not twice
    assert Counter(name.partition("/")[0] for name in ours) == {
        "deployments": 1,  # the scheduler
        "services": 2,  # the scheduler's, and of the models
        "pods": 2,  # a worker, and a server of models
        "configmaps": 4,  # source, log, the code of the scheduler's agent, and what the models' server is told
        "secrets": 2,  # its token, and Dask's certificates
        "roles": 3,  # who may read these, and the log
        "rolebindings": 3,
        "networkpolicies": 1,
        "jobs": 1,
    }
    assert [name.partition("/")[0] for name in pods] == ["pods"]


def _the_run_is_recorded(tenant: Tenant) -> None:
    status = tenant.session("killed")["status"]
    assert status["phase"] == "Succeeded"
    assert status["run"]["exitCode"] == 0
    assert [file["url"].rpartition("/")[2] for file in status["run"]["results"]["files"]] == ["sum.txt"]
    kept = json.loads(tenant.kubectl("get", "configmap", "killed-run-log", "-o", "json"))["data"]
    assert "the mass is 90.0" in kept["log"]
    assert "the sum is 42" in kept["log"]
