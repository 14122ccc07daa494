"""Asks a session's model service from a pod, by one protocol or by all: ``python - ask 3.1 http grpc``, JSON out."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import tritonclient.grpc
import tritonclient.http

MUONS = np.array([[40, 0.5, 1, 50, -0.5, -2], [30, 0, 0, 30, 0, np.pi]], np.float32)
KEYS = ["pt1", "eta1", "phi1", "pt2", "eta2", "phi2"]
URL, GRPC = os.environ.get("AF_INFERENCE_URL", ""), os.environ.get("AF_INFERENCE_GRPC", "")
TOKEN = os.environ.get("AF_INFERENCE_TOKEN", "")


def _infer(kind: Any, client: Any, headers: dict[str, str]) -> list[float]:
    asked = kind.InferInput("muons", list(MUONS.shape), "FP32")
    asked.set_data_from_numpy(MUONS)
    return [float(mass) for mass in client.infer("dimuon", [asked], headers=headers).as_numpy("mass")[:, 0]]


def http(url: str, token: str) -> list[float]:
    client = tritonclient.http.InferenceServerClient(urlsplit(url).netloc)
    return _infer(tritonclient.http, client, {"authorization": f"Bearer {token}"})


def grpc(address: str, token: str) -> list[float]:
    with tritonclient.grpc.InferenceServerClient(address) as client:
        return _infer(tritonclient.grpc, client, {"authorization": f"Bearer {token}"})


def tfaas(url: str, token: str) -> list[float]:
    rows = ({"keys": KEYS, "values": [float(x) for x in row], "model": "dimuon"} for row in MUONS)
    return [json.loads(_sent(url, token, "POST", "/json", json.dumps(row).encode())[1])[0] for row in rows]


def _sent(url: str, token: str, verb: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=300)
    given = {"authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(verb, path, body, given | headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask() -> dict[str, list[float]]:
    """Return what each protocol answers."""
    return {"http": http(URL, TOKEN), "grpc": grpc(GRPC, TOKEN), "tfaas": tfaas(URL, TOKEN)}


def upload(name: str, model: str) -> int:
    """Send an ONNX model, in base64, as TFaaS takes it; return the HTTP status."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path, content in {
            "params.json": json.dumps({"name": name}).encode(),
            "model.onnx": base64.b64decode(model),
        }.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    status, said = _sent(URL, TOKEN, "POST", "/upload", file.getvalue(), **{"content-type": "application/x-tar"})
    assert status == 200, said
    return status


def predict(url: str, name: str, value: float) -> float:
    """Return what one server answers by a model of one number; `url` is empty for the service."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}
    body = json.dumps({"inputs": [tensor]}).encode()
    status, said = _sent(url or URL, TOKEN, "POST", f"/v2/models/{name}/infer", body)
    assert status == 200, said
    return float(json.loads(said)["outputs"][0]["data"][0])


def steadily(name: str, number: int) -> dict[str, int]:
    """Ask so often, by a connection of its own each time; return how often each HTTP status came, or what failed."""
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}).encode()
    said: Counter[str] = Counter()
    for _ in range(number):
        try:
            said[str(_sent(URL, TOKEN, "POST", f"/v2/models/{name}/infer", body)[0])] += 1
        except OSError as error:
            said[type(error).__name__] += 1
        time.sleep(0.02)
    return dict(said)


def intrude(url: str, grpc_address: str) -> dict[str, Any]:
    """Try all that a service does, with no token, a guessed one, and this session's own; return what is answered."""
    return {
        f"{who} {what}": answer
        for who, token in {"nobody": "", "a guess": "guess", "another": TOKEN}.items()
        for what, answer in _intrusions(url, grpc_address, token)
    }


def _intrusions(url: str, grpc_address: str, token: str) -> Iterator[tuple[str, Any]]:
    for verb, path in ROUTES:
        yield f"{verb} {path}", _sent(url, token, verb, path, b"{}")[0]
    for what, call in GRPC_CALLS.items():
        with tritonclient.grpc.InferenceServerClient(grpc_address) as client:
            try:
                call(client, {"authorization": f"Bearer {token}"} if token else {})
                yield what, "answered"
            except tritonclient.grpc.InferenceServerException as error:
                yield what, error.status()


ROUTES = [
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("GET", "/v2/models/dimuon"),
    ("POST", "/v2/models/dimuon/infer"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/dimuon/unload"),
    ("POST", "/json"),
    ("POST", "/upload"),
    ("DELETE", "/delete/dimuon"),
]
GRPC_CALLS: dict[str, Callable[..., Any]] = {
    "index": lambda client, headers: client.get_model_repository_index(headers=headers),
    "metadata": lambda client, headers: client.get_model_metadata("dimuon", headers=headers),
    "unload": lambda client, headers: client.unload_model("dimuon", headers=headers),
}
COMMANDS: dict[str, Callable[..., Any]] = {
    "ask": ask,
    "upload": upload,
    "predict": predict,
    "intrude": intrude,
    "steadily": steadily,
}

if __name__ == "__main__":
    command, *values = json.loads(sys.argv[1])
    print(json.dumps(COMMANDS[command](*values)))
