"""One server with models of many kinds, for the tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.inference import onnx_models
from tests.support.inference.serving import Running, config, serving

MODELS = {
    "linear": onnx_models.linear(),
    "two": onnx_models.two_inputs(),
    "network": onnx_models.network(),
    "centred": onnx_models.centred(),
    "table": onnx_models.looked_up(),
    "slow": onnx_models.slow(),
    "fixed": onnx_models.identity("FLOAT", [3, 2]),
    **{f"same_{kind}": onnx_models.identity(kind) for kind in ("BOOL", "INT8", "INT64", "UINT16", "FLOAT16", "DOUBLE")},
    "same_STRING": onnx_models.identity("STRING"),
}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a server of `MODELS`, whose profile allows no uploads."""
    folder = tmp_path_factory.mktemp("serving")
    for name, model in MODELS.items():
        onnx_models.put(folder / name, model)
    onnx_models.put(folder / "linear", onnx_models.linear(scale=2), "2")
    models = [{"name": name, "version": None, "path": str(folder / name)} for name in MODELS]
    with serving(config(folder, models=models)) as found:
        yield found
