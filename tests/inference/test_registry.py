"""What is loaded, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from af_inference.errors import NotFound, Unprocessable
from af_inference.registry import Registry
from af_inference.repository import Repository
from af_inference.runtime import Runtime
from af_inference.served import Served
from af_inference.settings import CatalogueModel, Limits
from af_inference.sources import Files

from tests.support.inference import onnx_models

ROW = {"x": np.ones((1, 4), np.float32)}


@dataclass
class Store:
    """A store, and a registry before it."""

    folder: Path
    catalogue: tuple[CatalogueModel, ...] = ()
    most: int = 32
    repository: Repository = field(init=False)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        self.repository = Repository(self.catalogue, self.folder)
        source = Files(self.repository, Runtime(), Limits())
        self.registry = Registry(source, {model.name for model in self.catalogue}, self.most)

    def upload(self, name: str, scale: float) -> str:
        return self.put(name, onnx_models.linear(scale=scale).SerializeToString())

    def put(self, name: str, content: bytes) -> str:
        with self.repository.stage() as staged:
            (staged / "model.onnx").write_bytes(content)
            return self.repository.put(name, None, staged).version

    def answer(self, name: str, version: str | None = None) -> float:
        served = self.registry.get_in_thread(name, version)
        return float(served.ask_in_thread(ROW)["y"][0, 0])

    def states(self) -> dict[tuple[str, str], bool]:
        return {(entry.name, entry.version): entry.ready for entry in self.registry.entries()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_model_is_loaded_when_it_is_asked(store: Store) -> None:
    store.upload("top", 2)
    assert store.states() == {("top", "1"): False}
    assert store.registry.loaded("top") is None
    assert store.answer("top") == 8
    assert store.states() == {("top", "1"): True}
    assert store.registry.loaded("top") is store.registry.loaded("top", "1")


def test_a_new_version_takes_over_once_somebody_sees_it(store: Store) -> None:
    store.upload("top", 2)
    assert store.answer("top") == 8
    store.upload("top", 3)
    store.registry.refresh()
    assert store.answer("top") == 12
    assert store.answer("top", "1") == 8


def test_an_older_version_that_is_asked_does_not_take_over(store: Store) -> None:
    for scale in (2, 3):
        store.upload("top", scale)
    assert [store.answer("top"), store.answer("top", "1"), store.answer("top")] == [12, 8, 12]


def test_a_load_that_fails_leaves_what_serves(store: Store) -> None:
    store.upload("top", 2)
    assert store.answer("top") == 8
    store.put("top", b"no model")
    store.registry.refresh()
    assert store.answer("top") == 8
    with pytest.raises(Unprocessable, match="cannot be loaded"):
        store.answer("top", "2")
    assert store.registry.entries()[1].reason.startswith("model top version 2 cannot be loaded")


def test_a_broken_version_takes_no_ones_place_after_a_restart_either(store: Store) -> None:
    store.upload("top", 2)
    store.put("top", b"no model")
    assert store.answer("top") == 8
    assert store.registry.loaded("top", "1") is store.registry.loaded("top")
    store.upload("top", 3)
    store.registry.refresh()
    assert store.answer("top") == 12


def test_where_no_version_can_be_served_it_says_why(store: Store) -> None:
    for _ in range(2):
        store.put("top", b"no model")
    with pytest.raises(Unprocessable, match="version 1 cannot be loaded"):
        store.answer("top")


def test_what_was_deleted_answers_no_more(store: Store) -> None:
    for scale in (2, 3):
        store.upload("top", scale)
    assert store.answer("top") == 12
    store.repository.delete("top", "2")
    store.registry.refresh()
    assert store.answer("top") == 8
    store.repository.delete("top")
    store.registry.refresh()
    with pytest.raises(NotFound):
        store.answer("top")


def test_unloaded_until_it_is_loaded(store: Store) -> None:
    store.upload("top", 2)
    assert store.answer("top") == 8
    store.registry.unload("top")
    with pytest.raises(NotFound, match="load it with POST"):
        store.answer("top")
    store.registry.load("top")
    assert store.answer("top") == 8


def test_what_does_not_exist_is_neither_loaded_nor_unloaded(store: Store) -> None:
    changes: list[Callable[[str], object]] = [store.registry.load, store.registry.unload, store.registry.get_in_thread]
    for change in changes:
        with pytest.raises(NotFound, match="there is no model"):
            change("top")


def test_one_load_of_a_version_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.upload("top", 2)
    loads, all_there, real = [], threading.Barrier(8), Runtime.load

    def load(runtime: Runtime, name: str, version: str, file: Path) -> object:
        loads.append(version)
        return real(runtime, name, version, file)

    def ask(_: int) -> Served:
        all_there.wait(10)
        return store.registry.get_in_thread("top")

    monkeypatch.setattr(Runtime, "load", load)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(ask, range(8))))) == 1
    assert loads == ["1"]


def test_what_was_asked_longest_ago_makes_room_and_what_the_session_names_does_not(tmp_path: Path) -> None:
    onnx_models.put(tmp_path / "catalogue/named", onnx_models.linear())
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store", (CatalogueModel("named", None, tmp_path / "catalogue/named"),), most=2)
    for name in ("named", "a", "b", "c"):
        if name != "named":
            store.upload(name, 1)
        store.answer(name)
    assert [name for (name, _), ready in store.states().items() if ready] == ["b", "c", "named"]
    assert store.answer("a") == 4


def test_a_model_of_several_types_of_output_is_served(store: Store) -> None:
    def answer(model: onnx.ModelProto) -> Served:
        return store.registry.get_in_thread("m", store.put("m", model.SerializeToString()))

    for kind, datatype in {
        "INT64": "INT64",
        "DOUBLE": "FP64",
        "FLOAT16": "FP16",
        "BOOL": "BOOL",
        "STRING": "BYTES",
    }.items():
        assert answer(onnx_models.identity(kind)).datatypes == {"y": datatype}
