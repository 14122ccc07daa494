"""Files of one's own in Dask's scheduler and workers: where they lie there, and how they are found.

What can be imported has a place of its own for each content, on the path of modules; tasks open the rest by the name
that it has beside the program, for they begin where it lies.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client, Scheduler, Worker
from distributed.diagnostics.plugin import WorkerPlugin

from af_names import SOURCE_DIRECTORY

Files = Mapping[str, bytes]
"""Path below a directory -> content."""


@dataclass(frozen=True)
class Place:
    """Where what somebody has sent last lies in this process; `first` as in `Sent`."""

    directory: Path
    first: bool


_places: dict[str, Place] = {}
"""By sender."""


@dataclass(frozen=True)
class Sent:
    """What one sender sends; what it sends next takes its place.

    Attributes
    ----------
    sender
        Such as a directory at the client.
    modules
        What can be imported.
    files
        What is opened, by its path from where tasks begin.
    first
        Whether the modules go before those of the image.
    """

    sender: str
    modules: Files = field(default_factory=dict)
    files: Files = field(default_factory=dict)
    first: bool = False


class OwnFiles(WorkerPlugin):
    """Brings files to workers, also to those that come later."""

    def __init__(self, sent: Sent) -> None:
        self.name = f"af-files {sent.sender}"
        self.sent = sent

    def setup(self, worker: Worker) -> None:
        """Lay them, before the worker has its first task."""
        install(worker.local_directory, self.sent)


def install_on_scheduler(sent: Sent, dask_scheduler: Scheduler) -> None:
    """Lay files in the scheduler: it unpickles graphs."""
    install(dask_scheduler.local_directory, sent)


async def send(client: Client, sent: Sent) -> None:
    """Lay files in the scheduler and the workers of a client."""
    # The scheduler first, for a task may follow at once.
    await client.run_on_scheduler(install_on_scheduler, sent)
    await client.register_plugin(OwnFiles(sent))


def install(base: str, sent: Sent) -> None:
    """Lay files in this process, instead of what the same sender sent before.

    Of modules of one name from several senders, those that came last count.
    """
    if sent.modules:
        _install_modules(base, sent)
    if sent.files:
        work = Path(base) / "af-work"
        write(work, sent.files)
        os.chdir(work)


def write(directory: Path, files: Files) -> None:
    """Write files below a directory."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
        if content.startswith(b"#!"):
            (directory / name).chmod(0o755)


def _install_modules(base: str, sent: Sent) -> None:
    # Each content has a place of its own: compiled files of the one before would be taken for those of the next.
    place, before = Path(base) / f"af-modules-{_digest(sent)}", _places.pop(sent.sender, None)
    if before is not None and before.directory != place:
        forget(before.directory)
        shutil.rmtree(before.directory, ignore_errors=True)
    write(place, sent.modules)
    tops = {Path(name).parts[0].removesuffix(".py") for name in sent.modules}
    for other in (*(each.directory for each in _places.values()), Path(SOURCE_DIRECTORY)):
        forget(other, tops)
    _places[sent.sender] = Place(place, sent.first)
    _find([*_places.values(), *filter(None, [before])])
    importlib.invalidate_caches()


def _find(gone_or_there: Iterable[Place]) -> None:
    entries = {str(each.directory) for each in gone_or_there}
    path = [each for each in sys.path if each not in entries]
    places = list(reversed(_places.values()))
    # Behind all else: a file of the user's that is called as a package of the image must not break what runs here. But
    # before a run's files as they were when it began, and packages that were installed before those of the image.
    for before, first in ((SOURCE_DIRECTORY, False), (sysconfig.get_path("purelib"), True)):
        at = path.index(before) if before in path else len(path)
        path[at:at] = [str(each.directory) for each in places if each.first is first]
    sys.path[:] = path


def _digest(sent: Sent) -> str:
    digest = hashlib.sha256(sent.sender.encode())
    for name, content in sorted(sent.modules.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def forget(place: Path, names: Collection[str] | None = None) -> None:
    """Have the modules that lie in a place imported anew; of these names, where some are given."""
    for name, module in list(sys.modules.items()):
        if (names is None or name.partition(".")[0] in names) and _lies_in(place, module):
            del sys.modules[name]


def _lies_in(place: Path, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(place)
