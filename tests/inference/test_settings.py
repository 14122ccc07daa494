"""What the configuration may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from af_inference.settings import CatalogueModel, InvalidSettings, Settings

WHOLE = {
    "host": "127.0.0.1",
    "http": 8000,
    "grpc": 8001,
    "base": "",
    "token": "/etc/inference-token/token",
    "models": [{"name": "topjet", "version": "3", "path": "/models/catalogue/topjet"}],
    "store": "/models/store",
    "upload": True,
    "threads": 1,
    "device": "cpu",
    "backend": None,
    "limits": {},
}


def parsed(**settings: Any) -> Settings:
    return Settings.parse(json.dumps(settings).encode())


def test_everything_can_be_said() -> None:
    settings = parsed(**WHOLE)
    assert settings.models == (CatalogueModel("topjet", "3", Path("/models/catalogue/topjet")),)
    assert settings.store == Path("/models/store")
    assert settings.backend is None


def test_models_of_a_backend_have_no_path() -> None:
    assert parsed(backend={"grpc": "triton:8001"}, models=[{"name": "topjet"}]).backend == "triton:8001"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modles": []}, "unknown fields: modles"),
        ({"http": "8000"}, "http must be a whole number"),
        ({"upload": "yes"}, "upload must be true or false"),
        ({"upload": True}, "upload needs a store"),
        ({"upload": True, "store": "/s", "backend": {"grpc": "t:1"}}, "upload needs a store"),
        ({"device": "tpu"}, "device must be cpu or cuda"),
        ({"base": "models/"}, "base must begin with a slash"),
        ({"models": [{"name": "topjet"}]}, "have no path: topjet"),
        ({"models": [{"version": "1"}]}, "a model must have a name"),
        ({"models": [{"name": "a", "version": 3, "path": "/a"}]}, "version must be a string"),
        ({"models": {}}, "models must be a list"),
        ({"limits": {"rows": 0}}, "limits must be whole numbers above 0: rows"),
        ({"limits": {"row": 1}}, "limits has unknown fields: row"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"backend": {"http": "t:1"}}, "backend must be"),
    ],
)
def test_what_cannot_be_used_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        parsed(**settings)


def test_no_json_is_said() -> None:
    with pytest.raises(InvalidSettings, match="no JSON"):
        Settings.parse(b"{")
