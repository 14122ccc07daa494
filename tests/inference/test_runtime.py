"""Models in ONNX Runtime: what is loaded, what is refused, what they answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from af_inference.errors import Failed, Invalid, Unprocessable
from af_inference.runtime import PROVIDERS, OnnxModel, Runtime
from af_inference.settings import InvalidSettings, Settings
from af_inference.trial import answer_once, rows_are_independent

from tests.support.inference import onnx_models


def loaded(folder: Path, model: onnx.ModelProto) -> OnnxModel:
    return Runtime().load("m", "1", onnx_models.put(folder, model))


def test_a_model_says_what_it_takes_and_answers(tmp_path: Path) -> None:
    model = loaded(tmp_path, onnx_models.two_inputs())
    assert [tensor.body() for tensor in model.inputs] == [
        {"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("a", "b")
    ]
    a = np.array([[1, 2]], np.float32)
    assert model.run({"a": a, "b": a}, ["product"])["product"].tolist() == [[1, 4]]
    assert model.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08" * 100])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(Unprocessable, match=r"cannot be loaded|does not answer"):
        answer_once(Runtime().load("m", "1", file))


def test_a_model_may_have_so_many_bytes(tmp_path: Path) -> None:
    file = onnx_models.put(tmp_path, onnx_models.linear())
    with pytest.raises(Unprocessable, match="may have 10"):
        Runtime(model_bytes=10).load("m", "1", file)


def test_weights_may_lie_beside_the_model(tmp_path: Path) -> None:
    file = onnx_models.put(tmp_path, onnx_models.external("weights.bin"))
    (file.parent / "weights.bin").write_bytes(np.full(4, 2, np.float32).tobytes())
    model = Runtime().load("m", "1", file)
    assert model.run({"x": np.ones((1, 4), np.float32)}, ["y"])["y"].tolist() == [[8]]
    with pytest.raises(Unprocessable, match="may have"):
        Runtime(model_bytes=file.stat().st_size).load("m", "1", file)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "sub/weights", "..", "", "missing", "link", ".", "\0", "a\0b"]
)
def test_weights_are_read_from_nowhere_else(tmp_path: Path, location: str) -> None:
    file = onnx_models.put(tmp_path, onnx_models.external(location))
    for secret in (tmp_path / "secret", tmp_path / "1/sub/weights"):
        secret.parent.mkdir(exist_ok=True)
        secret.write_bytes(b"0" * 16)
    (file.parent / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(Unprocessable, match=r"must lie beside|missing|no link"):
        Runtime().load("m", "1", file)


def _hidden(model: onnx.ModelProto, place: str) -> onnx.ModelProto:
    """Put a tensor with external data somewhere else than among the weights."""
    tensor = onnx_models.external("../secret").graph.initializer[0]
    whole = onnx_models.linear()
    graph = whole.graph
    if place == "attribute":
        graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
    elif place == "subgraph":
        graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.initializer.append(tensor)
    elif place == "subgraphs":
        graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPHS).graphs.add().initializer.append(
            tensor
        )
    elif place == "sparse":
        graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif place == "function":
        whole.functions.add().node.add().attribute.add(name="value").t.CopyFrom(tensor)
    elif place == "training":
        whole.training_info.add().algorithm.initializer.append(tensor)
    return whole


@pytest.mark.parametrize("place", ["attribute", "subgraph", "subgraphs", "sparse", "function", "training"])
def test_weights_elsewhere_are_seen_wherever_they_are_named(tmp_path: Path, place: str) -> None:
    file = onnx_models.put(tmp_path, _hidden(onnx_models.linear(), place))
    with pytest.raises(Unprocessable, match="must lie beside"):
        Runtime().load("m", "1", file)


def test_a_model_itself_is_no_link(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.symlink_to(onnx_models.put(tmp_path, onnx_models.linear()))
    with pytest.raises(Unprocessable, match="no link"):
        Runtime().load("m", "1", file)


def test_a_model_that_fails_says_so(tmp_path: Path) -> None:
    model = loaded(tmp_path, onnx_models.looked_up())
    with pytest.raises((Invalid, Failed), match="model m"):
        model.run({"i": np.array([[7]])}, ["y"])
    assert model.run({"i": np.array([[2]])}, ["y"])["y"].tolist() == [[2]]


@pytest.mark.parametrize(
    ("model", "independent"),
    [
        (onnx_models.network(), True),
        (onnx_models.two_inputs(), True),
        (onnx_models.looked_up(), True),
        (onnx_models.centred(), False),
        (onnx_models.identity("FLOAT", [5, 2]), False),
        (onnx_models.identity("STRING"), False),
        (onnx_models.identity("FLOAT", []), False),
    ],
)
def test_rows_are_put_together_only_where_each_is_answered_by_itself(
    tmp_path: Path, model: onnx.ModelProto, independent: bool
) -> None:
    found = loaded(tmp_path, model)
    assert rows_are_independent(found, answer_once(found)) is independent


def test_a_gpu_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InvalidSettings, match="device cuda needs CUDAExecutionProvider"):
        Runtime.of(Settings(device="cuda"))


def fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let onnxruntime say that it has CUDA, and take the CPU, as it does where there is no GPU."""
    real = onnxruntime.InferenceSession

    def falls_back(*args: Any, **_: Any) -> Any:
        return real(*args, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])


def test_a_gpu_that_does_not_work_is_no_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fall_back(monkeypatch)
    with pytest.raises(InvalidSettings, match="does not work: it would not run on CUDAExecutionProvider"):
        Runtime.of(Settings(device="cuda"))
    with pytest.raises(Unprocessable, match="would not run on CUDAExecutionProvider"):
        Runtime(provider="CUDAExecutionProvider").load("m", "1", onnx_models.put(tmp_path, onnx_models.linear()))


def test_a_gpu_is_tried_with_a_model_that_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fall_back(monkeypatch)
    monkeypatch.setitem(PROVIDERS, "cuda", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert Runtime.of(Settings(device="cuda")).provider == "CPUExecutionProvider"
