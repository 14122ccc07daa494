"""coffea's wrapper of Triton's client, as it asks a session's models by gRPC."""

import os
from typing import Any

import awkward as ak
from coffea.ml_tools import triton_wrapper
from tritonclient.grpc.auth import BasicAuth


class Probability(triton_wrapper):
    """How likely a pair is a Z. Sent to a worker, it connects from there, with the token that is there."""

    def __init__(self, model: str, version: str) -> None:
        address = f"triton+grpc://{os.environ['AF_INFERENCE_GRPC']}/{model}/{version}"
        super().__init__(address, client_args={"ssl": False})

    def _create_client(self) -> Any:
        client = super()._create_client()
        client.register_plugin(BasicAuth("session", os.environ["AF_INFERENCE_TOKEN"]))
        return client

    def prepare_awkward(self, features: ak.Array) -> tuple[list[Any], dict[str, Any]]:
        """Name the wanted outputs, the last of them (trees say a class first), and the input."""
        (only,) = self.model_inputs
        return [list(self.model_outputs)[-1:], {only: features}], {}

    def postprocess_awkward(self, answer: dict[str, ak.Array], features: ak.Array) -> ak.Array:
        """Return the probabilities: one for each row of features."""
        (probabilities,) = answer.values()
        return probabilities[:, -1]
