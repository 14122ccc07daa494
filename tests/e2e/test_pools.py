"""Pools of a live session change as its spec, its tasks or the world do."""

from __future__ import annotations

import time
from signal import Signals

from tests.support import signals
from tests.support.audit import OPERATOR, Audit, all_told
from tests.support.pools import pools, settled, start_holding, stop, workers
from tests.support.tenant import Tenant, condition, kubectl, poll


def test_an_elastic_pool_costs_nothing_while_nothing_changes(tenant: Tenant) -> None:
    cpu = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 4}}
    with Audit() as before:
        tenant.apply("calm", {"user": "admin", "mode": "Interactive", "dask": {"pools": [cpu]}})
        tenant.wait_condition("calm", "Ready")
        poll(lambda: all_told(before, tenant.namespace), "no status is held back any more")
    with Audit() as audit:
        begin = time.monotonic()
        poll(lambda: time.monotonic() - begin > 10, "ten seconds in which the scheduler is asked five times", 20)
        assert audit.writes(OPERATOR, namespace=tenant.namespace) == []


def test_another_shape_replaces_workers_new_before_old(tenant: Tenant) -> None:
    start_holding(tenant, "reshape", pools((2, 2), (1, 1)))
    before = workers(tenant, "cpu")
    changed = pools((2, 2), (1, 1))
    changed["pools"][0]["size"] = "medium"
    tenant.patch("reshape", dask=changed)
    fewest = 9

    def replaced() -> bool:
        nonlocal fewest
        now = workers(tenant, "cpu")
        fewest = min(fewest, len(now))
        return len(now) == 2 and not set(now) & set(before)

    poll(replaced, "both workers are of the other size", 120)
    assert fewest == 2, "never fewer than asked for"
    stop(tenant, "reshape")


def test_a_removed_pool_goes_and_a_new_one_comes(tenant: Tenant) -> None:
    start_holding(tenant, "swap", pools((1, 1), (1, 1)))
    shape = {"nodePool": "cpu", "size": "small", "workers": {"min": 1, "max": 1}}
    tenant.patch("swap", dask={"pools": [{"name": "cpu", **shape}, {"name": "third", **shape}]})
    settled(tenant, "swap", cpu=1, third=1)
    poll(lambda: not workers(tenant, "other"), "the workers of the removed pool are gone", 90)
    stop(tenant, "swap")


def test_a_lost_scheduler_is_said(tenant: Tenant) -> None:
    tenant.apply("lost", {"user": "admin", "mode": "Interactive", "dask": pools((1, 1), (1, 1))})
    tenant.wait_condition("lost", "Ready")
    tenant.kubectl("delete", "pod", "-l", "analysisfacility.io/role=scheduler", "--wait=false")
    found = tenant.wait_condition("lost", "SchedulerLost", seconds=60)
    assert found["reason"] == "Replaced"
    assert "is lost" in found["message"]
    tenant.wait_condition("lost", "Ready", seconds=120)
    events = kubectl("get", "events", "-n", tenant.namespace, "--field-selector=type=Warning")
    assert "the Dask scheduler was lost" in events


def test_a_silent_scheduler_keeps_its_workers(tenant: Tenant) -> None:
    tenant.apply("silent", {"user": "admin", "mode": "Interactive", "dask": pools((2, 2), (0, 0))})
    tenant.wait_condition("silent", "Ready")
    signals.send(tenant.namespace, "deployment/silent-scheduler", "scheduler", Signals.SIGSTOP)
    tenant.patch("silent", dask=pools((1, 1), (0, 0)))
    tenant.wait("silent", lambda body: "does not answer" in condition(body, "DaskReady").get("message", ""), 60)
    assert len(workers(tenant, "cpu")) == 2
    signals.send(tenant.namespace, "deployment/silent-scheduler", "scheduler", Signals.SIGCONT)
    settled(tenant, "silent", cpu=1, other=0)
