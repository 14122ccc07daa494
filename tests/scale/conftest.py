"""One control plane without nodes for all tests here; each has an operator of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from local_cluster.control_plane import ControlPlane, Options, control_plane
from local_cluster.progress import Progress
from tests.support.site import Site, opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the Kubernetes binary, and more time than a unit test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.control_plane)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """The API server, with the garbage collector and the end of namespaces."""
    with control_plane(Progress(Console(quiet=True)), Options(controllers=True)) as found:
        yield found


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, plane: ControlPlane) -> Iterator[Site]:
    """What is stored there: nothing but a catalogue, at the beginning of each file of tests."""
    with opened(plane, getattr(request.module, "ENGINE", "Native")) as found:
        yield found
