"""The Open Inference Protocol v2 over HTTP, with Triton's binary extension."""

from af_inference.v2.infer import infer
from af_inference.v2.routes import routes

__all__ = ["infer", "routes"]
