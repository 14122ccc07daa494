"""Requests of each protocol as bytes, and h2load to send them from one core as fast as they are answered."""

from __future__ import annotations

import json
import os
import resource
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

MODEL, COLUMNS = "network", 20
SERVER_CORE, CLIENT_CORE = 0, 1
TFAAS, V2_JSON, V2_BINARY, GRPC = "TFaaS JSON", "V2 JSON", "V2 binary", "gRPC"
_GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Case:
    """What is asked: in which protocol, how many rows at a time, by how many clients at once."""

    protocol: str
    rows: int
    clients: int


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes
    ----------
    requests
        Answers in a second.
    cpu_us
        Microseconds of CPU that the server took for each.
    server_busy, client_busy
        Share of its core that either used.
    p50_ms, p99_ms
        From a request to its answer.
    """

    requests: float
    cpu_us: float
    server_busy: float
    client_busy: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Server:
    """A server that answers, on a core of its own.

    Attributes
    ----------
    title
        As tables have it.
    ready_seconds, resident_mib
        From its start until it was ready; what it then took, with one model.
    """

    title: str
    pid: int
    http: int
    grpc: int
    token: str
    ready_seconds: float
    resident_mib: float

    def cpu_seconds(self) -> float:
        """Return what it has computed, its children included."""
        process = psutil.Process(self.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))


def rows(count: int) -> NDArray[np.float32]:
    """Return the rows that are asked; their numbers have as many digits as a physicist would send."""
    found = np.random.default_rng(count).standard_normal((count, COLUMNS)).round(5)
    return found.astype(np.float32)


def body(protocol: str, count: int) -> tuple[bytes, Mapping[str, str]]:
    """Return a request's body, and the headers that it needs beside the token."""
    return _BODIES[protocol](rows(count))


def send(server: Server, case: Case, seconds: float) -> Load:
    """Send requests for so long, and return what came of it.

    Raises
    ------
    RuntimeError
        Not all were answered with 200.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        argv = _command(server, case, Path(folder, "body"), log, seconds)
        cpu, own, began = server.cpu_seconds(), _children_seconds(), time.perf_counter()
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        wall, own, cpu = time.perf_counter() - began, _children_seconds() - own, server.cpu_seconds() - cpu
        answers = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    good = [int(micro) / 1000 for _, status, micro in answers if status == "200"]
    if done.returncode or not good or len(good) < len(answers):
        raise RuntimeError(
            f"{server.title}, {case}: {len(good)} of {len(answers)} were answered\n{done.stdout}{done.stderr}"
        )
    centiles = statistics.quantiles(good, n=100)
    rate = len(good) / seconds
    return Load(rate, cpu / len(good) * 1e6, cpu / wall, own / wall, centiles[49], centiles[98])


def median(loads: Sequence[Load]) -> Load:
    """Return the medians of several, number by number."""
    return Load(**{name: statistics.median(asdict(each)[name] for each in loads) for name in asdict(loads[0])})


def _command(server: Server, case: Case, file: Path, log: Path, seconds: float) -> list[str]:
    data, headers = body(case.protocol, case.rows)
    file.write_bytes(data)
    said = {"authorization": f"Bearer {server.token}", **headers}
    options = ["-c", str(case.clients), "-D", f"{seconds * 1000:.0f}ms", "-d", str(file), "--log-file", str(log)]
    options += [word for name, value in said.items() for word in ("-H", f"{name}: {value}")]
    if case.protocol == GRPC:
        options += ["-m", "1", f"http://127.0.0.1:{server.grpc}{_GRPC_METHOD}"]
    else:
        path = "/json" if case.protocol == TFAAS else f"/v2/models/{MODEL}/infer"
        options += ["--h1", f"http://127.0.0.1:{server.http}{path}"]
    return ["taskset", "-c", str(CLIENT_CORE), "h2load", *options]


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tfaas(array: NDArray[np.float32]) -> tuple[bytes, Mapping[str, str]]:
    values = [[round(float(x), 5) for x in row] for row in array]
    keys = [f"f{number}" for number in range(COLUMNS)]
    text = {"keys": keys, "values": values[0] if len(values) == 1 else values, "model": MODEL}
    return json.dumps(text, separators=(",", ":")).encode(), {"content-type": "application/json"}


def _v2_json(array: NDArray[np.float32]) -> tuple[bytes, Mapping[str, str]]:
    data = [round(float(x), 5) for x in array.ravel()]
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "data": data}
    text = json.dumps({"inputs": [tensor]}, separators=(",", ":"))
    return text.encode(), {"content-type": "application/json"}


def _v2_binary(array: NDArray[np.float32]) -> tuple[bytes, Mapping[str, str]]:
    size = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "parameters": size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return head + array.tobytes(), headers


def _grpc(array: NDArray[np.float32]) -> tuple[bytes, Mapping[str, str]]:
    request: Any = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[array.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    message = request.SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message, {"content-type": "application/grpc", "te": "trailers"}


_BODIES: Mapping[str, Callable[[NDArray[np.float32]], tuple[bytes, Mapping[str, str]]]] = {
    TFAAS: _tfaas,
    V2_JSON: _v2_json,
    V2_BINARY: _v2_binary,
    GRPC: _grpc,
}


def cores() -> int:
    """Return how many cores there are for the two."""
    return len(os.sched_getaffinity(0))
