"""A model that can be asked, and ONNX Runtime as what answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from af_inference import external_data
from af_inference.errors import Failed, Invalid, Unprocessable
from af_inference.settings import InvalidSettings, Settings
from af_inference.tensors import Array, Arrays, Tensor

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_IDENTITY = bytes.fromhex(  # y = x, as an ONNX model
    "080812003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)
_DATATYPES = {
    "tensor(bool)": "BOOL",
    **{f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{"tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(string)": "BYTES"},
}


class Model(Protocol):
    """One version of a model, ready to be asked from any thread."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def version(self) -> str:
        """Its version, a whole number."""

    @property
    def platform(self) -> str:
        """What runs it, as Triton names it: ``onnxruntime_onnx``."""

    @property
    def provider(self) -> str:
        """On what it runs: an execution provider of ONNX Runtime, or the address of a backend."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """What it answers."""

    @property
    def parallel(self) -> int:
        """How many runs at a time are worth their while."""

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs for arrays of all inputs, already checked against ``inputs``.

        Raises
        ------
        Invalid
            The model refuses what it is given.
        Failed
            The model breaks on it.
        """


@dataclass(frozen=True, slots=True)
class Runtime:
    """How ONNX Runtime is to run models: on what, with how many threads, of how many bytes at most."""

    provider: str = PROVIDERS["cpu"]
    threads: int = 1
    model_bytes: int = 2**31

    @classmethod
    def of(cls, settings: Settings) -> Runtime:
        """Return the runtime that the settings ask for.

        Raises
        ------
        InvalidSettings
            It is asked for GPUs, and this onnxruntime or this machine has none.
        """
        provider = PROVIDERS[settings.device]
        if provider not in (found := ort.get_available_providers()):
            raise InvalidSettings(
                f"device {settings.device} needs {provider}, and this onnxruntime has only {', '.join(found)}:"
                " use the image with onnxruntime-gpu on a node with a GPU, or device cpu"
            )
        runtime = cls(provider, settings.threads, settings.limits.model)
        if settings.device == "cuda":
            runtime._try_gpu()
        return runtime

    def load(self, name: str, version: str, file: Path) -> OnnxModel:
        """Load a model from its ``model.onnx``.

        Raises
        ------
        Unprocessable
            It is no ONNX model that can be served here.
        """
        external_data.check(file, self.model_bytes)
        try:
            session = self._session(str(file))
        except Exception as error:  # noqa: BLE001  (onnxruntime's errors have no common class of their own)
            raise Unprocessable(f"model {name} version {version} cannot be loaded: {said(error)}") from None
        return OnnxModel(name, version, self.provider, session)

    def _try_gpu(self) -> None:
        """Refuse to start where CUDA was built in and does not work: a server without models would seem to be fine."""
        ort.preload_dlls()  # CUDA and cuDNN come as wheels, where no loader looks for them
        try:
            self._session(_IDENTITY)
        except Exception as error:  # noqa: BLE001  (onnxruntime's errors have no common class of their own)
            raise InvalidSettings(f"device cuda was asked for and does not work: {said(error)}") from None

    def _session(self, model: str | bytes) -> ort.InferenceSession:
        session = ort.InferenceSession(model, self._options(), providers=[self.provider])
        if self.provider not in session.get_providers():  # onnxruntime falls back on its own, and only warns
            raise Unprocessable(f"it would not run on {self.provider}: look at the log for what CUDA misses")
        return session

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # patterns are kept for each shape, and batches have any
        options.enable_cpu_mem_arena = False  # an arena keeps for ever what the largest request ever took
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are the session's, not ours
        options.add_session_config_entry("session.load_model_format", "ONNX")
        return options


class OnnxModel:
    """A model in an ONNX Runtime session; no library of custom operators is ever registered with one."""

    platform = "onnxruntime_onnx"
    parallel = 1

    def __init__(self, name: str, version: str, provider: str, session: ort.InferenceSession) -> None:
        self.name, self.version, self.provider, self._session = name, version, provider, session
        self.inputs = [_tensor(name, node) for node in session.get_inputs()]
        self.outputs = [_tensor(name, node) for node in session.get_outputs()]

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs; see `Model`."""
        try:
            return dict(zip(outputs, self._session.run(outputs, feeds), strict=True))
        except (native.InvalidArgument, ValueError) as error:
            raise Invalid(f"model {self.name} refuses this input: {said(error)}") from None
        except Exception as error:  # noqa: BLE001  (onnxruntime's errors have no common class of their own)
            raise Failed(f"model {self.name} failed on this input: {said(error)}") from None


def said(error: object) -> str:
    """Return what others say, in one line that is not too long."""
    return " ".join(str(error).split())[:300]


def _tensor(model: str, node: Any) -> Tensor:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise Unprocessable(
            f"{node.name} of model {model} is {node.type}, which cannot be served: "
            "export tensors only (scikit-learn: with zipmap switched off)"
        )
    shape: Sequence[int | str | None] = node.shape
    return Tensor(node.name, datatype, tuple(n if isinstance(n, int) and n >= 0 else -1 for n in shape))
