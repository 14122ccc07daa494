"""The client against the server: what a user has in Python, asked of models that are really served."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import awkward as ak
import numpy as np
import pytest

from af_client import arrays, model_service
from af_client import models as client
from af_client.errors import BadInput, ModelRefused, ModelsUnavailable
from af_client.models import Models, ServedModel
from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, Running, config, serving

MODELS = {
    ("sum", "1"): onnx_models.linear(3),
    ("sum", "2"): onnx_models.linear(3, scale=2.0),
    ("pair", "1"): onnx_models.two_inputs(),
    ("table", "1"): onnx_models.looked_up(),
    ("text", "1"): onnx_models.identity("STRING", ("N", 1)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    for (name, version), model in MODELS.items():
        onnx_models.put(folder / name, model, version)
    named = [{"name": name, "version": version, "path": str(folder / name)} for name, version in MODELS]
    with serving(config(folder, models=named)) as running:
        yield running


@pytest.fixture
def models(server: Running, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Return what a user's code in the session finds."""
    monkeypatch.setenv("AF_INFERENCE_URL", f"http://127.0.0.1:{server.http}")
    monkeypatch.setenv("AF_INFERENCE_TOKEN", TOKEN)
    return Models()


def test_all_versions_are_listed(models: Models) -> None:
    assert models.list() == [ServedModel(name, version, True) for name, version in sorted(MODELS)]


def test_the_highest_version_answers_unless_one_is_chosen(models: Models) -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert models.predict("sum", x).tolist() == [[6.0], [24.0]]
    assert models.predict("sum", x, 1).tolist() == [[3.0], [12.0]]
    assert models.predict("sum", x, version="1").dtype == np.float32


def test_several_inputs_and_outputs_go_by_their_names(models: Models) -> None:
    asked = {"a": np.full((2, 2), 3.0), "b": np.full((2, 2), 4.0)}
    found = models.predict("pair", asked)
    assert {name: array.tolist() for name, array in found.items()} == {
        "total": [[7.0, 7.0]] * 2,
        "product": [[12.0, 12.0]] * 2,
    }
    assert models.predict("pair", asked, output="product").tolist() == [[12.0, 12.0]] * 2


def test_candidates_of_events_have_their_answers_beside_them(models: Models) -> None:
    jets = ak.Array(
        [
            [{"pt": 1.0, "eta": 2.0, "phi": 3.0}, {"pt": 4.0, "eta": 5.0, "phi": 6.0}],
            [],
            [{"pt": 7.0, "eta": 8.0, "phi": 9.0}],
        ]
    )
    scores = models.predict("sum", jets, 1)
    assert scores.tolist() == [[[6.0], [15.0]], [], [[24.0]]]
    assert ak.with_field(jets, scores[..., 0], "score").score.tolist() == [[6.0, 15.0], [], [24.0]]


def test_text_goes_there_and_back(models: Models) -> None:
    assert models.predict("text", [["d\u00e9j\u00e0"], [""]]).tolist() == [["d\u00e9j\u00e0"], [""]]


@pytest.mark.parametrize("nothing", [np.empty((0, 3)), {"a": [], "b": [], "c": []}])
def test_no_rows_have_no_answers(models: Models, nothing: Any) -> None:
    assert models.predict("sum", nothing).shape == (0, 1)


