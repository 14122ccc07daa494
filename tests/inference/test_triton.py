"""Triton's gRPC, asked by tritonclient as it is: of threads, of coroutines, and what is not offered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as http_client
from numpy.typing import NDArray
from tritonclient.grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.support.inference.serving import TOKEN, Running

HEADERS = {"authorization": f"Bearer {TOKEN}"}
METADATA = tuple(HEADERS.items())
ROWS = np.array([[1, 2, 3, 4], [1, 1, 1, 1]], np.float32)


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{running.grpc}") as found:
        yield found


@pytest.fixture(scope="module")
def call(running: Running) -> Iterator[Any]:
    """Return a function that sends a ``ModelInferRequest`` as it is."""
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc}") as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        yield lambda request: method(request, metadata=METADATA, timeout=30)


def tensor(name: str, array: NDArray[Any]) -> Any:
    found = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array)
    return found


def request(model: str = "linear", **fields: Any) -> Any:
    body: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [2, 4], **fields}
    return pb.ModelInferRequest(model_name=model, inputs=[pb.ModelInferRequest.InferInputTensor(**body)])


def code(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value.status())


def test_infer(client: Any) -> None:
    result = client.infer("linear", [tensor("x", ROWS)], request_id="7", headers=HEADERS)
    assert result.as_numpy("y").tolist() == [[20], [8]]
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("7", "linear", "2")
    old = client.infer("linear", [tensor("x", ROWS)], model_version="1", headers=HEADERS)
    assert old.as_numpy("y").tolist() == [[10], [4]]


async def test_infer_from_coroutines(running: Running) -> None:
    async with aio.InferenceServerClient(f"127.0.0.1:{running.grpc}") as client:
        assert await client.is_model_ready("linear", headers=HEADERS)
        result = await client.infer("linear", [tensor("x", ROWS)], headers=HEADERS)
        assert result.as_numpy("y").tolist() == [[20], [8]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_messages(client: Any, algorithm: str) -> None:
    result = client.infer("linear", [tensor("x", ROWS)], compression_algorithm=algorithm, headers=HEADERS)
    assert result.as_numpy("y").tolist() == [[20], [8]]


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.uint16, np.float16, np.float64])
def test_numbers_of_each_kind_come_back(client: Any, dtype: Any) -> None:
    kinds = {"float64": "DOUBLE", "float16": "FLOAT16"}
    name = f"same_{kinds.get(np.dtype(dtype).name, np.dtype(dtype).name.upper())}"
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    result = client.infer(name, [tensor("x", array)], headers=HEADERS).as_numpy("y")
    assert result.dtype == array.dtype
    assert (result == array).all()


def test_strings_come_back(client: Any) -> None:
    array = np.array([["a", "äö"], ["", "b"]], dtype=object)
    found = client.infer("same_STRING", [tensor("x", array)], headers=HEADERS).as_numpy("y")
    assert [text.decode() for text in found.ravel()] == ["a", "äö", "", "b"]


@pytest.mark.parametrize(
    ("model", "datatype", "field", "values"),
    [
        ("same_BOOL", "BOOL", "bool_contents", [True, False]),
        ("same_INT8", "INT8", "int_contents", [-128, 127]),
        ("same_INT64", "INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("same_UINT16", "UINT16", "uint_contents", [0, 65535]),
        ("same_DOUBLE", "FP64", "fp64_contents", [0.5, float("inf")]),
        ("same_STRING", "BYTES", "bytes_contents", ["ä".encode(), b""]),
    ],
)
def test_typed_contents(call: Any, model: str, datatype: str, field: str, values: list[Any]) -> None:
    contents = pb.InferTensorContents(**{field: values})
    response = call(request(model, datatype=datatype, shape=[1, 2], contents=contents))
    found = triton.InferResult(response).as_numpy("y")
    assert found.ravel().tolist() == values


def test_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear", headers=HEADERS)
    assert not client.is_model_ready("nope", headers=HEADERS)
    assert client.get_server_metadata(headers=HEADERS).name == "af-inference"
    about = client.get_model_metadata("linear", headers=HEADERS, as_json=True)
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    config = client.get_model_config("linear", headers=HEADERS).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (1024, [4])
    index = client.get_model_repository_index(headers=HEADERS).models
    assert ("two", "1", "READY") in {(each.name, each.version, each.state) for each in index}
    statistics = client.get_inference_statistics("linear", "2", headers=HEADERS).model_stats[0]
    assert statistics.execution_count == sum(each.compute_infer.count for each in statistics.batch_stats)


def test_health_needs_no_token_and_all_else_does(client: Any) -> None:
    assert client.is_server_live()
    calls = [
        client.get_server_metadata,
        client.get_model_repository_index,
        client.get_inference_statistics,
        lambda **kw: client.get_model_metadata("linear", **kw),
        lambda **kw: client.get_model_config("linear", **kw),
        lambda **kw: client.infer("linear", [tensor("x", ROWS)], **kw),
    ]
    for each in calls:
        for headers in (None, {"authorization": "Bearer x"}):
            with pytest.raises(InferenceServerException, match="AF_INFERENCE_TOKEN") as error:
                each(headers=headers)
            assert code(error) == "StatusCode.UNAUTHENTICATED"


REFUSED: list[tuple[Any, grpc.StatusCode, str]] = [
    (request("nope"), grpc.StatusCode.NOT_FOUND, "there is no model nope"),
    (
        request(datatype="FP64", contents={"fp64_contents": [0] * 8}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "is FP32, not FP64",
    ),
    (request(shape=[-1, 4]), grpc.StatusCode.INVALID_ARGUMENT, "needs a shape"),
    (request(), grpc.StatusCode.INVALID_ARGUMENT, "8 elements, not 0"),
    (request(datatype="FP16"), grpc.StatusCode.INVALID_ARGUMENT, "only be sent in raw_input_contents"),
    (request(contents={"int_contents": [1]}), grpc.StatusCode.INVALID_ARGUMENT, "has its numbers in fp32_contents"),
    (
        request("same_INT8", datatype="INT8", shape=[1, 2], contents={"int_contents": [300, 0]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "out of the range of INT8",
    ),
    (
        request("same_STRING", datatype="BYTES", shape=[1], contents={"bytes_contents": [b"\xff"]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "UTF-8",
    ),
    (
        request(parameters={"shared_memory_region": pb.InferParameter(string_param="r")}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "shared_memory_region is not offered",
    ),
    (pb.ModelInferRequest(model_name="linear"), grpc.StatusCode.INVALID_ARGUMENT, "takes the inputs x"),
    (
        pb.ModelInferRequest(model_name="linear", raw_input_contents=[b""]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "there are 0 inputs",
    ),
]


@pytest.mark.parametrize(("asked", "status", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_fit_is_refused_in_words(call: Any, asked: Any, status: grpc.StatusCode, said: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call(asked)
    found: Any = error.value
    assert (found.code(), said in found.details()) == (status, True), found.details()


@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_messages_have_bounds_also_when_they_are_inflated(client: Any, algorithm: str | None) -> None:
    with pytest.raises(InferenceServerException, match="larger than max") as error:
        client.infer(
            "linear",
            [tensor("x", np.zeros((5_000_000, 4), np.float32))],
            headers=HEADERS,
            compression_algorithm=algorithm,
        )
    assert code(error) == "StatusCode.RESOURCE_EXHAUSTED"
    assert client.is_server_live()


def test_what_is_not_offered_says_so(client: Any) -> None:
    for each in (client.get_trace_settings, client.get_system_shared_memory_status, client.get_log_settings):
        with pytest.raises(InferenceServerException) as error:
            each(headers=HEADERS)
        assert code(error) == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException, match="allows no uploads") as error:
        client.load_model("linear", headers=HEADERS)
    assert code(error) == "StatusCode.PERMISSION_DENIED"


def test_both_protocols_answer_with_the_same_bytes(running: Running, client: Any) -> None:
    rows = np.random.default_rng(3).standard_normal((7, 20)).astype(np.float32)
    over_grpc = client.infer("network", [tensor("x", rows)], headers=HEADERS).as_numpy("y")
    with http_client.InferenceServerClient(f"127.0.0.1:{running.http}") as other:
        value = http_client.InferInput("x", list(rows.shape), "FP32")
        value.set_data_from_numpy(rows)
        over_http = other.infer("network", [value], headers={"Authorization": HEADERS["authorization"]}).as_numpy("y")
    assert over_grpc.tobytes() == over_http.tobytes()
