"""A model's configuration as Triton's clients see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from af_inference import model_config
from af_inference.errors import Unprocessable
from af_inference.repository import Repository
from af_inference.runtime import Runtime
from af_inference.served import Served
from af_inference.settings import CatalogueModel, Limits
from af_inference.sources import Files

from tests.support.inference import onnx_models


def served(folder: Path, model: Any, config: str | None = None) -> Served:
    onnx_models.put(folder / "m", model)
    if config is not None:
        (folder / "m" / model_config.FILE).write_text(config)
    repository = Repository([CatalogueModel("m", None, folder / "m")], None)
    return Files(repository, Runtime(), Limits()).load("m", None)


def test_without_a_file_it_is_the_models_own(tmp_path: Path) -> None:
    assert model_config.body(served(tmp_path, onnx_models.two_inputs()).config) == {
        "name": "m",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": model_config.ROWS,
        "input": [{"name": name, "data_type": "TYPE_FP32", "dims": ["2"]} for name in ("a", "b")],
        "output": [{"name": name, "data_type": "TYPE_FP32", "dims": ["2"]} for name in ("total", "product")],
    }


def test_what_the_file_says_is_kept_but_names_and_shapes_are_the_models(tmp_path: Path) -> None:
    text = """
      name: "m" backend: "pytorch" max_batch_size: 64
      input [{ name: "wrong" data_type: TYPE_INT8 dims: [ 7 ] }]
      dynamic_batching { max_queue_delay_microseconds: 100 }
      parameters { key: "author" value { string_value: "me" } }
    """
    config = served(tmp_path, onnx_models.linear(), text).config
    assert config.max_batch_size == 64
    assert (config.input[0].name, list(config.input[0].dims), config.backend) == ("x", [4], "onnxruntime")
    assert config.parameters["author"].string_value == "me"
    assert list(config.dynamic_batching.preferred_batch_size) == [64]  # coffea reads the first, and fails without one


@pytest.mark.parametrize(
    ("model", "most", "dims"),
    [
        (onnx_models.identity("STRING"), 0, [-1, 2]),
        (onnx_models.identity("FLOAT", [5, 2]), 5, [2]),
        (onnx_models.centred(), 0, [-1, 3]),
        (onnx_models.identity("FLOAT", []), 0, []),
    ],
)
def test_where_rows_are_not_put_together(tmp_path: Path, model: Any, most: int, dims: list[int]) -> None:
    config = served(tmp_path, model).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (most, dims)


@pytest.mark.parametrize("text", ["name: ", "nope: 1", 'name: "other"', "\0"])
def test_a_file_that_is_not_this_models_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unprocessable, match=r"config\.pbtxt of m"):
        served(tmp_path, onnx_models.linear(), text)


def test_the_file_says_that_rows_are_not_put_together(tmp_path: Path) -> None:
    assert served(tmp_path, onnx_models.linear()).batched
    other = served(tmp_path / "other", onnx_models.linear(), "max_batch_size: 1")
    assert not other.batched