def test_a_long_array_is_asked_in_batches_side_by_side(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BATCH_BYTES", 12 * 100)
    x = np.random.default_rng(1).normal(size=(2345, 3)).astype(np.float32)
    before = _requests(models)
    assert np.allclose(models.predict("sum", x, 1), x.sum(axis=1, keepdims=True), atol=1e-5)
    assert _requests(models) - before == 24


def _requests(models: Models) -> int:
    """Return how many questions version 1 of the model has answered."""
    said = models._service.ask(model_service.Question("GET", "/v2/models/sum/versions/1/stats")).json()
    return int(said["model_stats"][0]["inference_stats"]["success"]["count"])


def test_a_version_is_asked_only_once_what_it_takes(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    signature = models.signature
    monkeypatch.setattr(models, "signature", lambda *of: asked.append(of) or signature(*of))
    for _ in range(3):
        models.predict("sum", [[1, 2, 3]], 1)
    assert asked == [("sum", "1")]
    monkeypatch.setattr(client, "FRESH_SECONDS", 0.0)
    for _ in range(3):
        models.predict("sum", [[1, 2, 3]])
    assert asked[1:] == [("sum", None)] * 3


def test_a_failure_in_one_batch_is_the_failure_of_all(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BATCH_ROWS", 2)
    index = np.zeros((9, 1), np.int64)
    index[5] = 17
    with pytest.raises(ModelRefused, match="table"):
        models.predict("table", index)


def test_threads_share_the_connections(models: Models) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: float(models.predict("sum", [[n, n, n]], 1)[0, 0]), range(200)))
    assert found == [3.0 * n for n in range(200)]


def test_unpickled_it_finds_the_service_anew_and_takes_no_token_along(
    models: Models, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.predict("sum", [[1, 1, 1]])
    sent = pickle.dumps(models)
    assert TOKEN.encode() not in sent
    assert str(server.http).encode() not in sent
    assert _again(sent).predict("sum", [[1, 1, 1]], 1).tolist() == [[3.0]]
    given = _again(pickle.dumps(Models(f"http://127.0.0.1:{server.http}", TOKEN)))
    monkeypatch.delenv("AF_INFERENCE_URL")
    assert given.predict("sum", [[1, 1, 1]], 1).tolist() == [[3.0]]
    elsewhere = _again(sent)  # Dask's scheduler, where no service is known, does this with what it sends on
    with pytest.raises(BadInput, match=r"no model service here: `spec\.inference`"):
        elsewhere.list()
    with pytest.raises(BadInput, match="no model service here"):
        Models()


def _again(pickled: bytes) -> Models:
    found = pickle.loads(pickled)  # noqa: S301 - ours
    assert isinstance(found, Models)
    return found


def _asked_in_a_fork(models: Models) -> Any:
    return models.predict("sum", [[1, 2, 3]], 1).tolist()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork beside threads, which Spark does
def test_a_forked_process_has_connections_of_its_own(models: Models) -> None:
    models.predict("sum", [[1, 1, 1]])
    results: list[Any] = []
    context = get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(_asked_in_a_fork(models)))
    child.start()
    threads = [threading.Thread(target=lambda: results.append(_asked_in_a_fork(models))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child.join(30)
    assert child.exitcode == 0
    assert [*results, queue.get()] == [[[6.0]]] * 4


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (("nobody", [[1, 2, 3]]), ModelRefused, "nobody"),
        (("sum", [[1, 2, 3]], 7), ModelRefused, "7"),
        (("sum", [[1, 2]]), BadInput, r"input 'x' takes shape \(rows, 3\), not \(1, 2\)"),
        (("../etc", [[1]]), ModelRefused, "no such route"),
    ],
)
def test_what_cannot_be_asked_is_said(models: Models, asked: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        models.predict(*asked)


def test_an_output_that_is_not_there_is_said(models: Models) -> None:
    with pytest.raises(BadInput, match="model pair has no output 'sum'; it has total, product"):
        models.predict("pair", {"a": np.ones((1, 2)), "b": np.ones((1, 2))}, output="sum")


def test_another_token_is_refused(server: Running) -> None:
    with pytest.raises(ModelRefused, match=r"does not take the token in AF_INFERENCE_TOKEN \(401\)"):
        Models(f"http://127.0.0.1:{server.http}", "another").list()
    assert TOKEN not in repr(vars(Models(f"http://127.0.0.1:{server.http}", TOKEN)._service))


def test_what_is_not_there_is_not_deleted(models: Models) -> None:
    with pytest.raises(ModelRefused, match="no model 'nobody': there are pair, sum, table, text"):
        models.delete("nobody")
    with pytest.raises(ModelRefused, match="no model 'sum', version 9"):
        models.delete("sum", 9)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_service, "RETRIES", 1)
    with pytest.raises(ModelsUnavailable, match=r"does not answer: .*refused.*af status SESSION"):
        Models("http://127.0.0.1:1", "t").list()
