"""A tar archive, plain or gzip'd, to a directory: regular files only, and no more than is said."""

import gzip
import io
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from af_inference.errors import Invalid, TooLarge

MEMBERS = 1000
DEPTH = 8
NAME_BYTES = 200
GZIP = b"\x1f\x8b"


class _Bounded(io.RawIOBase):
    """A stream that ends in an error after so many bytes: what a kilobyte of gzip can become has no other end."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream, self._most, self._left = stream, most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = self._stream.read(len(buffer))
        self._left -= len(read)
        if self._left < 0:
            raise TooLarge(f"the archive unpacks to more than {self._most} bytes")
        buffer[: len(read)] = read
        return len(read)


def unpack(body: Path, target: Path, most: int) -> str | None:
    """Unpack an archive of one model.

    Parameters
    ----------
    body
        The archive; by its first bytes it is gzip'd or not, whatever the request says.
    target
        Where the files go: what lies in the archive's one directory, or at its top.
    most
        Bytes that it may unpack to.

    Returns
    -------
    str or None
        The name of its one directory; None where there is none.

    Raises
    ------
    Invalid, TooLarge
        It is no archive, or has more in it than files and directories of its own.
    """
    try:
        with body.open("rb") as stream, _inflated(stream) as inflated:
            bounded = io.BufferedReader(_Bounded(inflated, most))
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                _extract(archive, target)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
        raise Invalid(f"the body is no tar archive, gzip'd or not: {error}") from None
    return _flatten(target)


def _inflated(stream: BinaryIO) -> BinaryIO:
    gzipped = stream.read(2) == GZIP
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream) if gzipped else stream  # type: ignore[return-value]


def _extract(archive: tarfile.TarFile, target: Path) -> None:
    for count, member in enumerate(archive):
        if count >= MEMBERS:
            raise TooLarge(f"the archive has more than {MEMBERS} members")
        path = target.joinpath(*_parts(member))
        try:
            _write(archive, member, path)
        except (FileExistsError, NotADirectoryError):
            # Of two it would depend on who unpacks them which is the file.
            raise Invalid(f"{member.name!r} is in the archive twice") from None


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    directory = path if member.isdir() else path.parent
    directory.mkdir(parents=True, exist_ok=True)
    if (file := archive.extractfile(member)) is not None:
        with file, path.open("xb") as copy:
            shutil.copyfileobj(file, copy)


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return where a member goes, below the directory that it is unpacked to."""
    name = member.name
    # A sparse file is a regular one to tarfile, and of any size.
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise Invalid(
            f"{name[:NAME_BYTES]!r} is a link, a device or a sparse file: only files and directories are taken"
        )
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise Invalid(f"{name[:NAME_BYTES]!r} leads out of the archive, or is no name")
    if len(path.parts) > DEPTH or any(len(part.encode()) > NAME_BYTES for part in path.parts):
        raise Invalid(f"{name[:NAME_BYTES]!r} is longer or deeper than names here may be")
    return path.parts


def _flatten(target: Path) -> str | None:
    """Bring what lies in the one directory to the top; return the directory's name."""
    entries = [path for path in target.iterdir() if not path.name.startswith("._")]  # macOS adds files of its own
    if len(entries) != 1 or not entries[0].is_dir():
        return None
    name = entries[0].name
    root = entries[0].rename(target.parent / "unpacked")
    shutil.rmtree(target)
    root.rename(target)
    return name
