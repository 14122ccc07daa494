"""Where models lie: a catalogue that others filled, and a store in Triton's layout that is filled here.

``<store>/<name>/<version>/model.onnx``. A version never changes and its number never comes back: what was deleted
leaves an empty file in ``<store>/.deleted/<name>/``. Several servers may share a store, so writes take a lock, and
whatever appears does so by one rename.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from af_inference.errors import Conflict, Invalid, NotFound
from af_inference.settings import CatalogueModel

MODEL = "model.onnx"
_ALIVE = "alive"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version of a model on disk.

    Attributes
    ----------
    folder
        With ``model.onnx`` in it.
    """

    name: str
    version: str
    folder: Path

    @property
    def file(self) -> Path:
        """The model itself."""
        return self.folder / MODEL

    def beside(self, name: str) -> Path | None:
        """Return the file of that name which belongs to this version, else the one that belongs to all versions."""
        found = (folder / name for folder in (self.folder, self.folder.parent))
        return next((file for file in found if file.is_file() and not file.is_symlink()), None)


def check_name(name: str) -> str:
    """Return a model's name, if it is one.

    Raises
    ------
    Invalid
        Otherwise.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            "a model's name has up to 63 letters, digits, '_', '-' and '.', and does not begin with '-' or '.'"
        )
    return name


def check_version(version: str) -> str:
    """Return a version, if it is one.

    Raises
    ------
    Invalid
        Otherwise.
    """
    if not _VERSION.fullmatch(version):
        raise Invalid("a version is a whole number from 1 to 999999999")
    return version


class Repository:
    """All models that there are, loaded or not.

    Attributes
    ----------
    catalogue
        The session's models; of one that names no version all that its directory has.
    store
        None where nothing can be uploaded.
    """

    def __init__(self, catalogue: Sequence[CatalogueModel], store: Path | None) -> None:
        self.catalogue = {check_name(m.name): [each for each in catalogue if each.name == m.name] for m in catalogue}
        self.store = store

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        stored = _entries(self.store, _NAME) if self.store else []
        return sorted({*self.catalogue, *(name for name in stored if self.versions(name))})

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, highest first; none if there is no such model."""
        return sorted(self._folders(name), key=int, reverse=True)

    def find(self, name: str, version: str | None = None) -> Artifact:
        """Return a version of a model, by default the highest.

        Raises
        ------
        NotFound
            There is none.
        """
        folders = self._folders(name)
        found = max(folders, key=int, default=None) if version is None else version
        if found not in folders:
            raise NotFound(unknown(name, version, sorted(folders, key=int, reverse=True)))
        return Artifact(name, found, folders[found])

    def put(self, name: str, version: str | None, staged: Path) -> Artifact:
        """Take a directory that holds a version, by default as the next one, and let it appear at once.

        Parameters
        ----------
        staged
            Made by `stage`; it is gone afterwards.

        Raises
        ------
        Conflict
            The version exists or did once, or the model is one of the catalogue.
        """
        store = self._writable(name)
        with self._locked(store):
            number = _new(store, name, version)
            (store / name).mkdir(exist_ok=True)
            staged.rename(store / name / number)
            self._changed(store)
        return Artifact(name, number, store / name / number)

    def check_new(self, name: str, version: str | None) -> None:
        """See whether `put` would take a model of that name, before much is done to make one.

        Raises
        ------
        Conflict
            The version exists or did once, or the model is one of the catalogue.
        """
        _new(self._writable(name), name, version)

    def delete(self, name: str, version: str | None = None) -> list[str]:
        """Delete a version of a model in the store, or all of them; return which.

        Raises
        ------
        Conflict
            The model is one of the catalogue.
        NotFound
            There is no such version.
        """
        store = self._writable(name)
        with self._locked(store):
            versions = self.versions(name)
            gone = versions if version is None else [v for v in versions if v == version]
            if not gone:
                raise NotFound(unknown(name, version, versions))
            for each in gone:
                self._bury(store, name, each)
            self._changed(store)
        return gone

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Make a directory in the store to build a version in; what is left of it at the end goes."""
        store = self._writable()
        self.sweep()
        folder = store / ".staging" / uuid.uuid4().hex
        with self._locked(store):
            folder.mkdir(parents=True)
            alive = _lock(folder / _ALIVE)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(alive)

    def sweep(self) -> None:
        """Remove what servers that died have left of versions that they built, and of those that they deleted."""
        store = self._writable()
        with self._locked(store):
            left = [store / ".staging" / name for name in _entries(store / ".staging", re.compile("[0-9a-f]{32}"))]
            for folder in left:
                if not _is_alive(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def generation(self) -> int:
        """Return a number that differs after each change of the store, whoever made it."""
        try:
            return int((self.store / ".generation").read_text(), 16) if self.store else 0
        except FileNotFoundError:
            return 0

    def _folders(self, name: str) -> dict[str, Path]:
        if name in self.catalogue:
            sources = [(model.path, model.version) for model in self.catalogue[name]]
        else:
            sources = [(self.store / name, None)] if self.store and _NAME.fullmatch(name) else []
        return {
            version: path / version
            for path, only in sources
            if path is not None
            for version in _entries(path, _VERSION)
            if only in (None, version) and (path / version / MODEL).is_file()
        }

    def _writable(self, name: str | None = None) -> Path:
        if self.store is None:
            raise Conflict("this service has no store: its profile allows no uploads")
        if name is not None and check_name(name) in self.catalogue:
            raise Conflict(
                f"{name} is a model of the catalogue, which stays as it is: upload under another name, delete your own"
            )
        return self.store

    @staticmethod
    def _bury(store: Path, name: str, version: str) -> None:
        stone, grave = store / ".deleted" / name, store / ".staging" / uuid.uuid4().hex
        for folder in (stone, grave.parent):
            folder.mkdir(parents=True, exist_ok=True)
        (stone / version).touch()  # first: a number that came back would be another model under an old name
        (store / name / version).rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    @staticmethod
    def _changed(store: Path) -> None:
        number = uuid.uuid4().hex  # no time: two changes may have the same
        new = store / f".generation-{number}"
        new.write_text(number)
        new.replace(store / ".generation")

    @staticmethod
    @contextmanager
    def _locked(store: Path) -> Iterator[None]:
        """Hold the store's lock; the kernel lets go of it if this process dies."""
        lock = _lock(store / ".lock")
        try:
            yield
        finally:
            os.close(lock)


