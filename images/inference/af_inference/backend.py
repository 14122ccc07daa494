"""Models of a facility's own Triton, behind the same front: its token, its protocols, its bounds."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from af_inference import log, trial
from af_inference.errors import Failed, Invalid, NotFound, Problem, TooMany, Unavailable
from af_inference.runtime import said
from af_inference.served import Served
from af_inference.settings import CatalogueModel, Limits
from af_inference.tensors import DTYPES, Array, Arrays, Tensor, from_bytes, to_bytes

_ASK_SECONDS = 120.0  # a run of a model
_LOOK_SECONDS = 10.0  # what is asked about it, and how often
_PROBLEMS: dict[grpc.StatusCode, type[Problem]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooMany,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}


class Backend:
    """The models that a session names, of those that a Triton has; a session sees no others of them.

    Parameters
    ----------
    address
        ``host:port`` of its gRPC.
    """

    def __init__(self, address: str, models: Sequence[CatalogueModel], limits: Limits) -> None:
        self.provider = address
        self.available = True
        self._models, self._limits = models, limits
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address, options=options))
        self._looked, self._generation = 0.0, 0
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of the session's models, sorted."""
        return sorted({model.name for model in self._models})

    def versions(self, name: str) -> list[str]:
        """Return which versions of a model Triton has loaded, highest first.

        Raises
        ------
        Unavailable
            It does not answer.
        """
        wanted = {model.version for model in self._models if model.name == name}
        if not wanted:
            return []
        found = {v for n, v in self._ready() if n == name and (v in wanted or None in wanted)}
        return sorted(found, key=int, reverse=True)

    def load(self, name: str, version: str | None) -> Served:
        """Return a model that Triton has loaded, once it has answered; see `Source`."""
        about = self.ask("ModelMetadata", pb.ModelMetadataRequest(name=name, version=version or ""))
        config = self.ask("ModelConfig", pb.ModelConfigRequest(name=name, version=version or "")).config
        model = BackendModel(self, version or max(about.versions, key=int), about)
        trial.answer_once(model)
        most = config.max_batch_size
        limits = replace(self._limits, batch=min(self._limits.batch, most)) if most else self._limits
        return Served(model, limits, batched=most > 0, config=config)

    def generation(self) -> int:
        """Return a number that differs once other models are loaded; Triton is asked now and then."""
        with self._lock:
            if time.monotonic() - self._looked > _LOOK_SECONDS or not self.available:
                self._look()
            return self._generation

    def ask(self, method: str, request: Any, seconds: float = _LOOK_SECONDS) -> Any:
        """Ask Triton, and return its answer.

        Raises
        ------
        Problem
            What it says instead, or that it says nothing.
        """
        try:
            return getattr(self._stub, method)(request, timeout=seconds)
        except grpc.RpcError as error:
            raise _problem(self.provider, error) from None

    def _look(self) -> None:
        was, self._looked = self.available, time.monotonic()
        try:
            ready = repr(sorted(self._ready()))
        except Problem as problem:
            self.available = False
            if was:
                log.warning("the backend does not answer", address=self.provider, reason=str(problem))
            return
        self.available = True
        self._generation = int.from_bytes(hashlib.sha256(ready.encode()).digest()[:8], "big")
        if not was:
            log.info("the backend answers again", address=self.provider)

    def _ready(self) -> set[tuple[str, str]]:
        index = self.ask("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
        return {(each.name, each.version) for each in index.models if each.version.isdigit()}


class BackendModel:
    """One version of a model in a Triton, which batches by itself what comes at the same time."""

    parallel = 8

    def __init__(self, backend: Backend, version: str, about: Any) -> None:
        self.name, self.version, self.platform, self.provider = about.name, version, about.platform, backend.provider
        self.inputs, self.outputs = _tensors(about.inputs), _tensors(about.outputs)
        self._ask: Callable[[str, Any, float], Any] = backend.ask

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs; see `Model`."""
        request = pb.ModelInferRequest(model_name=self.name, model_version=self.version)
        for tensor in self.inputs:
            array = feeds[tensor.name]
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
            request.raw_input_contents.append(to_bytes(array))
        for name in outputs:
            request.outputs.add(name=name)
        response = self._ask("ModelInfer", request, _ASK_SECONDS)
        if len(response.raw_output_contents) != len(response.outputs):
            raise Failed(f"the backend answered for {self.name} without raw tensors, which are all that is read here")
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        found = {each.name: from_bytes(each.datatype, each.shape, raw) for each, raw in pairs}
        if missing := [name for name in outputs if name not in found]:
            raise Failed(f"the backend answered for {self.name} without {missing[0]}")
        return {name: found[name] for name in outputs}


def _tensors(found: Sequence[Any]) -> list[Tensor]:
    for each in found:
        if each.datatype not in DTYPES:
            raise Failed(f"{each.name} is {each.datatype}, which is not served here")
    return [Tensor(each.name, each.datatype, tuple(each.shape)) for each in found]


def _problem(address: str, error: Any) -> Problem:
    kind = _PROBLEMS.get(error.code(), Failed)
    if kind is Unavailable:
        return Unavailable(f"the models' backend {address} does not answer: {said(error.details())}")
    return kind(f"the models' backend says: {said(error.details())}")
