"""The baseline, TensorFlow without any server: `_inference_direct.py WEIGHTS.npz ROWS.npz SECONDS ROUNDS`.

It runs in an environment of its own, see `_inference_servers`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


class Network(tf.Module):  # type: ignore[misc]
    """The network that the servers serve, as a SavedModel."""

    def __init__(self, weights: Any) -> None:
        self.weights = {name: tf.Variable(weights[name]) for name in ("w1", "b1", "w2", "b2")}

    @tf.function(input_signature=[tf.TensorSpec([None, 20], tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        """Return what the network says."""
        hidden = tf.nn.relu(x @ self.weights["w1"] + self.weights["b1"])
        return {"y": tf.sigmoid(hidden @ self.weights["w2"] + self.weights["b2"])}


def calls_per_second(ask: Callable[[], Any], seconds: float) -> float:
    """Return how often something can be called in a second."""
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for _ in range(20):
            ask()
        count += 20
    return count / took


def main() -> None:
    """Print how many calls of so many rows the SavedModel's signature answers in a second, and what it answers."""
    weights, rows = np.load(sys.argv[1]), np.load(sys.argv[2])["rows"]
    seconds, rounds = float(sys.argv[3]), int(sys.argv[4])
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        network = Network(weights)
        tf.saved_model.save(network, folder, signatures=network.__call__)
        signature = tf.saved_model.load(folder).signatures["serving_default"]

        def ask() -> Any:
            return signature(x=tf.constant(rows))["y"].numpy()

        ask()
        found = [calls_per_second(ask, seconds) for _ in range(rounds)]
        print(
            json.dumps({"calls": statistics.median(found), "answer": ask().ravel().tolist(), "version": tf.__version__})
        )


if __name__ == "__main__":
    main()
