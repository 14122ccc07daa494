"""What is said of the server and its models, in the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from af_inference.registry import Registry
from af_inference.served import Served
from af_inference.server import Server
from af_inference.statistics import Duration, Statistics

NAME = "af-inference"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


def server(server: Server) -> dict[str, Any]:
    """Return the server's metadata; beyond the protocol, on what models run."""
    return {
        "name": NAME,
        "version": own_version(),
        "extensions": list(EXTENSIONS),
        "provider": server.registry.source.provider,
    }


def own_version() -> str:
    """Return the version of this package; it need not be installed."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "0"


def model(server: Server, served: Served) -> dict[str, Any]:
    """Return a model's metadata; beyond the protocol, on what it runs and whether rows are put together."""
    found = served.model
    return {
        "name": found.name,
        "versions": server.registry.loaded_versions(found.name),
        "platform": found.platform,
        "inputs": [tensor.body() for tensor in found.inputs],
        "outputs": [tensor.body() for tensor in found.outputs],
        "parameters": {"provider": found.provider, "batched": served.batched},
    }


def index(registry: Registry, only_ready: bool) -> list[dict[str, str]]:
    """Return all versions of all models as the repository's index; in a thread."""
    entries = [entry for entry in registry.entries() if entry.ready or not only_ready]
    return [
        {"name": e.name, "version": e.version, "state": "READY" if e.ready else "UNAVAILABLE", "reason": e.reason}
        for e in entries
    ]


def statistics(served: Sequence[Served]) -> dict[str, Any]:
    """Return what models have done."""
    return {"model_stats": [_model_statistics(each, each.statistics) for each in served]}


def _model_statistics(served: Served, found: Statistics) -> dict[str, Any]:
    zero = Duration()
    return {
        "name": served.model.name,
        "version": served.model.version,
        "last_inference": found.last_inference,
        "inference_count": found.rows,
        "execution_count": found.runs,
        "inference_stats": {
            "success": _duration(found.success),
            "fail": _duration(found.fail),
            "queue": _duration(found.queue),
            "compute_input": _duration(zero),
            "compute_infer": _duration(found.compute),
            "compute_output": _duration(zero),
        },
        "batch_stats": [
            {"batch_size": rows, "compute_infer": _duration(runs)} for rows, runs in sorted(found.batches.items())
        ],
    }


def _duration(found: Duration) -> dict[str, int]:
    return {"count": found.count, "ns": found.ns}
