"""Files of one's own on Dask: a run's, and modules beside a script or notebook, go to the scheduler and to all workers.

A preload of `Client`, by the image's ``dask/client.yaml``. Dask sends a function of a module by its name alone, and
scheduler and workers import it from there. So a client that connects sends the ``*.py`` and the packages of its own
directory, and in a run all files that came with it; workers that come later get them from the scheduler. After an edit
the next `Client()` sends them anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from distributed import Client

from af_client.pod import placed
from af_client.pod.own_directory import own_directory
from af_names import SOURCE_DIRECTORY, WORK_DIRECTORY

MAX_ENTRIES, MAX_FILES, MAX_BYTES = 10_000, 200, 4 << 20
"""How much of a directory is looked at, and how much of it is sent: a home may be anything."""
SECONDS = 30.0
LEFT_OUT = (
    "Dask's workers do not get all modules of %s: %d are left out, for at most %d files of %d MiB together go, "
    "and only those that can be read: %s ... Put the script and its modules into a directory of their own."
)

log = logging.getLogger(__name__)


async def dask_setup(client: Client) -> None:
    """Send the modules beside the script; a client in a worker has none, and one that cannot send goes on without."""
    if "AF_SESSION" not in os.environ:
        return
    # A program of the image's own, such as pytest, has the run's modules where the run works.
    directory = own_directory() or Path(WORK_DIRECTORY)
    sent = placed.Sent(str(directory), found(directory) if directory.is_dir() else {}, files_of_run())
    if sent.modules or sent.files:
        async with asyncio.timeout(SECONDS):
            await placed.send(client, sent)


def files_of_run(source: Path = Path(SOURCE_DIRECTORY), work: Path = Path(WORK_DIRECTORY)) -> dict[str, bytes]:
    """Return the files that came with the run, as they are by now where it works; none in a notebook."""
    names = [path.name for path in source.iterdir() if path.is_file()] if source.is_dir() else []
    places = ((name, next((p for p in (work / name, source / name) if p.is_file()), None)) for name in sorted(names))
    return {name: path.read_bytes() for name, path in places if path is not None}


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
