"""Modules of one's own on Dask: those beside the script or notebook go to the scheduler and to all workers.

A preload of `Client`, by the image's ``dask/client.yaml``. Dask sends a function of a module by its name alone, and
scheduler and workers import it from there. So a client that connects sends the ``*.py`` and the packages of its own
directory, and workers that come later get them from the scheduler. After an edit the next `Client()` sends them anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from distributed import Client, Scheduler, Worker
from distributed.diagnostics.plugin import WorkerPlugin

from af_client.pod.own_directory import own_directory

Files = Mapping[str, bytes]
"""Path below the directory -> content."""

MAX_ENTRIES, MAX_FILES, MAX_BYTES = 10_000, 200, 4 << 20
"""How much of a directory is looked at, and how much of it is sent: a home may be anything."""
SECONDS = 30.0
LEFT_OUT = (
    "Dask's workers do not get all modules of %s: %d are left out, for at most %d files of %d MiB together go, "
    "and only those that can be read: %s ... Put the script and its modules into a directory of their own."
)

log = logging.getLogger(__name__)
_places: dict[str, Path] = {}
"""Directory at the client -> where what it sent last lies in this process."""


async def dask_setup(client: Client) -> None:
    """Send the modules beside the script; a client in a worker has none, and one that cannot send goes on without."""
    directory = own_directory()
    if "AF_SESSION" not in os.environ or directory is None or not (files := found(directory)):
        return
    source = str(directory)
    async with asyncio.timeout(SECONDS):
        # The scheduler too: it unpickles the graph. First, for a task may follow at once.
        await client.run_on_scheduler(install_on_scheduler, source, files)
        await client.register_plugin(OwnModules(source, files))


def found(directory: Path) -> dict[str, bytes]:
    """Return the modules and packages of a directory, by path; what is over the bounds is left out, and said."""
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    room = MAX_BYTES
    for path in islice(_modules(directory), MAX_ENTRIES):
        name = path.relative_to(directory).as_posix()
        with suppress(OSError):  # gone meanwhile, or not ours to read
            if len(files) < MAX_FILES and path.stat().st_size <= room:
                files[name] = path.read_bytes()
                room -= len(files[name])
                continue
        left_out.append(name)
    if left_out:
        log.warning(LEFT_OUT, directory, len(left_out), MAX_FILES, MAX_BYTES >> 20, ", ".join(left_out[:5]))
    return files


def _modules(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as scan:
        entries = sorted(islice(scan, MAX_ENTRIES), key=lambda entry: entry.name)
    for entry in entries:
        path = directory / entry.name
        if entry.name.endswith(".py") and entry.is_file():
            yield path
        # Not through links: they may lead in a circle.
        elif entry.is_dir(follow_symlinks=False) and (path / "__init__.py").is_file():
            yield from _modules(path)


class OwnModules(WorkerPlugin):
    """Brings modules to workers, also to those that come later."""

    def __init__(self, source: str, files: Files) -> None:
        self.name = f"af-modules {source}"
        self.source, self.files = source, files

    def setup(self, worker: Worker) -> None:
        """Make them importable, before the worker has its first task."""
        install(worker.local_directory, self.source, self.files)


def install_on_scheduler(source: str, files: Files, dask_scheduler: Scheduler) -> None:
    """Make them importable in the scheduler."""
    install(dask_scheduler.local_directory, source, files)


def install(base: str, source: str, files: Files) -> None:
    """Make modules importable in this process, instead of what the same directory sent before.

    Of modules of one name from several directories, that of the client that came last counts.
    """
    # Each content has a place of its own: compiled files of the one before would be taken for those of the next.
    place, before = Path(base) / f"af-modules-{_digest(source, files)}", _places.pop(source, None)
    if before is not None and before != place:
        _forget(before)
        shutil.rmtree(before, ignore_errors=True)
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(text)
    for other in _places.values():
        _forget(other, {Path(name).parts[0].removesuffix(".py") for name in files})
    _places[source] = place
    # Last: a file of the user's that is called as a package of the image must not break what runs here.
    entries = {str(each) for each in (*_places.values(), before)}
    sys.path[:] = [each for each in sys.path if each not in entries] + [str(p) for p in reversed(_places.values())]
    importlib.invalidate_caches()


def _digest(source: str, files: Files) -> str:
    digest = hashlib.sha256(source.encode())
    for name, text in sorted(files.items()):
        digest.update(f"\0{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()[:16]


def _forget(place: Path, names: Collection[str] | None = None) -> None:
    """Have the modules that lie in a place imported anew; of these names, where some are given."""
    for name, module in list(sys.modules.items()):
        if (names is None or name.partition(".")[0] in names) and _lies_in(place, module):
            del sys.modules[name]


def _lies_in(place: Path, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(place)
