"""The network in Triton's Python backend, with ONNX Runtime in it; it is copied beside ``model.onnx``."""

from __future__ import annotations

import os
import site
from pathlib import Path
from typing import Any

site.addsitedir(os.environ["PYTHONPATH"])  # Triton's interpreter does not look at it

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: Any) -> None:
        """Load the network, to be run on one thread."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = Path(__file__).with_name("model.onnx")
        self.session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests that Triton has put together, in one run."""
        inputs = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        answers = self.session.run(["y"], {"x": np.concatenate(inputs)})[0]
        parts = np.split(answers, np.cumsum([len(each) for each in inputs])[:-1])
        return [triton.InferenceResponse([triton.Tensor("y", each)]) for each in parts]
