"""The Open Inference Protocol over HTTP, asked by tritonclient as it is, and byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, Answer, Running, config, serving

ROWS = np.array([[1, 2, 3, 4], [1, 1, 1, 1]], np.float32)
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{running.http}") as found:
        yield found


def token() -> dict[str, str]:
    """Return new headers: tritonclient writes its own into those it is given."""
    return {"Authorization": f"Bearer {TOKEN}"}


def tensor(name: str, array: NDArray[Any], binary: bool = True) -> Any:
    found = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def infer(running: Running, body: Any, model: str = "linear", **headers: str) -> Answer:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return running.ask("POST", f"/v2/models/{model}/infer", text, headers)


def asked(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": ROWS.tolist(), **changes}]}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_in_json_and_binary(client: Any, binary_in: bool, binary_out: bool) -> None:
    outputs = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = client.infer("linear", [tensor("x", ROWS, binary_in)], outputs=outputs, request_id="7", headers=token())
    assert result.as_numpy("y").tolist() == [[20], [8]]
    assert result.get_response()["id"] == "7"
    assert result.get_response()["model_version"] == "2"


async def test_infer_from_coroutines(running: Running) -> None:
    async with aio.InferenceServerClient(f"127.0.0.1:{running.http}") as client:
        assert await client.is_model_ready("linear", headers=token())
        for result in await asyncio.gather(
            *(client.infer("linear", [tensor("x", ROWS)], headers=token()) for _ in range(8))
        ):
            assert result.as_numpy("y").tolist() == [[20], [8]]


def test_versions_are_asked_by_their_number(client: Any) -> None:
    for version, scale in {"1": 1, "2": 2, "": 2}.items():
        result = client.infer("linear", [tensor("x", ROWS)], model_version=version, headers=token())
        assert result.as_numpy("y").tolist() == [[10 * scale], [4 * scale]]
    with pytest.raises(InferenceServerException, match="no version 3, but 2, 1"):
        client.infer("linear", [tensor("x", ROWS)], model_version="3", headers=token())


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_inflated(client: Any, algorithm: str) -> None:
    result = client.infer(
        "linear",
        [tensor("x", ROWS)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
        headers=token(),
    )
    assert result.as_numpy("y").tolist() == [[20], [8]]


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.uint16, np.float16, np.float64])
def test_numbers_of_each_kind_come_back(client: Any, dtype: Any) -> None:
    kinds = {"float64": "DOUBLE", "float16": "FLOAT16"}
    name = f"same_{kinds.get(np.dtype(dtype).name, np.dtype(dtype).name.upper())}"
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    for binary in (True, dtype is np.float16):  # tritonclient has no JSON for FP16
        result = client.infer(name, [tensor("x", array, binary)], headers=token()).as_numpy("y")
        assert result.dtype == array.dtype
        assert (result == array).all()


def test_strings_come_back(client: Any) -> None:
    array = np.array([["a", "äö"], ["", "b"]], dtype=object)
    for binary in (True, False):
        found = client.infer("same_STRING", [tensor("x", array, binary)], headers=token()).as_numpy("y")
        assert [text.decode() for text in found.ravel()] == ["a", "äö", "", "b"]


def test_several_inputs_and_some_of_the_outputs(client: Any) -> None:
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    both = [tensor("b", b), tensor("a", a)]
    result = client.infer("two", both, headers=token())
    assert (result.as_numpy("total").tolist(), result.as_numpy("product").tolist()) == ([[4, 6]], [[3, 8]])
    result = client.infer("two", both, outputs=[triton.InferRequestedOutput("product")], headers=token())
    assert [each["name"] for each in result.get_response()["outputs"]] == ["product"]


def test_health_needs_no_token_and_all_else_does(running: Running) -> None:
    wrong = {"Authorization": "Bearer x"}
    assert {running.ask("GET", f"/v2/health/{which}", headers=wrong).status for which in ("live", "ready")} == {200}
    for method, path in {
        ("GET", "/v2"), ("GET", "/metrics"), ("GET", "/v2/models/linear"), ("POST", "/v2/repository/index"),
        ("POST", "/v2/models/linear/infer"), ("GET", "/nope"),
    }:  # fmt: skip
        answer = running.ask(method, path, headers=wrong)
        assert answer.status == 401
        assert "AF_INFERENCE_TOKEN" in answer.json["error"]
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "authorization", [f"bearer {TOKEN}", "Basic dXNlcjp0MGtlbi1vZi10aGUtdGVzdHM=", "Basic OnQwa2VuLW9mLXRoZS10ZXN0cw=="]
)
def test_the_token_in_other_clothes(running: Running, authorization: str) -> None:
    assert running.ask("GET", "/v2", headers={"Authorization": authorization}).status == 200


@pytest.mark.parametrize(
    "authorization", ["", TOKEN, "Bearer", "Basic %", "Basic dXNlcjo=", f"Basic {TOKEN}", "Bearer t0ken"]
)
def test_what_is_not_the_token(running: Running, authorization: str) -> None:
    assert running.ask("GET", "/v2", headers={"Authorization": authorization}).status == 401


def test_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear", headers=token())
    assert not client.is_model_ready("nope", headers=token())
    assert client.get_server_metadata(headers=token())["provider"] == "CPUExecutionProvider"
    about = client.get_model_metadata("linear", "2", headers=token())
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert about["platform"] == "onnxruntime_onnx"
    assert about["parameters"] == {"provider": "CPUExecutionProvider", "batched": True}
    assert client.get_model_metadata("centred", headers=token())["parameters"]["batched"] is False


def test_configuration(client: Any) -> None:
    config = client.get_model_config("linear", headers=token())
    assert config["max_batch_size"] == 1024
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
    assert client.get_model_config("fixed", headers=token())["max_batch_size"] == 3
    assert "max_batch_size" not in client.get_model_config("centred", headers=token())


def test_the_repository_and_its_statistics(client: Any) -> None:
    index = client.get_model_repository_index(headers=token())
    assert {"name": "two", "version": "1", "state": "READY", "reason": ""} in index
    before = client.get_inference_statistics("two", headers=token())["model_stats"][0]
    row = np.ones((3, 2), np.float32)
    client.infer("two", [tensor("a", row), tensor("b", row)], headers=token())
    after = client.get_inference_statistics("two", headers=token())["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    assert len(client.get_inference_statistics(headers=token())["model_stats"]) > 5


def test_nothing_is_loaded_where_the_profile_allows_no_changes(client: Any) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="allows no uploads, loads and unloads"):
            change("linear", headers=token())
    assert client.is_model_ready("linear", headers=token())


def test_answers_byte_by_byte(running: Running) -> None:
    plain = infer(running, {**asked(), "id": "ä"})
    assert plain.body == (
        b'{"model_name":"linear","model_version":"2","outputs":'
        b'[{"name":"y","datatype":"FP32","shape":[2,1],"data":[20.0,8.0]}],"id":"\xc3\xa4"}'
    )
    assert plain.headers["content-type"] == "application/json"
    binary = infer(running, {**asked(), "parameters": {"binary_data_output": True}})
    head = (
        b'{"model_name":"linear","model_version":"2","outputs":'
        b'[{"name":"y","datatype":"FP32","shape":[2,1],"parameters":{"binary_data_size":8}}]}'
    )
    assert binary.body == head + b"\x00\x00\xa0A\x00\x00\x00A"
    assert binary.headers[LENGTH.lower()] == str(len(head))
    assert binary.headers["content-type"] == "application/octet-stream"


def test_an_output_says_for_itself_whether_it_is_binary(running: Running) -> None:
    row = [{"name": name, "datatype": "FP32", "shape": [1, 2], "data": [1, 2]} for name in ("a", "b")]
    outputs = [{"name": "total"}, {"name": "product", "parameters": {"binary_data": False}}]
    answer = infer(running, {"inputs": row, "outputs": outputs, "parameters": {"binary_data_output": True}}, "two")
    found = orjson.loads(answer.body[: int(answer.headers[LENGTH.lower()])])["outputs"]
    assert [set(each) - {"name", "datatype", "shape"} for each in found] == [{"parameters"}, {"data"}]


INVALID: list[tuple[Any, str]] = [
    (b"{", "no JSON"),
    (b"[]", "must be a JSON object"),
    (b"[" * 100_000, "no JSON"),
    ({}, "inputs must be a list"),
    ({"inputs": [1]}, "an input must be a JSON object"),
    ({"inputs": []}, "takes the inputs x"),
    ({"inputs": asked()["inputs"] * 2}, "there twice"),
    (asked(name="z"), "takes the inputs x"),
    (asked(name=7), "the name of an input must be a string"),
    (asked(name="x" * 300), "at most 256 characters"),
    (asked(shape=[-1, 4]), "needs a shape"),
    (asked(shape=[2.0, 4]), "needs a shape"),
    (asked(shape=[True, 4]), "needs a shape"),
    (asked(shape=[2] * 17), "needs a shape"),
    (asked(shape=[4, 2]), "has shape"),
    (asked(shape=[8]), "has shape"),
    (asked(shape=[3, 4]), "12 elements, not 8"),
    (asked(datatype="FP64"), "is FP32, not FP64"),
    (asked(datatype="FP31"), "is none of"),
    (asked(data="text"), "no FP32"),
    (asked(data=None), "no FP32"),
    (asked(parameters={"binary_data_size": 32}), "binary_data_size"),
    (asked(parameters=1), "parameters must be"),
    ({**asked(), "outputs": [{"name": "z"}]}, "no output z, but y"),
    ({**asked(), "outputs": [{"name": "y", "parameters": {"classification": 2}}]}, "classification is not offered"),
    ({**asked(), "id": 7}, "id must be a string"),
]


@pytest.mark.parametrize(("body", "said"), INVALID, ids=range(len(INVALID)))
def test_what_is_not_the_protocol_is_refused_in_words(running: Running, body: Any, said: str) -> None:
    answer = infer(running, body)
    assert (answer.status, said in answer.json["error"]) == (400, True), answer.body


@pytest.mark.parametrize("length", ["-1", "x", "0", "100000", "1" * 5000])
def test_the_length_of_the_header_is_checked(running: Running, length: str) -> None:
    answer = infer(running, asked(), **{LENGTH: length})
    assert (answer.status, LENGTH in answer.json["error"]) == (400, True)


def test_bytes_that_nobody_announced_are_refused(running: Running) -> None:
    head = orjson.dumps(asked())
    answer = infer(running, head + b"1234", **{LENGTH: str(len(head))})
    assert (answer.status, "4 bytes are left over" in answer.json["error"]) == (400, True)


def test_too_much_is_said_to_be_too_much(running: Running) -> None:
    tensors = infer(running, {"inputs": [{"name": str(n)} for n in range(65)]})
    columns = infer(running, {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 10**5], "data": [0] * 10**5}]})
    size = running.ask("POST", "/v2/models/linear/infer", None, {"Content-Length": str(10**9)})
    assert [tensors.status, columns.status, size.status] == [413, 400, 413]


def test_a_bomb_is_not_inflated(running: Running) -> None:
    bomb = gzip.compress(b" " * (80 * 2**20))
    answer = infer(running, bomb, **{"Content-Encoding": "gzip"})
    assert (answer.status, "when it is inflated" in answer.json["error"]) == (413, True)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"", 415),
        ("gzip, gzip", b"", 415),
        ("gzip", b"no gzip", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], 400),
        ("deflate", zlib.compress(b"{}") + b"more", 400),
    ],
)
def test_encodings(running: Running, encoding: str, body: bytes, status: int) -> None:
    assert infer(running, body, **{"Content-Encoding": encoding}).status == status


def test_what_json_cannot_hold_goes_in_binary_only(running: Running) -> None:
    raw = np.array([[np.nan, 1, 1, 1]], np.float32).tobytes()
    value = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": len(raw)}}
    for binary, status in {True: 200, False: 422}.items():
        head = orjson.dumps({"inputs": [value], "parameters": {"binary_data_output": binary}})
        answer = infer(running, head + raw, **{LENGTH: str(len(head))})
        assert answer.status == status
    assert "NaN" in answer.json["error"]


def test_a_model_that_breaks_answers_an_error_and_goes_on(running: Running) -> None:
    for index, status in {9: {400, 500}, 1: {200}}.items():
        body = {"inputs": [{"name": "i", "datatype": "INT64", "shape": [1, 1], "data": [index]}]}
        assert infer(running, body, "table").status in status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", "/v2/models/linear/versions/x/config", 404),
        ("GET", "/v2/models/linear/infer", 404),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/linear/versions/1/2/infer", 404),
        ("DELETE", "/v2", 405),
        ("PUT", "/v2/models/linear", 405),
    ],
)
def test_other_routes_are_refused_in_json(running: Running, method: str, path: str, status: int) -> None:
    answer = running.ask(method, path)
    assert (answer.status, bool(answer.json["error"])) == (status, True)


def test_no_rows_have_no_answers(client: Any) -> None:
    assert client.infer("linear", [tensor("x", ROWS[:0])], headers=token()).as_numpy("y").shape == (0, 1)


def test_metrics_name_models_that_there_are_and_no_others(running: Running) -> None:
    infer(running, asked())
    infer(running, asked(), "made_up_by_a_client")
    text = running.ask("GET", "/metrics").body.decode()
    assert 'af_inference_request_seconds_count{model="linear",protocol="v2",status="200"}' in text
    assert 'af_inference_request_seconds_count{model="",protocol="v2",status="404"}' in text
    assert 'af_inference_batch_rows_bucket{le="2.0",model="linear",version="2"}' in text
    assert 'provider="CPUExecutionProvider"' in text
    assert "made_up" not in text
    assert TOKEN not in text + running.log.read_text()


def test_many_large_bodies_at_once_are_told_to_wait(tmp_path: Path) -> None:
    onnx_models.put(tmp_path / "linear", onnx_models.linear())
    models = [{"name": "linear", "path": str(tmp_path / "linear")}]
    body = orjson.dumps(asked(shape=[10**5, 4], data=[1] * (4 * 10**5)))
    with serving(config(tmp_path, models=models, limits={"bodies": 10**6})) as running, contextlib.ExitStack() as stack:
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", running.http), 30))
        head = f"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        running.until(lambda: infer(running, body).status == 429)
        answer = infer(running, body)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert infer(running, asked()).status == 200
        slow.sendall(body[10:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        running.until(lambda: infer(running, body).status == 200)
