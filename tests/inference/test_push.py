"""What was trained here, pushed to the server, answers there as it does here."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from click.testing import CliRunner, Result
from sklearn.ensemble import RandomForestClassifier

from af_client import models as client
from af_client.cli.commands import cli
from af_client.errors import ModelRefused, NotConvertible
from af_client.model_files import About
from af_client.models import Models, ServedModel
from af_names import INFERENCE_PORT, inference
from tests.support.fake_kubelet import FakeKubelet, kubelet
from tests.support.fake_transport import FakeTransport, condition, status
from tests.support.inference import onnx_models
from tests.support.inference.serving import TOKEN, Running, config, serving

RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(400, 4)).astype(np.float32)
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    onnx_models.put(folder / "sum", onnx_models.linear(3))
    (folder / "store").mkdir()
    named = [{"name": "sum", "path": str(folder / "sum")}]
    with serving(config(folder, models=named, store=str(folder / "store"), upload=True)) as running:
        yield running


@pytest.fixture
def models(server: Running) -> Iterator[Models]:
    """Return the models; those that a test has pushed go with it."""
    found = Models(f"http://127.0.0.1:{server.http}", TOKEN)
    yield found
    for name in {model.name for model in found.list()} - {"sum"}:
        found.delete(name)


TRAINED: list[Any] = [
    RandomForestClassifier(10, random_state=0).fit(X, CLASSES),
    xgboost.XGBClassifier(n_estimators=10).fit(X, CLASSES),
    lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(X, CLASSES),
]


@pytest.mark.parametrize("model", TRAINED, ids=lambda model: type(model).__name__)
def test_a_trained_model_answers_as_it_did(models: Models, model: Any) -> None:
    name = type(model).__name__
    assert models.push(name, model, X) == "1"
    found = models.predict(name, X)
    assert np.abs(found["probabilities"] - model.predict_proba(X)).max() <= TOLERANCE
    assert found["label"].tolist() == model.predict(X).tolist()
    assert models.predict(name, X, output="probabilities").shape == (400, 2)


def test_a_new_push_is_the_next_version_and_answers(models: Models, tmp_path: Path) -> None:
    for scale in (1.0, 2.0):
        file = onnx_models.put(tmp_path / str(scale), onnx_models.linear(2, scale))
        models.push("own", file)
    assert [model for model in models.list() if model.name == "own"] == [
        ServedModel("own", "1", True),
        ServedModel("own", "2", True),
    ]
    assert models.predict("own", [[1, 2]]).tolist() == [[6.0]]
    assert models.predict("own", [[1, 2]], 1).tolist() == [[3.0]]
    assert models.push("own", file, about=About(version=7)) == "7"
    with pytest.raises(ModelRefused, match="7"):
        models.push("own", file, about=About(version=7))
    models.delete("own", 7)
    models.delete("own", "2")
    assert models.predict("own", [[1, 2]]).tolist() == [[3.0]]


def test_what_somebody_else_pushes_answers_soon(
    models: Models, server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [onnx_models.put(tmp_path / str(scale), onnx_models.linear(2, scale)) for scale in (1.0, 2.0)]
    models.push("shared", files[0])
    other = Models(f"http://127.0.0.1:{server.http}", TOKEN)
    assert other.predict("shared", [[1, 2]]).tolist() == [[3.0]]
    models.push("shared", files[1])
    monkeypatch.setattr(client, "FRESH_SECONDS", 0.0)
    assert other.predict("shared", [[1, 2]]).tolist() == [[6.0]]


def test_what_the_service_refuses_leaves_nothing(models: Models, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelRefused):
        models.push("broken", tmp_path / "m.onnx")
    assert {model.name for model in models.list()} == {"sum"}


def test_what_cannot_be_converted_is_not_sent(models: Models) -> None:
    with pytest.raises(NotConvertible):
        models.push("broken", object())
    assert {model.name for model in models.list()} == {"sum"}


def test_models_of_the_catalogue_stay(models: Models) -> None:
    with pytest.raises(ModelRefused):
        models.delete("sum")
    assert models.predict("sum", [[1, 2, 3]]).tolist() == [[6.0]]


def test_progress_is_told(models: Models) -> None:
    said: list[tuple[int, int]] = []
    models.push("bdt", TRAINED[0], progress=lambda *each: said.append(each))
    assert said[-1][0] == said[-1][1] > 10_000
    assert [sent for sent, _ in said] == sorted(sent for sent, _ in said)


@pytest.fixture
def pod(server: Running) -> Iterator[FakeKubelet]:
    with kubelet() as found:
        found.leads_to = {INFERENCE_PORT: server.http}
        yield found


def af(pod: FakeKubelet, *args: str | Path) -> Result:
    fake = FakeTransport()
    served = {"inference": {"endpoints": {"inference": "http://lab-inference:8000"}}}
    fake.add("lab", status("Ready", condition("InferenceReady", True), components=served), inference={"upload": True})
    fake.secrets = {inference("lab"): {"token": base64.b64encode(TOKEN.encode()).decode()}}
    fake.api_url = pod.url
    return CliRunner().invoke(cli, ["models", *map(str, args)], obj=fake)


def test_from_the_command_line(pod: FakeKubelet, models: Models, tmp_path: Path) -> None:
    forest, booster, _ = TRAINED
    joblib.dump(forest, tmp_path / "forest.joblib")
    booster.get_booster().save_model(tmp_path / "boosted.json")
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", fmt="%.9g")
    (tmp_path / "classes.txt").write_text("background\nsignal\n")
    for file, options in (("forest.joblib", ["--unpickle"]), ("boosted.json", ["--sample", tmp_path / "rows.csv"])):
        name = file.partition(".")[0]
        done = af(pod, "push", "lab", tmp_path / file, "--labels", tmp_path / "classes.txt", *options)
        assert done.exit_code == 0, done.stderr
        assert f"model {name}, version 1: af models predict lab {name} FILE.csv asks it" in done.stdout
        done = af(pod, "predict", "lab", name, tmp_path / "rows.csv", "-o", tmp_path / "out.csv")
        assert done.exit_code == 0, done.stderr
        label, *probabilities = np.loadtxt(tmp_path / "out.csv", delimiter=",").T
        trained = forest if name == "forest" else booster
        assert np.abs(np.stack(probabilities, 1) - trained.predict_proba(X)).max() <= TOLERANCE
        assert label.tolist() == trained.predict(X).tolist()
        assert af(pod, "delete", "lab", name, "--yes").stdout == f"model {name} deleted\n"
    assert {model.name for model in models.list()} == {"sum"}
