"""The facility as an admin installs it, a tenant for each test, and what is needed to understand a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from kubernetes import config

from local_cluster import facility as demo
from local_cluster.progress import Progress
from local_cluster.settings import KUBECONFIG
from tests.support.browser import Browser
from tests.support.hub_place import Hub
from tests.support.tenant import Tenant, dump, poll


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the cluster, and more time than a unit test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def facility() -> demo.Facility:
    """Chart with both engines of Dask, tenant, origin and catalogue; idempotent, shared by all tests of all workers."""
    return demo.install(Progress(), dask_operator=True)


@pytest.fixture
def tenant(facility: demo.Facility) -> Iterator[Tenant]:
    """A namespace of this test, gone afterwards."""
    found = Tenant.create(facility)
    yield found
    found.delete()


@pytest.fixture(scope="module")
def shared_tenant(facility: demo.Facility) -> Iterator[Tenant]:
    """A namespace for all tests of a file."""
    found = Tenant.create(facility)
    yield found
    found.delete()


@pytest.fixture(scope="session")
def hub(facility: demo.Facility) -> Hub:
    """The demo's JupyterHub, which lets in who knows the password, by whatever name."""
    found = Hub(facility.hub, facility.hub_password)
    poll(found.answers, "JupyterHub answers")
    return found


@pytest.fixture(scope="session")
def physics(facility: demo.Facility) -> Tenant:
    """The demo's own tenant, in whose namespace the Hub puts its users' sessions."""
    return Tenant(demo.TENANT, config.new_client_from_config(str(KUBECONFIG)), facility)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what there is in a failed test's namespaces into its report, before they go."""
    report = yield
    if report.failed:
        tenants = {t.namespace: t for t in item.funcargs.values() if isinstance(t, Tenant)}
        report.sections += [(f"namespace {name}", dump(tenant)) for name, tenant in tenants.items()]
        windows = [w for w in item.funcargs.values() if isinstance(w, Browser)]
        if report.when == "call":  # after that they are closed, and asking one would end the whole run
            report.sections += [("browser", window.describe()) for window in windows]
    return report
