"""Small ONNX models whose answers can be worked out with numpy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]
_OPSET = 17


def linear(columns: int = 4, scale: float = 1.0) -> onnx.ModelProto:
    """Return ``y = scale * x.sum(axis=1, keepdims=True)`` for rows of any number."""
    weight = numpy_helper.from_array(np.full((columns, 1), scale, np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], {"x": ("FLOAT", ["N", columns])}, {"y": ("FLOAT", ["N", 1])}, [weight])


def identity(kind: str, shape: Shape = ("N", 2)) -> onnx.ModelProto:
    """Return ``y = x`` for a type of ONNX."""
    return _model([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})


def two_inputs() -> onnx.ModelProto:
    """Return ``total = a + b`` and ``product = a * b``, for rows of any number and two columns."""
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    either = ("FLOAT", ["N", 2])
    return _model(nodes, {"a": either, "b": either}, {"total": either, "product": either})


def centred() -> onnx.ModelProto:
    """Return ``y = x - x.mean(axis=0)``: each row's answer depends on the rows beside it."""
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1)
    either = ("FLOAT", ["N", 3])
    return _model([mean, helper.make_node("Sub", ["x", "mean"], ["y"])], {"x": either}, {"y": either})


def looked_up(size: int = 3) -> onnx.ModelProto:
    """Return ``y = table[i]``, which fails for an index that is not in the table."""
    table = numpy_helper.from_array(np.arange(size, dtype=np.float32), "table")
    node = helper.make_node("Gather", ["table", "i"], ["y"])
    return _model([node], {"i": ("INT64", ["N", 1])}, {"y": ("FLOAT", ["N", 1])}, [table])


def slow(size: int = 400, steps: int = 20) -> onnx.ModelProto:
    """Return a model of many products of matrices, which takes a while; ``y = x`` in the end."""
    weight = numpy_helper.from_array(np.eye(size, dtype=np.float32), "w")
    names = ["x", *(f"h{n}" for n in range(steps - 1)), "y"]
    nodes = [helper.make_node("MatMul", [one, "w"], [other]) for one, other in itertools.pairwise(names)]
    return _model(nodes, {"x": ("FLOAT", ["N", size])}, {"y": ("FLOAT", ["N", size])}, [weight])


def external(location: str) -> onnx.ModelProto:
    """Return `linear` whose weights are said to be in another file."""
    model = linear()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


def network(columns: int = 20, hidden: int = 64) -> onnx.ModelProto:
    """Return a small classifier, as the benchmarks have it: Dense(64, relu) and Dense(1, sigmoid)."""
    random = np.random.default_rng(7)
    arrays = {
        "w1": random.standard_normal((columns, hidden)) / columns**0.5,
        "b1": random.standard_normal(hidden) / 10,
        "w2": random.standard_normal((hidden, 1)) / hidden**0.5,
        "b2": random.standard_normal(1) / 10,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["l"]),
        helper.make_node("Sigmoid", ["l"], ["y"]),
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    return _model(nodes, {"x": ("FLOAT", ["N", columns])}, {"y": ("FLOAT", ["N", 1])}, weights)


def colours(channels: int) -> onnx.ModelProto:
    """Return a model of pictures of any size: the mean of each channel, and their sum as one class more."""
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceSum", ["means", "axis"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["means", "sum"], ["y"], axis=1),
    ]
    picture = ("FLOAT", ["N", "H", "W", channels])
    return _model(nodes, {"x": picture}, {"y": ("FLOAT", ["N", channels + 1])}, [axis])


def classifier() -> onnx.ModelProto:
    """Return a model with two outputs, as scikit-learn's are: a label, then the probabilities of two classes."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["probabilities"]),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
    ]
    two = ("FLOAT", ["N", 2])
    return _model(nodes, {"x": two}, {"label": ("INT64", ["N"]), "probabilities": two})


def put(folder: Path, model: onnx.ModelProto, version: str = "1") -> Path:
    """Write a model in Triton's layout, and return its file."""
    file = folder / version / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(model.SerializeToString())
    return file


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[str, Shape]],
    outputs: dict[str, tuple[str, Shape]],
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    infos = [
        [helper.make_tensor_value_info(n, TensorProto.DataType.Value(k), s) for n, (k, s) in each.items()]
        for each in (inputs, outputs)
    ]
    graph = helper.make_graph(list(nodes), "graph", *infos, initializer=list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
