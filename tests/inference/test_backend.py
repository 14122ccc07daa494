"""The same front before another engine: a server of ours stands for the facility's Triton, whose protocol it speaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from af_inference.backend import Backend
from af_inference.errors import Failed, Invalid, NotFound, Unavailable
from af_inference.settings import CatalogueModel, Limits

from tests.support.inference.serving import Running, config, free_port, serving
from tests.support.inference.tokenless import tokenless

NAMED = [{"name": name, "version": None, "path": None} for name in ("linear", "table", "centred")]


@pytest.fixture(scope="module")
def triton(running: Running) -> Iterator[int]:
    """Return the port of an engine that asks for no token, as Triton asks for none."""
    with tokenless(running.grpc) as port:
        yield port


@pytest.fixture(scope="module")
def front(triton: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("front")
    with serving(config(folder, models=NAMED, backend={"grpc": f"127.0.0.1:{triton}"})) as found:
        yield found


def infer(front: Running, model: str, shape: list[int], data: list[float], datatype: str = "FP32") -> tuple[int, str]:
    name = "i" if model == "table" else "x"
    tensor = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    answer = front.post(f"/v2/models/{model}/infer", {"inputs": [tensor]})
    body = answer.json
    return answer.status, body.get("error") or body["outputs"][0]["data"]


def test_models_of_the_backend_answer(front: Running) -> None:
    assert infer(front, "linear", [2, 4], [1, 2, 3, 4, 1, 1, 1, 1]) == (200, [20, 8])
    assert infer(front, "centred", [2, 3], [0, 0, 0, 2, 2, 2]) == (200, [-1, -1, -1, 1, 1, 1])


def test_what_the_backend_says_of_its_models_is_said(front: Running, triton: int) -> None:
    about = front.ask("GET", "/v2/models/linear").json
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert about["parameters"] == {"provider": f"127.0.0.1:{triton}", "batched": True}
    assert front.ask("GET", "/v2/models/centred").json["parameters"]["batched"] is False
    assert front.ask("GET", "/v2/models/linear/config").json["max_batch_size"] == 1024


def test_a_session_sees_no_other_models_of_the_backend(front: Running) -> None:
    assert {each["name"] for each in front.ask("POST", "/v2/repository/index").json} == {"linear", "table", "centred"}
    assert infer(front, "network", [1, 20], [0] * 20)[0] == 404


def test_a_version_of_the_backend_is_asked_by_its_number(front: Running) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
    for version, status, answer in (("2", 200, [8]), ("3", 404, None)):
        found = front.post(f"/v2/models/linear/versions/{version}/infer", {"inputs": [tensor]})
        assert found.status == status
        assert answer is None or found.json["outputs"][0]["data"] == answer


def test_what_the_backend_refuses_is_refused(front: Running) -> None:
    status, said = infer(front, "table", [1, 1], [99], "INT64")
    assert status in {400, 500}
    assert "the models' backend says" in said


def test_more_rows_than_the_backend_takes_at_once_go_alone(triton: int) -> None:
    backend = Backend(f"127.0.0.1:{triton}", [CatalogueModel("linear")], Limits())
    served = backend.load("linear", None)
    assert served.limits.batch == 1024
    assert served.ask_in_thread({"x": np.ones((2000, 4), np.float32)})["y"].shape == (2000, 1)


def test_a_backend_that_goes_is_said_and_comes_back(running: Running, tmp_path: Path) -> None:
    port = free_port()
    file = config(tmp_path, models=NAMED[:1], backend={"grpc": f"127.0.0.1:{port}"})
    with contextlib.ExitStack() as front_stack, contextlib.ExitStack() as engine:
        front = front_stack.enter_context(serving(file, wait=False))
        assert front.ask("GET", "/v2/health/ready").status == 503
        engine.enter_context(tokenless(running.grpc, port))
        front.until_ready()
        engine.close()
        status, said = infer(front, "linear", [1, 4], [1, 1, 1, 1])
        assert (status, "does not answer" in said) == (503, True)
        with tokenless(running.grpc, port):
            front.until(lambda: infer(front, "linear", [1, 4], [1, 1, 1, 1]) == (200, [8]))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Invalid),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Unavailable),
        (grpc.StatusCode.INTERNAL, Failed),
    ],
)
def test_errors_of_the_backend_are_those_of_the_front(
    running: Running, code: grpc.StatusCode, problem: type[Exception]
) -> None:
    with tokenless(running.grpc, refuse=code) as port, pytest.raises(problem, match="backend"):
        Backend(f"127.0.0.1:{port}", [CatalogueModel("linear")], Limits()).load("linear", None)
