"""The same requests to our server, to a real Triton, and to our front before it: the same answers and refusals.

Needs that Triton, which nothing else here does: AF_TRITON=1 has it installed, for the tests alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from numpy.typing import NDArray
from rich.console import Console
from tritonclient.utils import InferenceServerException

from benchmarks._inference_load import Server
from benchmarks._inference_servers import environment
from benchmarks._inference_triton import TRITON, triton
from local_cluster.progress import Progress
from tests.support.inference.serving import TOKEN, Running, config, serving

pytestmark = pytest.mark.skipif("AF_TRITON" not in os.environ, reason="installs an old Triton: AF_TRITON=1 asks for it")
ROWS = np.random.default_rng(5).standard_normal((9, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    python = environment(Progress(Console()), TRITON)
    with triton(python, tmp_path_factory.mktemp("triton")) as found:
        yield found


@pytest.fixture(scope="module")
def front(real: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return our server before Triton."""
    folder = tmp_path_factory.mktemp("front")
    settings = {"models": [{"name": "network"}], "backend": {"grpc": f"127.0.0.1:{real.grpc}"}}
    with serving(config(folder, **settings)) as found:
        yield found


def clients(http: int, grpc: int) -> list[tuple[Any, Any]]:
    modules: list[tuple[Any, int]] = [(http_client, http), (grpc_client, grpc)]
    return [(module, module.InferenceServerClient(f"127.0.0.1:{port}")) for module, port in modules]


def infer(module: Any, client: Any, rows: NDArray[Any], **more: Any) -> Any:
    tensor = module.InferInput(more.pop("input", "x"), list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    headers = {"authorization": f"Bearer {TOKEN}"}
    return client.infer(more.pop("model", "network"), [tensor], headers=headers, **more)


def test_the_same_answers(real: Server, running: Running, front: Running) -> None:
    found = []
    for each in (real, running, front):
        for module, client in clients(each.http, each.grpc):
            result = infer(module, client, ROWS, request_id="7", model_version="1")
            found.append(result.as_numpy("y"))
            response = result.get_response()
            said = (
                response if isinstance(response, dict) else {"id": response.id, "model_version": response.model_version}
            )
            assert (said["id"], said["model_version"]) == ("7", "1")
    for other in found[1:]:
        assert np.allclose(found[0], other, atol=1e-6)


def test_the_same_metadata(real: Server, running: Running, front: Running) -> None:
    headers, seen = {"authorization": f"Bearer {TOKEN}"}, []
    for each in (real, running, front):
        _, client = clients(each.http, each.grpc)[0]
        about = client.get_model_metadata("network", headers=headers)
        config_of = client.get_model_config("network", headers=headers)
        seen.append((about["name"], about["versions"], about["inputs"], about["outputs"]))
        assert [(each["name"], each["data_type"], each["dims"]) for each in config_of["input"]] in (
            [("x", "TYPE_FP32", ["20"])],
            [("x", "TYPE_FP32", [20])],
        )
        assert {"name", "version", "state"} <= set(client.get_model_repository_index(headers=headers)[0])
        statistics = client.get_inference_statistics("network", headers=headers)["model_stats"][0]
        assert {"inference_count", "execution_count", "inference_stats", "batch_stats"} <= set(statistics)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    "wrong",
    [{"model": "nope"}, {"model_version": "9"}, {"input": "z"}, {"rows": ROWS[:, :5]}],
    ids=["model", "version", "input", "columns"],
)
def test_the_same_is_refused(real: Server, running: Running, front: Running, wrong: dict[str, Any]) -> None:
    for each in (real, running, front):
        for module, client in clients(each.http, each.grpc):
            asked = dict(wrong)
            with pytest.raises(InferenceServerException) as error:
                infer(module, client, asked.pop("rows", ROWS), **asked)
            assert str(error.value.status()) in {"400", "404", "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"}


def test_the_front_says_what_it_stands_before(front: Running, real: Server) -> None:
    assert front.ask("GET", "/v2").json["provider"] == f"127.0.0.1:{real.grpc}"
    assert Path(f"/proc/{real.pid}").exists()
