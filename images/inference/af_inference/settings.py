"""What the server is told, in one JSON file; everything that a request may take is bounded here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

MIB = 2**20


class InvalidSettings(ValueError):
    """The configuration cannot be used; the message says which part."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request and of the process.

    Attributes
    ----------
    body, inflated
        Bytes of a request's body as it came, and after it was inflated.
    bodies
        Bytes of all bodies that are answered at a time, small ones not counted.
    upload, model
        Bytes of an uploaded archive, and of one model's files.
    rows, columns
        Length of a tensor's first axis, and of each other.
    tensors
        Inputs, or outputs asked for, of one request.
    name
        Characters of a tensor's or a request's name.
    batch
        Rows that are put together into one run of a model.
    queue
        Requests that wait for one model.
    loaded
        Models of the store that are kept loaded; the one used longest ago goes first.
    load_seconds
        How long a load, or a conversion, may take.
    uploads
        That are received at once; they are converted one after the other.
    conversion
        Bytes of memory that a conversion may take, where the pod has as many.
    versions, store
        Versions of all models in the store, and their bytes.
    """

    body: int = 64 * MIB
    inflated: int = 64 * MIB
    bodies: int = 512 * MIB
    upload: int = 512 * MIB
    model: int = 2048 * MIB
    rows: int = 1_000_000
    columns: int = 100_000
    tensors: int = 64
    name: int = 256
    batch: int = 8192
    queue: int = 1024
    loaded: int = 32
    load_seconds: int = 240
    uploads: int = 4
    conversion: int = 4096 * MIB
    versions: int = 1000
    store: int = 16384 * MIB


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model that the session names; the server is ready when each of them has answered once.

    Attributes
    ----------
    version
        None for the highest that there is.
    path
        Its directory in Triton's layout; None where a backend has the models.
    """

    name: str
    version: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration.

    Attributes
    ----------
    base
        Path before all routes, without a slash at its end.
    token
        File with the token that every request must carry.
    store
        Triton repository of models that were uploaded; None where nothing can be.
    threads
        Of one run of a model.
    device
        ``cpu``, or ``cuda``, which then must be there.
    backend
        ``host:port`` of a Triton that has the models, by gRPC.
    """

    host: str = "0.0.0.0"  # noqa: S104  (a pod's own address is not known before)
    http: int = 8000
    grpc: int = 8001
    base: str = ""
    token: Path = Path("/etc/inference-token/token")
    models: tuple[CatalogueModel, ...] = ()
    store: Path | None = None
    upload: bool = False
    threads: int = 1
    device: str = "cpu"
    backend: str | None = None
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return what a configuration's JSON says.

        Raises
        ------
        InvalidSettings
            What is wrong, and where.
        """
        body = _mapping(_json(text), "the configuration")
        _known(body, cls, "the configuration")
        settings = cls(**{name: _READ[name](name, value) for name, value in body.items() if value is not None})
        _check(settings)
        return settings


def load(path: Path | None = None) -> Settings:
    """Return the settings in a file, by default in that which ``AF_INFERENCE_CONFIG`` names."""
    file = path or Path(os.environ.get("AF_INFERENCE_CONFIG", "/etc/inference/config.json"))
    return Settings.parse(file.read_bytes())


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSettings(f"the configuration is no JSON: {error}") from None


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSettings(f"{what} must be a JSON object")
    return value


def _known(body: dict[str, Any], kind: type[Any], what: str) -> None:
    if unknown := set(body) - {f.name for f in dataclasses.fields(kind)}:
        raise InvalidSettings(f"{what} has unknown fields: {', '.join(sorted(unknown))}")


def _limits(_: str, value: Any) -> Limits:
    body = _mapping(value, "limits")
    _known(body, Limits, "limits")
    if wrong := [name for name, number in body.items() if type(number) is not int or number < 1]:
        raise InvalidSettings(f"limits must be whole numbers above 0: {', '.join(sorted(wrong))}")
    return Limits(**body)


def _models(_: str, value: Any) -> tuple[CatalogueModel, ...]:
    if not isinstance(value, list):
        raise InvalidSettings("models must be a list")
    return tuple(_model(_mapping(item, "a model")) for item in value)


def _model(body: dict[str, Any]) -> CatalogueModel:
    _known(body, CatalogueModel, "a model")
    if "name" not in body:
        raise InvalidSettings("a model must have a name")
    version, path = body.get("version"), body.get("path")
    return CatalogueModel(
        _text("name", body["name"]),
        None if version is None else _text("version", version),
        None if path is None else _path("path", path),
    )


def _backend(_: str, value: Any) -> str:
    body = _mapping(value, "backend")
    if set(body) != {"grpc"} or not isinstance(body["grpc"], str):
        raise InvalidSettings('backend must be {"grpc": "host:port"}')
    return body["grpc"]


def _check(settings: Settings) -> None:
    if settings.device not in ("cpu", "cuda"):
        raise InvalidSettings("device must be cpu or cuda")
    if settings.base and (not settings.base.startswith("/") or settings.base.endswith("/")):
        raise InvalidSettings("base must begin with a slash and not end with one")
    if settings.upload and (settings.store is None or settings.backend is not None):
        raise InvalidSettings("upload needs a store, and models of a backend cannot be uploaded here")
    if settings.backend is None and (missing := [m.name for m in settings.models if m.path is None]):
        raise InvalidSettings(f"these models have no path: {', '.join(missing)}")
    if settings.threads < 1:
        raise InvalidSettings("threads must be at least 1")


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidSettings(f"{name} must be a string")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidSettings(f"{name} must be true or false")
    return value


def _number(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InvalidSettings(f"{name} must be a whole number")
    return value


_READ: Mapping[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("host", "base", "device"), _text),
    **dict.fromkeys(("http", "grpc", "threads"), _number),
    **dict.fromkeys(("token", "store"), _path),
    "models": _models,
    "upload": _flag,
    "backend": _backend,
    "limits": _limits,
}
