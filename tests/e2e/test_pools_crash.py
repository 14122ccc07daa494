"""The operator dies before and after each of its writes while a pool shrinks: the same end, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.api_proxy import ApiProxy, When
from tests.support.audit import DASK_OPERATOR, OPERATOR, Audit
from tests.support.catalogue import profile
from tests.support.friends import befriend_machine
from tests.support.operator_process import OperatorProcess, instead_of_the_pods
from tests.support.pools import pools, settled, sizes, start_holding, stop, workers
from tests.support.tenant import Tenant, poll

NAME = "crash"
POOL = "analysisfacility.io/pool"
MANY, FEW = {"cpu": 3, "other": 1}, {"cpu": 1, "other": 1}
Operator = tuple[ApiProxy, OperatorProcess]


@pytest.fixture
def operator() -> Iterator[Operator]:
    with instead_of_the_pods() as (proxy, process):
        yield proxy, process


@pytest.fixture(params=["Native", "DaskKubernetes"])
def catalogue(request: pytest.FixtureRequest) -> Iterator[str]:
    """A profile under each engine."""
    with profile(dask={"engine": request.param}) as own:
        yield own


def resize(tenant: Tenant, sizes: dict[str, int]) -> None:
    tenant.patch(NAME, dask=pools(*((number, number) for number in sizes.values())))


def quiet(tenant: Tenant) -> bool:
    """Return whether the shrink is over: workers, what the Dask operator is told of them, and the status say so."""
    wanted = {pool: (number, number) for pool, number in FEW.items()}
    there = {pool: len(workers(tenant, pool)) for pool in FEW}
    return there == FEW and told(tenant) in ({}, FEW) and sizes(tenant.session(NAME)) == wanted


def told(tenant: Tenant) -> dict[str, int]:
    """Return how many workers of each pool the Dask operator is told of, where there are its groups."""
    found = json.loads(tenant.kubectl("get", "daskworkergroups", "-l", POOL, "-o", "json"))["items"]
    return {group["metadata"]["labels"][POOL]: group["spec"]["worker"]["replicas"] for group in found}


@pytest.mark.alone  # it kills an operator of its own, and there can be one only
@pytest.mark.timeout(900)
def test_a_shrink_survives_a_death_at_each_write(tenant: Tenant, operator: Operator, catalogue: str) -> None:
    proxy, process = operator
    befriend_machine(tenant)
    process.start()
    start_holding(tenant, NAME, pools((3, 3), (1, 1)), profile=catalogue)
    settled(tenant, NAME, **MANY)
    before = len(proxy.writes)
    resize(tenant, FEW)
    poll(lambda: quiet(tenant), "the end of the shrink", 90)
    writes = [str(write) for write in proxy.writes[before:]]
    print("one shrink:", *writes, sep="\n  ")
    died = 0
    for number in range(1, len(writes) + 1):
        for when in ("before", "after"):
            died += shrink(tenant, operator, number, when)
    assert died >= len(writes), "most of the deaths came"
    log = stop(tenant, NAME)
    assert "again 0" in log
    print(f"{died} deaths, {len(writes)} writes in a shrink; {log.strip().splitlines()[-1]}")


def shrink(tenant: Tenant, operator: Operator, number: int, when: When) -> bool:
    """Grow, shrink, die at a write of the shrink, come back; return whether it died."""
    proxy, process = operator
    resize(tenant, MANY)
    settled(tenant, NAME, **MANY)
    with Audit() as audit:
        proxy.at(len(proxy.writes) + number, when, process.kill)
        resize(tenant, FEW)
        poll(lambda: proxy.sprung.is_set() or quiet(tenant), f"write {number} or the end of the shrink", 90)
        died = proxy.sprung.is_set()
        if died:
            process.wait()
            process.start()
        poll(lambda: quiet(tenant), f"the same end after a death {when} write {number}", 90)
        proxy.at(0, when, process.kill)  # one that did not come to that write is not to die later
        assert process.running()
        created = audit.created(OPERATOR, DASK_OPERATOR, namespace=tenant.namespace)
        assert created == [], f"death {when} write {number}: workers were made in a shrink"
    return died
