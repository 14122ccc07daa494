"""TensorFlow's three formats. Imported only in a child, in the environment that has TensorFlow."""

import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tf2onnx.convert
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from af_inference.convert import formats
from af_inference.convert.formats import Array, Original, arrays
from af_inference.errors import Unprocessable

OPSET = 18


def from_keras(file: Path, target: Path, _params: Mapping[str, Any]) -> Original:
    """Convert a model as ``model.save("model.keras")`` writes it; safe mode refuses what is code."""
    if not zipfile.is_zipfile(file):
        raise Unprocessable("model.keras is no Keras 3 archive: write it with model.save('model.keras')")
    model = keras.saving.load_model(file, safe_mode=True)
    structure = getattr(model, "input", model.inputs[0])  # a Sequential's is one tensor

    def answer(*inputs: Any) -> Any:
        return keras.tree.flatten(model(keras.tree.pack_sequence_as(structure, inputs), training=False))

    traced = tf.function(answer, [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs])
    # What it has captured, too: of a Normalization layer's constants Keras' own export to ONNX makes inputs.
    function = traced.get_concrete_function()
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    names = [[tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs)]
    tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(add_shapes=True),
        input_names=names[0],
        output_names=names[1],
        tensors_to_rename={name: name.removesuffix(":0") for name in names[0]},
        opset=OPSET,
        output_path=str(target),
    )
    return lambda feeds: arrays(traced(*feeds.values()))


def from_saved_model(file: Path, target: Path, _params: Mapping[str, Any]) -> Original:
    """Convert what ``tf.saved_model.save`` or Keras' ``export`` writes, by its serving signature."""
    folder = str(file.parent)
    signatures = tf.saved_model.load(folder).signatures
    if not signatures:
        raise Unprocessable("the SavedModel has no signature to serve: write it with model.export(directory)")
    key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    function = signatures[key]
    _tf2onnx("--saved-model", folder, "--signature_def", key, "--output", str(target))

    def original(feeds: Mapping[str, Array]) -> Sequence[Array]:
        tensors = {name.removesuffix(":0"): tf.constant(array) for name, array in feeds.items()}
        answers = function(**tensors)
        return arrays([answers[name] for name in function.structured_outputs])

    return original


def from_frozen(file: Path, target: Path, params: Mapping[str, Any]) -> Original:
    """Convert TFaaS' first format: a graph whose input and output nodes ``params.json`` names."""
    nodes = [str(params.get(key) or "") for key in ("input_node", "output_node")]
    if not all(nodes):
        raise Unprocessable("a frozen graph needs input_node and output_node in params.json")
    names = [node if ":" in node else f"{node}:0" for node in nodes]
    graph = tf.compat.v1.GraphDef.FromString(file.read_bytes())
    tf2onnx.convert.from_graph_def(
        graph, input_names=names[:1], output_names=names[1:], opset=OPSET, output_path=str(target)
    )

    def original(feeds: Mapping[str, Array]) -> Sequence[Array]:
        with tf.Graph().as_default() as built, tf.compat.v1.Session(graph=built) as session:
            tf.import_graph_def(graph, name="")
            return arrays(session.run(names[1:], {names[0]: next(iter(feeds.values()))}))

    return original


def _tf2onnx(*arguments: str) -> None:
    """Run its command line, the only way that it has for a SavedModel."""
    sys.argv = ["tf2onnx", "--opset", str(OPSET), *arguments]
    tf2onnx.convert.main()


CONVERT: Mapping[str, Callable[[Path, Path, Mapping[str, Any]], Original]] = {
    formats.KERAS: from_keras,
    formats.SAVED_MODEL: from_saved_model,
    formats.FROZEN: from_frozen,
}