def _lock(file: Path, how: int = fcntl.LOCK_EX) -> int:
    """Return an open file that is locked; the kernel lets go of it if this process dies."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(lock, how)
    except OSError:
        os.close(lock)
        raise
    return lock


def _is_alive(folder: Path) -> bool:
    """Say whether a server, of this pod or another, still builds there."""
    try:
        os.close(_lock(folder / _ALIVE, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass  # it has just gone
    return False


def _new(store: Path, name: str, version: str | None) -> str:
    """Return the version that a new one is to be."""
    used = {int(v) for folder in (store, store / ".deleted") for v in _entries(folder / name, _VERSION)}
    number = check_version(version or str(max(used, default=0) + 1))
    if int(number) in used:
        raise Conflict(f"version {number} of {name} exists or did once, and never changes: take {max(used) + 1}")
    return number


def unknown(name: str, version: str | None, versions: list[str]) -> str:
    """Say that there is no such model, or which versions there are."""
    if versions and version is not None:
        return f"model {name[:63]} has no version {version[:9]}, but {', '.join(versions[:10])}"
    return f"there is no model {name[:63]}: GET /models lists those that there are"


def _entries(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if pattern.fullmatch(name)]  # noqa: PTH208  (names, not paths)
    except (FileNotFoundError, NotADirectoryError):
        return []
