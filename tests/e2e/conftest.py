"""The facility as an admin installs it, a tenant for each test, and what is needed to understand a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cluster import facility as demo
from local_cluster.progress import Progress
from tests.support.tenant import Tenant, dump


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the cluster, and more time than a unit test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def facility() -> demo.Facility:
    """Chart, tenant `physics`, origin and catalogue; idempotent, shared by all tests."""
    return demo.install(Progress())


@pytest.fixture
def tenant(facility: demo.Facility, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A namespace of this test, with its own user; gone afterwards."""
    found = Tenant.create(facility)
    yield found
    if request.node.stash.get(FAILED, False):
        dump(found)
    found.delete()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
