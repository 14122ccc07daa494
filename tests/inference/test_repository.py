"""Where models lie, and how they get there and go."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from af_inference.errors import Conflict, Invalid, NotFound
from af_inference.repository import Artifact, Repository
from af_inference.settings import CatalogueModel

MODEL = b"a model"


def versions(folder: Path, *numbers: str) -> Path:
    for number in numbers:
        (folder / number).mkdir(parents=True)
        (folder / number / "model.onnx").write_bytes(MODEL)
    return folder


def upload(repository: Repository, name: str, version: str | None = None) -> Artifact:
    with repository.stage() as staged:
        (staged / "model.onnx").write_bytes(MODEL)
        return repository.put(name, version, staged)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def test_the_highest_version_is_the_one_without_a_name(tmp_path: Path) -> None:
    repository = Repository([CatalogueModel("top", None, versions(tmp_path / "top", "9", "10"))], None)
    assert repository.versions("top") == ["10", "9"]
    assert repository.find("top").file == tmp_path / "top/10/model.onnx"
    assert repository.find("top", "9").version == "9"


def test_a_session_that_names_a_version_has_no_other(tmp_path: Path) -> None:
    repository = Repository([CatalogueModel("top", "9", versions(tmp_path / "top", "9", "10"))], None)
    assert repository.versions("top") == ["9"]


def test_versions_of_one_model_may_lie_apart(tmp_path: Path) -> None:
    parts = [CatalogueModel("top", v, versions(tmp_path / f"top-{v}", v)) for v in ("1", "2")]
    repository = Repository(parts, None)
    assert repository.names() == ["top"]
    assert repository.find("top", "1").folder == tmp_path / "top-1/1"


def test_what_is_no_version_is_none(tmp_path: Path) -> None:
    versions(tmp_path / "top", "1", "01", "0", "x", "1.5")
    (tmp_path / "top/2").mkdir()
    assert Repository([CatalogueModel("top", None, tmp_path / "top")], None).versions("top") == ["1"]


@pytest.mark.parametrize("name", ["nope", "../top", "a/b", "", ".", ".staging", "a" * 64])
def test_other_models_are_not_found(tmp_path: Path, store: Path, name: str) -> None:
    versions(store / "top", "1")
    with pytest.raises(NotFound, match="there is no model"):
        Repository([], store).find(name)


def test_other_versions_are_named(store: Path) -> None:
    versions(store / "top", "1", "2")
    with pytest.raises(NotFound, match=r"no version \.\./1, but 2, 1"):
        Repository([], store).find("top", "../1")


def test_uploads_are_the_next_versions(store: Path) -> None:
    repository = Repository([], store)
    assert [upload(repository, "top").version for _ in range(3)] == ["1", "2", "3"]
    assert upload(repository, "top", "7").file.read_bytes() == MODEL
    assert upload(repository, "top").version == "8"
    assert list((store / ".staging").iterdir()) == []


def test_a_version_never_changes_and_never_comes_back(store: Path) -> None:
    repository = Repository([], store)
    upload(repository, "top")
    with pytest.raises(Conflict, match="take 2"):
        upload(repository, "top", "1")
    assert repository.delete("top", "1") == ["1"]
    with pytest.raises(Conflict, match="take 2"):
        upload(repository, "top", "1")
    assert upload(repository, "top").version == "2"


def test_what_was_deleted_is_gone(store: Path) -> None:
    repository = Repository([], store)
    for _ in range(2):
        upload(repository, "top")
    assert repository.delete("top") == ["2", "1"]
    assert repository.names() == []
    with pytest.raises(NotFound):
        repository.delete("top")
    assert list(store.rglob("model.onnx")) == []


def test_the_catalogue_does_not_change(tmp_path: Path, store: Path) -> None:
    repository = Repository([CatalogueModel("top", None, versions(tmp_path / "top", "1"))], store)
    with pytest.raises(Conflict, match="upload under another name"):
        upload(repository, "top")
    with pytest.raises(Conflict, match="upload under another name"):
        repository.delete("top")


def test_without_a_store_nothing_is_written() -> None:
    with pytest.raises(Conflict, match="no store"):
        upload(Repository([], None), "top")


@pytest.mark.parametrize(
    ("name", "version"), [("../top", None), ("a b", None), ("top", "0"), ("top", "01"), ("top", "x")]
)
def test_names_and_versions_are_checked_before_anything_is_written(store: Path, name: str, version: str | None) -> None:
    with pytest.raises(Invalid):
        upload(Repository([], store), name, version)
    assert not (store / "top/0").exists()


def test_each_change_can_be_seen_by_others(store: Path) -> None:
    mine, other = Repository([], store), Repository([], store)
    seen = [other.generation()]
    changes: list[Callable[[], object]] = [lambda: upload(mine, "top"), lambda: mine.delete("top")]
    for change in changes:
        change()
        seen.append(other.generation())
    assert len(set(seen)) == 3


def _uploads(store: Path, count: int) -> list[str]:
    return [upload(Repository([], store), "top").version for _ in range(count)]


def test_servers_that_share_a_store_never_give_a_number_twice(store: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(_uploads, [(store, 20)] * 3)
    assert sorted(int(v) for each in found for v in each) == list(range(1, 61))


def test_files_beside_a_model_are_its_own_or_all_versions(tmp_path: Path) -> None:
    folder = versions(tmp_path / "top", "1", "2")
    (folder / "params.json").write_text("all")
    (folder / "2/params.json").write_text("own")
    (folder / "labels.txt").symlink_to("/etc/hostname")
    repository = Repository([CatalogueModel("top", None, folder)], None)
    read = {v: repository.find("top", v).beside("params.json") for v in ("1", "2")}
    assert {v: file.read_text() for v, file in read.items() if file} == {"1": "all", "2": "own"}
    assert repository.find("top").beside("labels.txt") is None
