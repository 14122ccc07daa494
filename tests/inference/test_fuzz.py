"""Whatever comes in is answered or refused in words: never by an error of the server's own, and never by its end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from af_inference import triton_messages
from af_inference.app import Front, application
from af_inference.auth import Token
from af_inference.errors import Problem, Unauthorized
from af_inference.server import Server
from af_inference.settings import Limits, Settings
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from tests.support.inference import onnx_models
from tests.support.inference.serving import PACKAGE, TOKEN, config

REFUSED = {400, 404, 405, 413, 415, 422}
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y", ""]) | VALUES,
        "datatype": st.sampled_from(["FP32", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "FP16"]) | VALUES,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | VALUES,
        "data": st.lists(st.floats() | st.integers(), max_size=8) | VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40) | VALUES}) | VALUES,
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES,
        "inputs": st.lists(INPUTS, max_size=3) | VALUES,
        "outputs": st.lists(st.fixed_dictionaries({}, optional={"name": VALUES, "parameters": VALUES}), max_size=2)
        | VALUES,
        "parameters": VALUES,
    },
)


@dataclass(frozen=True)
class Asked:
    """The application in this process, asked without a socket."""

    server: Server
    app: Front

    def post(self, path: str, body: bytes, *headers: tuple[bytes, bytes]) -> int:
        """Return the status of the answer, which must say what is wrong if anything is."""
        status, answer = asyncio.run(
            self._post(path, body, [*headers, (b"authorization", b"Bearer " + TOKEN.encode())])
        )
        if status != 200:
            assert json.loads(answer)["error"]
        return status

    async def _post(self, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": headers,
            "query_string": b"",
            "root_path": "",
        }
        await asyncio.wait_for(self.app(scope, receive, send), 20)
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("fuzz")
    models = []
    for name, model in {"linear": onnx_models.linear(), "text": onnx_models.identity("STRING")}.items():
        onnx_models.put(folder / name, model)
        models.append({"name": name, "path": str(folder / name)})
    server = Server.of(Settings.parse(config(folder, models=models).read_bytes()))
    return Asked(server, application(server))


def row(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], **changes}]}


def test_the_row_that_is_mutated_is_answered(asked: Asked) -> None:
    assert asked.post("/v2/models/linear/infer", json.dumps(row()).encode()) == 200


@QUICK
@given(body=BODIES, model=st.sampled_from(["linear", "text"]), rest=st.binary(max_size=20), length=st.booleans())
def test_bodies_of_the_right_kind(asked: Asked, body: dict[str, Any], model: str, rest: bytes, length: bool) -> None:
    text = json.dumps(body).encode()
    headers = [(b"inference-header-content-length", b"%d" % len(text))] if length else []
    assert asked.post(f"/v2/models/{model}/infer", text + rest, *headers) in {200, *REFUSED}


@QUICK
@given(data=st.data())
def test_bodies_with_wrong_bytes(asked: Asked, data: st.DataObject) -> None:
    text = bytearray(json.dumps(row()).encode())
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=4)):
        text[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(text)))
    for body in (bytes(text), bytes(text[:cut])):
        assert asked.post("/v2/models/linear/infer", body) in {200, *REFUSED}


@QUICK
@given(
    name=st.sampled_from([b"inference-header-content-length", b"content-encoding", b"content-type"]),
    value=st.binary(max_size=12).filter(lambda v: not set(v) & {0, 10, 13}),
)
def test_headers_with_anything_in_them(asked: Asked, name: bytes, value: bytes) -> None:
    assert asked.post("/v2/models/linear/infer", json.dumps(row()).encode(), (name, value)) in {200, *REFUSED}


@QUICK
@given(path=st.text(max_size=30), body=st.binary(max_size=30))
def test_paths_and_names(asked: Asked, path: str, body: bytes) -> None:
    for stem in (f"/v2/models/{path}/infer", f"/v2/models/linear/versions/{path}/infer", f"/v2/{path}", f"/{path}"):
        assert asked.post(stem, body) in REFUSED


@QUICK
@given(authorization=st.binary(max_size=40))
def test_only_the_token_passes(authorization: bytes) -> None:
    with pytest.raises(Unauthorized):
        Token(TOKEN.encode()).check(authorization)


def messages() -> st.SearchStrategy[Any]:
    contents = st.builds(
        pb.InferTensorContents,
        fp32_contents=st.lists(st.floats(width=32), max_size=5),
        int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
        bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
    )
    tensor = st.builds(
        pb.ModelInferRequest.InferInputTensor,
        name=st.sampled_from(["x", "", "other"]),
        datatype=st.sampled_from(["FP32", "INT8", "BYTES", "FP16", "", "nope"]),
        shape=st.lists(st.integers(-1, 4) | st.integers(2**40, 2**62), max_size=3),
        contents=st.none() | contents,
    )
    output = st.builds(pb.ModelInferRequest.InferRequestedOutputTensor, name=st.sampled_from(["y", "", "z"]))
    return st.builds(
        pb.ModelInferRequest,
        inputs=st.lists(tensor, max_size=2),
        outputs=st.lists(output, max_size=2),
        raw_input_contents=st.lists(st.binary(max_size=20), max_size=2),
    )


def answered(asked: Asked, model: str, request: Any) -> Any:
    """Return what a message is answered with, or None if it is refused."""
    try:
        served = asked.server.registry.get_in_thread(model)
        feeds = triton_messages.feeds(request, Limits())
        return triton_messages.answer(served, "", served.ask_in_thread(feeds, triton_messages.outputs(request)))
    except tuple(kind for kind in Problem.__subclasses__() if kind.status in REFUSED):
        return None


@QUICK
@given(request=messages(), model=st.sampled_from(["linear", "text"]))
def test_messages_of_the_right_kind(asked: Asked, request: Any, model: str) -> None:
    answered(asked, model, request)


@QUICK
@given(data=st.data())
def test_messages_with_wrong_bytes(asked: Asked, data: st.DataObject) -> None:
    request = pb.ModelInferRequest(model_name="linear", raw_input_contents=[np.ones(4, np.float32).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    assert answered(asked, "linear", request).outputs[0].name == "y"
    text = bytearray(request.SerializeToString())
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=3)):
        text[at] = data.draw(st.integers(0, 255))
    try:
        wrong = pb.ModelInferRequest.FromString(bytes(text))
    except DecodeError:
        return
    answered(asked, "linear", wrong)


MUTATE = """
import random, resource, sys
from pathlib import Path
from af_inference.errors import Problem
from af_inference.runtime import Runtime
from af_inference.trial import answer_once
whole, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
chance, counts = random.Random(int(sys.argv[3])), [0, 0]
for number in range(int(sys.argv[4])):
    text = bytearray(whole[: chance.randrange(len(whole))] if number % 3 == 0 else whole)
    for _ in range(chance.randrange(1, 6) if text else 0):
        text[chance.randrange(len(text))] = chance.randrange(256)
    file = folder / "model.onnx"
    file.write_bytes(bytes(text))
    try:
        answer_once(Runtime().load("m", "1", file))
        counts[0] += 1
    except Problem:
        counts[1] += 1
print(*counts)
"""


@pytest.mark.parametrize("model", [onnx_models.network(4, 4), onnx_models.looked_up(), onnx_models.external("weights")])
def test_models_with_wrong_bytes_are_refused_or_answer(tmp_path: Path, model: Any) -> None:
    whole = onnx_models.put(tmp_path / "whole", model)
    (tmp_path / "weights").write_bytes(b"\0" * 16)
    argv = [sys.executable, "-c", MUTATE, str(whole), str(tmp_path), "7", "120"]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(PACKAGE)}, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded, refused = map(int, done.stdout.splitlines()[-1].split())  # onnxruntime prints too
    assert loaded + refused == 120
    assert refused > 20
