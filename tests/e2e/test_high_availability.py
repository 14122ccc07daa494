"""Two replicas: when the one that leads dies or hangs, the other serves, and only the other."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support import operator_pod
from tests.support.audit import OPERATOR, Audit
from tests.support.tenant import HEADLESS, Tenant, poll

LEASE_SECONDS = 15

pytestmark = pytest.mark.alone  # they stop operators


@pytest.fixture(scope="module")
def two_replicas() -> Iterator[None]:
    """Two operators, one of which leads; one again afterwards."""
    operator_pod.scale(2)
    yield
    operator_pod.scale(1)


@pytest.fixture
def leader(two_replicas: None) -> str:
    """The pod that leads, while another one is ready to."""
    poll(lambda: len(operator_pod.ready()) == 2, "two operators are ready", 90)
    return poll(lambda: (pod := operator_pod.leader()) in operator_pod.ready() and pod, "one leads")


def test_another_takes_over_from_a_leader_that_is_deleted(tenant: Tenant, leader: str) -> None:
    began = time.monotonic()
    operator_pod.system("delete", "pod", leader, "--wait=false")
    tenant.apply("meanwhile", HEADLESS)
    poll(lambda: operator_pod.leader() not in (leader, ""), "another one leads", LEASE_SECONDS)
    print(f"another one leads after {time.monotonic() - began:.1f} s")
    tenant.wait_condition("meanwhile", "RunComplete", reason="Succeeded")


def test_another_takes_over_from_a_leader_that_hangs(tenant: Tenant, leader: str) -> None:
    """A stopped process gives nothing back: the Lease runs out. What it does when it wakes up must be nothing."""
    began = time.monotonic()
    old, other = operator_pod.pods()[leader], next(p for p in operator_pod.ready() if p != leader)
    with Audit() as audit, operator_pod.armed(leader, signal.SIGCONT) as wake:
        with operator_pod.armed(leader, signal.SIGSTOP) as stop:
            stop()
        tenant.apply("meanwhile", HEADLESS)
        poll(lambda: operator_pod.leader() == other, "the other one leads", 3 * LEASE_SECONDS)
        print(f"the other one leads after {time.monotonic() - began:.1f} s")
        wake()
        tenant.wait_condition("meanwhile", "RunComplete", reason="Succeeded")
        restarted = old["status"]["containerStatuses"][0]["restartCount"] + 1
        poll(lambda: operator_pod.restarts(leader) == restarted, "the one that slept has ended and started again", 60)
        poll(lambda: len(operator_pod.ready()) == 2, "it is ready to follow", 60)
        by = {w.source for w in audit.writes(OPERATOR, namespace=tenant.namespace)}
        assert by == {operator_pod.pods()[other]["status"]["podIP"]}
    assert operator_pod.leader() == other
    assert json.loads(operator_pod.system("get", "lease", operator_pod.NAME, "-o", "json"))["spec"]["leaseTransitions"]
