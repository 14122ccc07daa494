"""KServe's Python server with ONNX Runtime in it: `_inference_kserve.py MODEL.onnx HTTP_PORT GRPC_PORT`.

It runs in an environment of its own, see `_inference_servers`.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import onnxruntime as ort
import uvicorn

HTTP_PORT, GRPC_PORT = sys.argv[2:4]
sys.argv[1:], MODEL = [], sys.argv[1]  # kserve reads the command line when it is imported

import kserve  # noqa: E402


class Network(kserve.Model):  # type: ignore[misc]
    """The network, run where it is asked, on one thread."""

    def __init__(self, file: str) -> None:
        super().__init__("network")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer a request of the Open Inference Protocol."""
        answer = self.session.run(["y"], {"x": payload.inputs[0].as_numpy()})[0]
        output = kserve.InferOutput("y", list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=payload.use_binary_outputs)
        number = payload.id or "0"  # it gives none by itself, and fails without one
        return kserve.InferResponse(response_id=number, model_name="network", infer_outputs=[output])


def listen_on_loopback() -> None:
    """Let nobody else reach what is measured: KServe listens on every address, and has no option for it."""
    config, server = uvicorn.Config.__init__, type(grpc.aio.server())
    port = server.add_insecure_port

    def on_loopback(self: Any, app: Any, **settings: Any) -> None:
        config(self, app, **settings | {"host": "127.0.0.1"})

    uvicorn.Config.__init__ = on_loopback  # type: ignore[method-assign]
    server.add_insecure_port = lambda self, address: port(self, address.replace("[::]", "127.0.0.1"))


if __name__ == "__main__":
    listen_on_loopback()
    settings = {"http_port": int(HTTP_PORT), "grpc_port": int(GRPC_PORT), "enable_latency_logging": False}
    kserve.ModelServer(workers=1, **settings).start([Network(MODEL)])
