"""What is done to others' modules as they are imported, and how dask-awkward is mended."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from af_client.pod import dask_awkward, late


def test_it_is_done_once_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "awaited.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = sys.meta_path[:]
    late.when_imported("awaited", lambda module: setattr(module, "X", module.X + 1))
    assert "awaited" not in sys.modules
    assert importlib.import_module("awaited").X == 2
    assert sys.meta_path == before
    late.when_imported("awaited", lambda module: setattr(module, "X", 10))
    assert importlib.import_module("awaited").X == 10
    del sys.modules["awaited"]


class Columns(MaterializedLayer):
    """A layer of a collection's own."""


def graph(*, gathers: bool) -> HighLevelGraph:
    layers: dict[str, Any] = {"run": Columns({("run", 0): 1, ("run", 1): 2})}
    dependencies: dict[str, set[str]] = {"run": set()}
    if gathers:
        layers["finalize"] = MaterializedLayer({"finalize": (sum, [("run", 0), ("run", 1)])})
        dependencies["finalize"] = {"run"}
    return HighLevelGraph(layers, dependencies)


@pytest.mark.parametrize("gathers", [True, False])
def test_dask_awkward_sees_collections_alone(gathers: bool) -> None:
    seen: list[Any] = []

    def optimize(dsk: HighLevelGraph, keys: Any, **_: Any) -> HighLevelGraph:
        seen.append((set(dsk.layers), set(keys)))
        return dsk

    module: Any = ModuleType("dask_awkward.lib.optimize")
    module.optimize = optimize
    dask_awkward.mend(module)
    whole = graph(gathers=gathers)
    keys = ["finalize"] if gathers else [("run", 0), ("run", 1)]
    found = module.optimize(whole, keys)
    assert seen == [({"run"}, {("run", 0), ("run", 1)})]
    assert set(found.layers) == set(whole.layers)
    assert dict(found) == dict(whole)
