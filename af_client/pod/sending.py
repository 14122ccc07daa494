"""``session.upload``: files, modules and packages of one's own to the workers, of Dask and of Spark.

Workers mount nobody's home. What is sent is kept by Dask's scheduler for workers that come later, and by Spark's
Connect server for executors that do; tasks find it by the path that it has from here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path, PurePosixPath
from typing import Any

from distributed import Client

from af_client.errors import BadInput
from af_client.pod import packages, placed

Files = dict[str, bytes]


@dataclass(frozen=True)
class Upload:
    """What is sent at once.

    Attributes
    ----------
    name
        What a next upload of the same name takes the place of.
    files
        By their paths from where tasks begin.
    installed
        Whether these are packages: they are imported, and before those of the image.
    """

    name: str
    files: Files
    installed: bool = False


MAX_BYTES = 64 << 20
"""Of one upload: the scheduler keeps it in its memory."""
MODULES = (".py", *EXTENSION_SUFFIXES)
LEFT_OUT = ("__pycache__", packages.IMAGE_LINK)


def upload(environ: Mapping[str, str], paths: Sequence[Path]) -> None:
    """Send files, directories and wheels; `Here.upload` says what that is for a user."""
    if not paths:
        raise BadInput('say what to upload: session.upload("cuts.py", "tables")')
    # All are read before the first is sent.
    _send(environ, [_upload(path) for path in paths])


def _upload(path: Path) -> Upload:
    return _of_wheel(path) if path.suffix == ".whl" else Upload(str(path), _read(path, _name(path)))


def upload_packages(environ: Mapping[str, str]) -> None:
    """Send what pip has installed in home."""
    directory = packages.site_packages(Path(environ.get("AF_PACKAGES") or packages.place(environ)))
    files = _read(directory, PurePosixPath()) if directory.is_dir() else {}
    if not files:
        raise BadInput("you have no packages of your own here yet: `%pip install NAME` first")
    _send(environ, [Upload("packages", files, installed=True)])


def _name(path: Path) -> PurePosixPath:
    """Return the path from where we work, by which tasks find a file; what lies elsewhere has its own name."""
    full, here = path.resolve(), Path.cwd().resolve()
    return PurePosixPath(full.relative_to(here) if here in full.parents else full.name)


def _read(path: Path, name: PurePosixPath) -> Files:
    if not path.exists():
        raise BadInput(f"there is no {path} here")
    files, size = {}, 0
    for each in [path] if path.is_file() else _files(path):
        size += each.stat().st_size
        _check(path, size)
        files[str(name if each == path else name / each.relative_to(path))] = each.read_bytes()
    return files


def _files(directory: Path) -> Iterator[Path]:
    # Not through links: they may lead in a circle.
    for parent, below, names in os.walk(directory):
        below[:] = sorted(each for each in below if each not in LEFT_OUT and not each.startswith("."))
        yield from (Path(parent) / each for each in sorted(names) if each not in LEFT_OUT)


def _check(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        limit = f"{MAX_BYTES >> 20} MiB"
        raise BadInput(f"{path} is larger than {limit}: put it where workers read it, such as behind a root:// URL")


def _of_wheel(path: Path) -> Upload:
    """Return what a wheel installs; its format is that of a ZIP file with the modules at its top."""
    try:
        with zipfile.ZipFile(path) as wheel:
            infos = [info for info in wheel.infolist() if not info.is_dir()]
            _check(path, sum(info.file_size for info in infos))
            files = {_installed(info.filename): wheel.read(info) for info in infos}
            # Of another version too, it takes the place of the one before.
            return Upload(path.name.partition("-")[0], files, installed=True)
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as a wheel: {error}") from error


def _installed(name: str) -> str:
    parts = PurePosixPath(name).parts
    inside = parts[0].endswith(".data") and parts[1:2] in (("purelib",), ("platlib",))
    return "/".join(parts[2:] if inside else parts)


def _send(environ: Mapping[str, str], uploads: Sequence[Upload]) -> None:
    engines = [send for variable, send in ENGINES.items() if environ.get(variable)]
    if not engines:
        raise BadInput("this session has neither Dask nor Spark, so there are no workers to upload to")
    for send in engines:
        for each in uploads:
            send(each)


def _to_dask(sent: Upload) -> None:
    modules = sent.files if sent.installed or any(name.endswith(MODULES) for name in sent.files) else {}
    files = {} if sent.installed else sent.files
    with _client() as client:
        client.sync(placed.send, client, placed.Sent(f"upload {sent.name}", modules, files, first=sent.installed))


@contextmanager
def _client() -> Iterator[Client]:
    try:
        yield Client.current()
    except ValueError:  # there is none yet
        with Client() as client:
            yield client


def _to_spark(sent: Upload) -> None:
    from pyspark.sql import SparkSession  # noqa: PLC0415 - not in every image

    spark: Any = SparkSession.builder.getOrCreate()
    with tempfile.TemporaryDirectory(prefix="af-upload-") as directory:
        placed.write(Path(directory), sent.files)
        # Python on Spark's workers begins where these lie, and imports from there.
        for top in sorted(Path(directory).iterdir()):
            if top.is_dir():
                spark.addArtifacts(f"{_archive(top)}#{top.name}", archive=True)
            else:
                _add_file(spark, top)


def _archive(directory: Path) -> Path:
    """Return a directory in an archive of a name that no other content has: Spark takes each name once."""
    made = Path(shutil.make_archive(str(directory), "zip", directory))
    return made.rename(made.with_name(f"{directory.name}-{hashlib.sha256(made.read_bytes()).hexdigest()[:16]}.zip"))


def _add_file(spark: Any, path: Path) -> None:
    try:
        spark.addArtifacts(str(path), file=True)
    except Exception as error:
        if getattr(error, "getCondition", lambda: None)() != "ARTIFACT_ALREADY_EXISTS":
            raise
        raise BadInput(
            f"Spark keeps the {path.name} that it was given first: upload it in a directory, which is replaced, or "
            "call spark.stop() and SparkSession.builder.getOrCreate(), and this again"
        ) from error


ENGINES = {"DASK_SCHEDULER_ADDRESS": _to_dask, "SPARK_REMOTE": _to_spark}
"""The variable by which a session's programs find an engine -> how files come to its workers."""
