"""Keras' models: their own file, which the service converts, and their answers to a sample."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from af_client.arrays import rows
from af_client.convert.model import SEED, SEEDED_ROWS, SENT_ROWS, Array, Converted
from af_client.errors import NotConvertible
from af_client.open_inference import Tensor


def keras(model: Any, sample: Any) -> Converted:
    """Return a Keras model as its ``.keras`` file.

    Its `model.export(format="onnx")` needs TensorFlow and tf2onnx here, and nobody would check it against another
    machine's; the service has them, and compares what it makes with the answers that go along.
    """
    if not model.built:
        raise NotConvertible(
            "this Keras model has no weights yet: call it once, or give its first layer an input shape"
        )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        content = path.read_bytes()
    return Converted("model.keras", content, _answered(model, sample))


def _answered(model: Any, sample: Any) -> dict[str, Array]:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return {}  # the service finds names of its own for several
    shape = model.inputs[0].shape[1:]
    if sample is None and None in shape:
        return {}  # of any length: which one it can do, it does not say
    if sample is None:
        asked = np.random.default_rng(SEED).normal(size=(SEEDED_ROWS, *shape)).astype(np.float32)
    else:
        tensor = Tensor("input", "FP32", (-1, *(-1 if n is None else n for n in shape)))
        ((_, asked),) = rows(sample, [tensor]).inputs.values()
    asked = asked[:SENT_ROWS]
    return {"input": asked, "output": np.asarray(model.predict_on_batch(asked))}
