"""Files on the facility's storage, through fsspec: direct (never through a cache), checked, all or nothing."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from af_client.errors import BadInput, StorageError

CHUNK = 1 << 20
MANIFEST = "manifest.json"
"""The list of a run's results, written last: results without it are incomplete."""
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts: one more attempt than there are pauses. From the first that failed to the last of them on,
each file is tried once, until one succeeds."""
GIVE_UP_SECONDS = 60.0
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci"})
"""Here a put is atomic, and there are no directories to make. Elsewhere: temporary name, then move."""
PERMANENT = (BadInput, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
HERE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP})
"""What this machine says of its own files, and will say again."""

_T = TypeVar("_T")


class Unreadable(StorageError):
    """The file to store cannot be read: the storage is not to blame, and nothing is tried again."""


@dataclass(frozen=True)
class StoredFile:
    """A file at a URL; `adler32` as eight hex digits, as xrootd writes it."""

    url: str
    bytes: int
    adler32: str


class Checked:
    """Counts and sums up what passes through."""

    def __init__(self) -> None:
        self.bytes = 0
        self._adler = 1

    @property
    def adler32(self) -> str:
        """Return the checksum so far."""
        return f"{self._adler:08x}"

    def chunks(self, source: IO[bytes]) -> Iterator[bytes]:
        """Yield the content of `source`."""
        while chunk := _read(source):
            self.bytes += len(chunk)
            self._adler = zlib.adler32(chunk, self._adler)
            yield chunk


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(CHUNK)
    except OSError as error:
        raise Unreadable(f"cannot read it to its end: {error.strerror or error}") from error


def read_directly() -> None:
    """Take XRootD's proxy plug-in out of this process's environment.

    Results must not go through a session's cache, which is read-only. Works only before the XRootD library is
    loaded: it reads its environment once.
    """
    for name in ("XRD_PLUGINCONFDIR", "XRD_PLUGIN", "XROOT_PROXY"):
        os.environ.pop(name, None)
    # The library's own defaults wait for half an hour where a server is away.
    for name, seconds in (("XRD_CONNECTIONWINDOW", "10"), ("XRD_CONNECTIONRETRY", "2"), ("XRD_REQUESTTIMEOUT", "120")):
        os.environ.setdefault(name, seconds)


class Storage:
    """A directory at a URL.

    Parameters
    ----------
    url
        Anything that fsspec knows: ``root://host:1094//path``, ``s3://bucket/prefix``, ``file:///path``.

    Raises
    ------
    BadInput
        No file system for this kind of URL is installed.
    """

    def __init__(self, url: str) -> None:
        read_directly()
        import fsspec  # noqa: PLC0415 - only now: slow, and it may load XRootD

        self.url = url.rstrip("/")
        try:
            self.fs, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            scheme = url.split("://", maxsplit=1)[0]
            extra = " (pip install 'af-operator[xrootd]')" if scheme == "root" else ""
            raise BadInput(f"cannot use {url}: no fsspec file system for {scheme}://{extra}: {error}") from error
        self.path = str(path).rstrip("/")
        protocol = self.fs.protocol
        self._failing_since: float | None = None
        self.atomic = not OBJECT_STORES.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    def put(self, name: str, open_source: Callable[[], IO[bytes]]) -> StoredFile:
        """Store a file under `name`, whole or not at all; try again on errors of the storage.

        Raises
        ------
        Unreadable
            The source cannot be read.
        StorageError
            After the last attempt.
        """
        return self._attempts(f"cannot store {name} at {self.url}", lambda: self._put(name, open_source))

    def get(self, file: StoredFile, target: Path) -> None:
        """Fetch a file to `target`: a temporary name, checked, then renamed."""
        self._attempts(f"cannot read {file.url}", lambda: self._get(file, target))

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises
        ------
        FileNotFoundError
            There is none of this name.
        """
        path = f"{self.path}/{name}"

        def attempt() -> bytes | None:
            if not self.fs.exists(path):
                return None
            with self.fs.open(path, "rb") as source:
                return bytes(source.read())

        content = self._attempts(f"cannot read {name} at {self.url}", attempt)
        if content is None:
            raise FileNotFoundError(f"{self.url}/{name}")
        return content

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        path = f"{self.path}/{name}"
        self._attempts(f"cannot remove {name} at {self.url}", lambda: self.fs.exists(path) and self.fs.rm_file(path))

    def _put(self, name: str, open_source: Callable[[], IO[bytes]]) -> StoredFile:
        final = f"{self.path}/{name}"
        folder = posixpath.dirname(final)
        # Unique, so that two attempts that overlap (a lost node) cannot mix their bytes.
        landing = final if self.atomic else f"{folder}/.{secrets.token_hex(8)}.part"
        if not self.atomic:
            self.fs.makedirs(folder, exist_ok=True)
        check = Checked()
        try:
            with _opened(open_source) as source, self.fs.open(landing, "wb") as sink:
                for chunk in check.chunks(source):
                    sink.write(chunk)
            self._check_size(landing, check.bytes)
            if landing != final:
                self._move(landing, final)
        except BaseException:
            if landing != final:
                with suppress(OSError):
                    self.fs.rm_file(landing)
            raise
        return StoredFile(f"{self.url}/{name}", check.bytes, check.adler32)

    def _check_size(self, path: str, expected: int) -> None:
        self.fs.invalidate_cache()
        size = self.fs.info(path)["size"]
        if size != expected:
            raise OSError(f"{path} has {size} bytes at the storage, not {expected}")

    def _move(self, landing: str, final: str) -> None:
        # Not every server's rename replaces (xrootd's refuses); an earlier attempt may have left the file.
        if self.fs.exists(final):
            self.fs.rm_file(final)
        self.fs.mv(landing, final)

    def _get(self, file: StoredFile, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        landing = target.with_name(f".{secrets.token_hex(8)}.part")  # the name itself may be as long as one can be
        check = Checked()
        try:
            with self.fs.open(self.path + file.url.removeprefix(self.url), "rb") as source, landing.open("wb") as sink:
                for chunk in check.chunks(source):
                    sink.write(chunk)
            if (check.bytes, check.adler32) != (file.bytes, file.adler32):
                raise OSError(
                    f"got {check.bytes} bytes with adler32 {check.adler32}, "
                    f"the manifest says {file.bytes} with {file.adler32}"
                )
            landing.replace(target)
        finally:
            landing.unlink(missing_ok=True)

    def _attempts(self, what: str, action: Callable[[], _T]) -> _T:
        began, failing = time.monotonic(), self._failing_since
        if failing is not None and began - failing > GIVE_UP_SECONDS:
            raise StorageError(f"{what}: not tried, for nothing has come of the last {GIVE_UP_SECONDS:.0f} s of trying")
        for attempt, pause in enumerate((*(PAUSES if failing is None else ()), None), 1):
            try:
                found = action()
            except Unreadable:
                raise
            except PERMANENT as error:
                raise StorageError(f"{what}: {_words(error)}") from error
            except Exception as error:  # every file system has errors of its own
                if isinstance(error, OSError) and error.errno in HERE:
                    raise StorageError(f"{what}: {_words(error)}") from error
                if pause is None:
                    self._failing_since = began if failing is None else failing
                    raise StorageError(f"{what} after {attempt} attempts: {_words(error)}") from error
                time.sleep(pause)
            else:
                self._failing_since = None
                return found
        raise AssertionError("unreachable")


def _opened(open_source: Callable[[], IO[bytes]]) -> IO[bytes]:
    try:
        return open_source()
    except OSError as error:
        raise Unreadable(f"cannot read it: {error.strerror or error}") from error


def _words(error: BaseException) -> str:
    # fsspec-xrootd puts the address of its function into the message.
    text = " ".join(re.sub(r"<bound method .*?>> ", "", str(error)).split())
    return f"{type(error).__name__}: {text}" if not isinstance(error, OSError) or not text else text


def stored_file(entry: dict[str, Any]) -> StoredFile:
    """Return a file from its entry in a status or a manifest."""
    return StoredFile(str(entry["url"]), int(entry["bytes"]), str(entry["adler32"]))
