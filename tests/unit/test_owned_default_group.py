"""The plugin for the operator of dask-kubernetes fits the version that is locked."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[2] / "images" / "operator" / "owned_default_group.py"


def test_the_default_group_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = pytest.importorskip("dask_kubernetes.operator.controller.controller")
    # Put back after the test what the plugin replaces.
    monkeypatch.setattr(controller, "build_default_worker_group_spec", controller.build_default_worker_group_spec)
    adopted: list[Any] = []
    monkeypatch.setattr("kopf.adopt", adopted.append)
    runpy.run_path(str(PLUGIN))
    handler = controller.daskcluster_create_components
    group = handler.__globals__["build_default_worker_group_spec"]("zmumu", {"replicas": 0, "spec": {}}, {}, {})
    assert group["metadata"]["name"] == "zmumu-default"
    assert adopted == [group]
