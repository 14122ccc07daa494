"""Many clients at once, and models that come and go meanwhile: each gets its own answer, or a clear error."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from af_inference.repository import Repository
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, Running, config, serving

ROUNDS = 40
Ask = Callable[[str, dict[str, NDArray[Any]], str], NDArray[Any]]


def asker(module: Any, port: int) -> Ask:
    """Return a function that asks with a client of its own, as each thread must have one."""
    client = module.InferenceServerClient(f"127.0.0.1:{port}")

    def ask(model: str, feeds: dict[str, NDArray[Any]], output: str) -> NDArray[Any]:
        inputs = []
        for name, array in feeds.items():
            inputs.append(module.InferInput(name, list(array.shape), "FP32"))
            inputs[-1].set_data_from_numpy(array)
        result: NDArray[Any] = client.infer(model, inputs, headers={"authorization": f"Bearer {TOKEN}"}).as_numpy(
            output
        )
        return result

    return ask


def wrong_answers(running: Running, number: int) -> int:
    """Ask models of several shapes, in an order of this client's own, and count what is wrong."""
    random = np.random.default_rng(number)
    module, port = (grpc_client, running.grpc) if number % 2 else (http_client, running.http)
    ask, wrong = asker(module, port), 0
    for _ in range(ROUNDS):
        x = random.standard_normal((random.integers(1, 5), 4)).astype(np.float32)
        a, b = x[:, :2], x[:, 2:]
        three = np.repeat(x[:, :1], 3, axis=1)
        wrong += not np.allclose(ask("linear", {"x": x}, "y"), 2 * x.sum(axis=1, keepdims=True), atol=1e-5)
        wrong += not np.allclose(ask("two", {"a": a, "b": b}, "product"), a * b)
        wrong += not np.allclose(ask("centred", {"x": three}, "y"), three - three.mean(axis=0), atol=1e-5)
    return wrong


def test_everybody_gets_their_own_answers(running: Running) -> None:
    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(wrong_answers, [running] * 12, range(12))) == 0
    stats = {
        name: running.ask("GET", f"/v2/models/{name}/stats").json["model_stats"][0] for name in ("linear", "centred")
    }
    together, apart = (
        stats[name]["execution_count"] / stats[name]["inference_stats"]["success"]["count"] for name in stats
    )
    assert together < 1  # some went together
    assert apart == 1


@pytest.mark.parametrize(("module", "protocol"), [(http_client, "http"), (grpc_client, "grpc")])
def test_a_slow_model_keeps_no_other_waiting(running: Running, module: Any, protocol: str) -> None:
    port = getattr(running, protocol)
    quick, rows = asker(module, port), np.random.default_rng(2).standard_normal((20_000, 400)).astype(np.float32)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(lambda: asker(module, port)("slow", {"x": rows}, "y"))
        running.until(lambda: _computing(running, slow))
        assert quick("linear", {"x": np.ones((1, 4), np.float32)}, "y").tolist() == [[8]]
        assert not slow.done()
        assert np.allclose(slow.result(60), rows, atol=1e-3)


def _computing(running: Running, slow: Future[Any]) -> bool:
    """Say whether the slow model has begun: it is not waiting in the queue, and has not answered."""
    assert not slow.done()
    busy = 'af_inference_running{model="slow",version="1"} 1.0'
    return busy in running.ask("GET", "/metrics").body.decode()


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[Running, Repository]]:
    """Return a server that allows changes, and its store."""
    store = tmp_path / "store"
    store.mkdir()
    repository = Repository([], store)
    upload(repository, 1)
    with serving(config(tmp_path, store=str(store), upload=True)) as found:
        yield found, repository


def upload(repository: Repository, scale: float, name: str = "top") -> str:
    with repository.stage() as staged:
        (staged / "model.onnx").write_bytes(onnx_models.linear(scale=scale).SerializeToString())
        return repository.put(name, None, staged).version


def asks_until(stop: threading.Event, running: Running, number: int) -> tuple[set[float], set[str]]:
    """Ask until told to stop; return all different answers, and the codes of all errors."""
    module, port = (grpc_client, running.grpc) if number % 2 else (http_client, running.http)
    ask, row, answers, errors = asker(module, port), np.ones((1, 4), np.float32), set(), set()
    while not stop.is_set():
        try:
            answers.add(float(ask("top", {"x": row}, "y")[0, 0]))
        except InferenceServerException as error:
            errors.add(str(error.status()))
    return answers, errors


def test_models_are_loaded_unloaded_and_replaced_while_they_are_asked(changing: tuple[Running, Repository]) -> None:
    running, repository = changing
    stop = threading.Event()
    with ThreadPoolExecutor(6) as threads:
        asks = [threads.submit(asks_until, stop, running, number) for number in range(4)]
        try:
            for scale in range(2, 7):
                assert running.post("/v2/repository/models/top/unload", {}).status == 200
                upload(repository, scale)
                assert running.post("/v2/repository/models/top/load", {"parameters": {}}).status == 200
        finally:
            stop.set()
        found = [ask.result(30) for ask in asks]
    scales = {4.0 * scale for scale in range(1, 7)}
    assert set().union(*(answers for answers, _ in found)) <= scales
    assert set().union(*(errors for _, errors in found)) <= {"404", "StatusCode.NOT_FOUND"}
    assert running.ask("GET", "/v2/models/top").json["versions"] == ["6"]
    assert asker(http_client, running.http)("top", {"x": np.ones((1, 4), np.float32)}, "y").tolist() == [[24]]


def test_what_another_server_puts_into_the_store_is_found(changing: tuple[Running, Repository]) -> None:
    running, repository = changing
    assert running.ask("GET", "/v2/models/other").status == 404
    upload(repository, 3, "other")
    assert running.ask("GET", "/v2/models/other").json["versions"] == ["1"]


def test_a_change_that_is_not_understood_changes_nothing(changing: tuple[Running, Repository]) -> None:
    running, _ = changing
    for path, body, status in [
        ("models/top/load", {"parameters": {"config": "{}"}}, 400),
        ("models/top/load", {"parameters": {"file:1/model.onnx": "AAAA"}}, 400),
        ("models/top/load", {"parameters": 1}, 400),
        ("models/top/unload", [], 400),
        ("models/nope/load", {}, 404),
        ("models/nope/unload", {}, 404),
    ]:
        assert running.post(f"/v2/repository/{path}", body).status == status
    assert running.ask("GET", "/v2/models/top/ready").status == 200


def test_a_server_is_not_ready_before_its_models_are(tmp_path: Path) -> None:
    models = [{"name": name, "version": None, "path": str(tmp_path / name)} for name in ("there", "late")]
    onnx_models.put(tmp_path / "there", onnx_models.linear())
    with serving(config(tmp_path, models=models), wait=False) as running:
        answer = running.ask("GET", "/v2/health/ready", headers={"Authorization": ""})
        assert answer.status == 503
        assert "late" not in answer.json["error"]  # whoever has no token is told of no model
        onnx_models.put(tmp_path / "late", onnx_models.linear())
        running.until_ready()


def test_a_configuration_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    file = config(tmp_path, device="cuda")
    with pytest.raises(AssertionError, match="needs CUDAExecutionProvider"), serving(file):
        pass
    file.write_text(json.dumps({"token": str(tmp_path / "missing")}))
    with pytest.raises(AssertionError, match="missing"), serving(file):
        pass
