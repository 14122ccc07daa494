"""What is sent of a model: the files in the tar, and what is no model."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost

from af_client.errors import BadInput
from af_client.model_files import About, Watched, package

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(300, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def sent(name: str, model: Any, **more: Any) -> dict[str, bytes]:
    """Return path -> content of what a tar of a model has."""
    with package(name, model, **more).tar() as file, tarfile.open(fileobj=file) as archive:
        members = archive.getmembers()
        assert all(member.isreg() and not member.uid for member in members)
        found = {member.name: archive.extractfile(member) for member in members}
        return {path: content.read() for path, content in found.items() if content is not None}


def params(files: dict[str, bytes]) -> Any:
    return json.loads(next(content for path, content in files.items() if path.endswith("params.json")))


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [(".onnx", "model.onnx"), (".keras", "model.keras"), (".pb", "tf_model.pb"), (".ONNX", "model.onnx")],
)
def test_a_file_goes_as_it_is(suffix: str, kept: str, tmp_path: Path) -> None:
    file = tmp_path / f"m{suffix}"
    file.write_bytes(b"content")
    files = sent("topjet", file)
    assert files.keys() == {f"topjet/{kept}", "topjet/params.json"}
    assert files[f"topjet/{kept}"] == b"content"
    assert params(files) == {"name": "topjet"}


def test_a_saved_model_goes_with_its_folders(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables/variables.index").write_bytes(b"weights")
    files = sent("net", str(tmp_path))
    assert files["net/saved_model.pb"] == b"graph"
    assert files["net/variables/variables.index"] == b"weights"


def test_what_is_told_of_a_model_goes_along(tmp_path: Path) -> None:
    (tmp_path / "m.pb").write_bytes(b"graph")
    about = About(["w", "z"], "hadronic W and Z", params={"input_node": "x", "output_node": "y", "img_channels": "3"})
    files = sent("tagger", tmp_path / "m.pb", about=about)
    assert files["tagger/labels.txt"] == b"w\nz"
    expected = {"name": "tagger", "labels": "labels.txt", "description": "hadronic W and Z"}
    assert params(files) == expected | about.params | {"img_channels": 3}


def test_a_trained_model_goes_as_onnx_with_what_it_answered() -> None:
    files = sent("bdt", xgboost.XGBClassifier(n_estimators=5).fit(X, Y), sample=X)
    assert files.keys() == {"bdt/model.onnx", "bdt/params.json", "bdt/sample.npz"}
    assert params(files) == {"name": "bdt", "input_name": "input", "output_name": "probabilities"}
    with np.load(io.BytesIO(files["bdt/sample.npz"]), allow_pickle=False) as sample:
        assert {name: (array.shape, array.dtype.name) for name, array in sample.items()} == {
            "input": ((300, 3), "float32"),
            "probabilities": ((300, 2), "float32"),
        }


def test_files_of_trees_are_converted(tmp_path: Path) -> None:
    booster = xgboost.XGBClassifier(n_estimators=5).fit(X, Y).get_booster()
    for suffix in ("json", "ubj"):
        booster.save_model(tmp_path / f"b.{suffix}")
        assert "bdt/model.onnx" in sent("bdt", tmp_path / f"b.{suffix}")
    lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, Y), 3).save_model(tmp_path / "b.txt")
    assert "bdt/model.onnx" in sent("bdt", tmp_path / "b.txt")


REFUSED = [
    ("m.joblib", "is a pickle, which is a program"),
    ("m.pkl", "--unpickle"),
    ("m.h5", "model.save('model.keras')"),
    ("m.pt", "torch.onnx.export"),
    ("m.zip", "write it as ONNX"),
    ("m.json", "no model that its library can read"),
    ("m.txt", "no model that its library can read"),
]


@pytest.mark.parametrize(("name", "said"), REFUSED)
def test_what_is_no_model_says_what_to_write_instead(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x = 1")
    with pytest.raises(BadInput) as error:
        package("m", tmp_path / name)
    assert said in str(error.value)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no"):
        package("m", tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=r"no SavedModel: it has no saved_model\.pb"):
        package("m", tmp_path)


def test_a_file_says_how_much_of_it_was_sent() -> None:
    said: list[tuple[int, int]] = []
    file = Watched(io.BytesIO(b"x" * 10), lambda *each: said.append(each))
    assert (file.read(6), file.read(6), file.read(6)) == (b"x" * 6, b"x" * 4, b"")
    assert said == [(6, 10), (10, 10), (10, 10)]
    file.seek(0)
    assert (file.tell(), file.read()) == (0, b"x" * 10)
