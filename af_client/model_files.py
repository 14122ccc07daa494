"""A model on its way to the service: a tar as TFaaS takes it, of files or of what was converted."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from af_client.errors import BadInput

PICKLES = frozenset({".pkl", ".pickle", ".joblib"})
AS_THEY_ARE = {".onnx": "model.onnx", ".keras": "model.keras", ".pb": "tf_model.pb"}
"""Files that go as they are -> what the service calls them."""
ADVICE = {
    ".h5": "Keras cannot load .h5 files safely: model.save('model.keras') writes another",
    ".hdf5": "Keras cannot load .h5 files safely: model.save('model.keras') writes another",
    ".pt": "export it from Python: torch.onnx.export(model, ..., 'model.onnx')",
    ".pth": "export it from Python: torch.onnx.export(model, ..., 'model.onnx')",
    ".root": "TMVA's models are not served: train one of XGBoost or LightGBM, or write ONNX",
}

CHANNELS = "img_channels"
"""Of the images that a model takes; the one parameter of TFaaS' that is a number, and no text."""
Progress = Callable[[int, int], None]
"""Called with the bytes that have been sent, and with all."""


@dataclass(frozen=True)
class About:
    """What is told of a model.

    Attributes
    ----------
    labels
        Of the classes, in their order.
    version
        The next one, if left out; one that exists is not replaced.
    params
        More for TFaaS' ``params.json``: `input_node`, `output_node` of a frozen graph, `output_name`, `img_channels`.
    """

    labels: Sequence[str] = ()
    description: str = ""
    version: int | None = None
    params: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """A model's files: path below its directory -> a file here, or bytes."""

    name: str
    files: Mapping[str, Path | bytes]

    def tar(self) -> BinaryIO:
        """Return all files in one, at its beginning. It is gone when it is closed."""
        file = TemporaryFile()  # noqa: SIM115 - closed by whom it is for
        with tarfile.open(fileobj=file, mode="w") as archive:
            for path, content in self.files.items():
                _add(archive, f"{self.name}/{path}", content)
        file.seek(0)
        return file


def package(name: str, model: Any, sample: Any = None, about: About | None = None) -> Package:
    """Return a model's files.

    Parameters
    ----------
    model
        A path: an ONNX file, a ``.keras`` file, a SavedModel's directory, a frozen graph, XGBoost's ``.json`` or
        ``.ubj``, LightGBM's ``.txt``. Or an object that `af_client.convert` knows.
    sample
        Rows like those that it will be asked of; for objects, and for trees' files.

    Raises
    ------
    BadInput
        The service takes no such file; the message says what to write instead.
    NotConvertible
        It cannot be converted, or would answer otherwise.
    """
    about = about or About()
    named = {"description": about.description} if about.description else {}
    if isinstance(model, str | os.PathLike) and (files := _files(Path(model))) is not None:
        return Package(name, {**files, **_told(name, {**about.params, **named}, about.labels)})
    from af_client.convert import convert  # noqa: PLC0415 - needs numpy, which `af --help` must not pay

    found = convert(_trees(Path(model)) if isinstance(model, str | os.PathLike) else model, sample)
    told = _told(name, {**found.params, **about.params, **named}, about.labels or found.labels)
    return Package(name, {found.file: found.content, **told, **_sample(found.sample)})


def _files(path: Path) -> dict[str, Path | bytes] | None:
    """Return the files of a path that need no converter, None for those that need one."""
    if not path.exists():
        raise BadInput(f"there is no {path}")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise BadInput(f"{path} is no SavedModel: it has no saved_model.pb")
        return {each.relative_to(path).as_posix(): each for each in sorted(path.rglob("*")) if each.is_file()}
    suffix = path.suffix.lower()
    if suffix in AS_THEY_ARE:
        return {AS_THEY_ARE[suffix]: path}
    if suffix in TREES:
        return None
    if suffix in PICKLES:
        raise BadInput(
            f"{path} is a pickle, which is a program: whoever loads it runs what its author wrote. If it is your own, "
            "load it yourself, and push what you get: Models().push(name, joblib.load(path)), or "
            "`af models push --unpickle`"
        )
    known = ", ".join([*AS_THEY_ARE, *TREES, "a SavedModel's directory"])
    raise BadInput(f"{path} is no model that the service takes ({known}): {ADVICE.get(suffix, 'write it as ONNX')}")


def _trees(path: Path) -> Any:
    try:
        return TREES[path.suffix.lower()](path)
    except ImportError as error:
        raise BadInput(f"{path} cannot be read here: {error}: pip install 'af-operator[convert]'") from error
    except Exception as error:  # each library has one of its own
        said = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise BadInput(f"{path} is no model that its library can read: {said}") from error


def _xgboost(path: Path) -> Any:
    import xgboost  # noqa: PLC0415 - only who has such a file needs it

    booster = xgboost.Booster()
    booster.load_model(path)
    return booster


def _lightgbm(path: Path) -> Any:
    import lightgbm  # noqa: PLC0415 - as above

    return lightgbm.Booster(model_file=path)


TREES: Mapping[str, Callable[[Path], Any]] = {".json": _xgboost, ".ubj": _xgboost, ".txt": _lightgbm}
"""Files of boosted trees, which are data and no programs."""


def _told(name: str, params: Mapping[str, str | int], labels: Sequence[str]) -> dict[str, bytes]:
    told: dict[str, Any] = {"name": name, **({"labels": "labels.txt"} if labels else {}), **params}
    if str(told.get(CHANNELS, "")).isdecimal():
        told[CHANNELS] = int(told[CHANNELS])
    files = {"params.json": json.dumps(told).encode()}
    return files | ({"labels.txt": "\n".join(labels).encode()} if labels else {})


def _sample(sample: Mapping[str, Any]) -> dict[str, bytes]:
    if not sample:
        return {}
    import numpy as np  # noqa: PLC0415 - see above

    file = io.BytesIO()
    np.savez(file, **sample)
    return {"sample.npz": file.getvalue()}


def _add(archive: tarfile.TarFile, path: str, content: Path | bytes) -> None:
    if isinstance(content, bytes):
        entry = tarfile.TarInfo(path)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        return
    with content.open("rb") as file:  # neither owner nor links of this machine
        entry = tarfile.TarInfo(path)
        entry.size = content.stat().st_size
        archive.addfile(entry, file)


class Watched(io.RawIOBase):
    """A file that says how much of it was read."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file, self._progress = file, progress
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        found = self._file.read(size)
        self._progress(self._file.tell(), self.size)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back, to be sent again."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return how far it was read."""
        return self._file.tell()
