"""What the operator writes for the server is what the server reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from af_inference.settings import CatalogueModel, Settings

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("inference", "inference-gpu", "inference-url")


def written(case: str) -> Settings:
    bodies = yaml.safe_load_all((GOLDEN / case / "expected.yaml").read_text())
    [text] = [b["data"]["config.json"] for b in bodies if "config.json" in (b.get("data") or {})]
    return Settings.parse(text.encode())


@pytest.mark.parametrize("case", CASES)
def test_it_is_read(case: str) -> None:
    found = written(case)
    assert (found.http, found.grpc, found.token) == (8000, 8001, Path("/etc/inference-token/token"))


def test_models_device_store_and_backend_are_said() -> None:
    everything, gpu, url = map(written, CASES)
    assert everything.models[0] == CatalogueModel("topjet", "10", Path("/models/catalogue/topjet"))
    assert (everything.store, everything.upload, everything.device) == (Path("/models/store"), True, "cpu")
    assert (gpu.store, gpu.upload, gpu.device) == (None, False, "cuda")
    assert (url.backend, url.models) == ("triton.example.org:8001", (CatalogueModel("topjet", "3"),))
