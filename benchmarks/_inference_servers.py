"""The servers that are measured, each started on one core; and environments for what the project does not install."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from onnx import numpy_helper

from benchmarks._inference_load import MODEL, SERVER_CORE, V2_JSON, Server, body, rows
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, cache_dir
from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, config, free_port

HERE = Path(__file__).parent
TENSORFLOW = ("tensorflow-cpu==2.21.0", "numpy==2.4.6")
KSERVE = ("kserve==0.21.0", "onnxruntime==1.32.0")
_START_SECONDS = 120
_MOST_DIFFERENCE = 1e-5


def environment(progress: Progress, requirements: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages, which is kept for the next time."""
    name = f"{requirements[0]}-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:8]}"
    folder = cache_dir() / "benchmarks" / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        with progress.step(f"an environment with {requirements[0]}"):
            shutil.rmtree(folder, ignore_errors=True)
            uv = [sys.executable, "-m", "uv"]
            subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
            subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), *requirements], check=True)
            (folder / "complete").touch()
    return python


def direct(python: Path, folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Return what TensorFlow answers by itself, of 100 rows at a time: calls each second, and the answer."""
    model = onnx_models.network()
    np.savez(folder / "weights.npz", **{each.name: numpy_helper.to_array(each) for each in model.graph.initializer})
    np.savez(folder / "rows.npz", rows=rows(100))
    argv = [str(python), str(HERE / "_inference_direct.py"), "weights.npz", "rows.npz", str(seconds), str(rounds)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(_pinned(argv), cwd=folder, env=quiet, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[Server]:
    """Run our server, with its token and its metrics as it always has them."""
    onnx_models.put(folder / MODEL, onnx_models.network())
    file = config(folder, models=[{"name": MODEL, "path": str(folder / MODEL)}])
    said = json.loads(file.read_text())
    path = {"AF_INFERENCE_CONFIG": str(file), "PYTHONPATH": str(CHECKOUT / "images" / "inference")}
    with running([sys.executable, "-m", "af_inference"], path, folder / "ours.log", said["http"]) as found:
        yield Server("af_inference", found[0], said["http"], said["grpc"], TOKEN, *found[1:])


@contextlib.contextmanager
def kserve(python: Path, folder: Path) -> Iterator[Server]:
    """Run KServe's server."""
    onnx_models.put(folder / "kserve", onnx_models.network())
    ports = free_port(), free_port()
    argv = [str(python), str(HERE / "_inference_kserve.py"), "kserve/1/model.onnx", *map(str, ports)]
    with running(argv, {}, folder / "kserve.log", ports[0]) as found:
        yield Server("KServe", found[0], *ports, "", *found[1:])


def check(server: Server, answer: Sequence[float]) -> None:
    """See that a server answers as TensorFlow itself does.

    Raises
    ------
    RuntimeError
        It does not.
    """
    data, headers = body(V2_JSON, 100)
    found = _ask(server.http, "POST", f"/v2/models/{MODEL}/infer", data, headers | _token(server.token))
    values = json.loads(found[1])["outputs"][0]["data"]
    difference = float(np.abs(np.array(values) - np.array(answer)).max())
    if difference > _MOST_DIFFERENCE:
        raise RuntimeError(f"{server.title} differs from TensorFlow by {difference}")


@contextlib.contextmanager
def running(argv: Sequence[str], more: Mapping[str, str], log: Path, port: int) -> Iterator[tuple[int, float, float]]:
    """Run a server on its core; yield its process, the seconds until it was ready, and the MiB that it then has.

    Parameters
    ----------
    more
        What is in its environment beside our own.
    port
        Of HTTP, where it says that it is ready.
    """
    began = time.perf_counter()
    with log.open("wb") as out:
        env = {**os.environ, **more}
        process = subprocess.Popen(_pinned(argv), cwd=log.parent, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - began > _START_SECONDS:
                raise RuntimeError(f"{argv[0]} is not ready: {log.read_text()}")
            time.sleep(0.01)
        ready = time.perf_counter() - began
        yield process.pid, ready, _resident_mib(process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        process.kill()
        process.wait()


def _resident_mib(pid: int) -> float:
    process = psutil.Process(pid)
    return float(sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))) / 2**20


def _is_ready(port: int) -> bool:
    try:
        return _ask(port, "GET", "/v2/health/ready")[0] == 200
    except OSError:
        return False


def _ask(
    port: int, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()


def _token(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def _pinned(argv: Sequence[str]) -> list[str]:
    return ["taskset", "-c", str(SERVER_CORE), *argv]
