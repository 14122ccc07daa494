"""Uploading a run's results: every file under a directory, and ``manifest.json`` last."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from af_client.errors import StorageError
from af_client.storage import MANIFEST, Storage, StoredFile
from af_names import plain

_UNSAFE = re.compile(r"[\x00-\x1f\x7f%?#*\\\[\]{}&\udc80-\udcff]")
"""Characters that a URL or a glob takes for its own, and bytes that are no text."""
_OURS = re.compile(rf"{re.escape(MANIFEST)}(\.user)*")
OUTSIDE = "a link that leads out of the results"


@dataclass(frozen=True)
class Missing:
    """A file or directory that is not among the stored results, and why."""

    name: str
    reason: str


@dataclass
class Uploaded:
    """What an upload has come to: each result is in one of the two."""

    stored: list[StoredFile] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def lacks(self, name: str, reason: str) -> None:
        """Note that something is missing, and say it."""
        self.missing.append(Missing(plain.line(os.fsencode(name).decode(errors="backslashreplace")), reason))
        print(f"af-run: {self.missing[-1].name}: {reason}: not among the results", file=sys.stderr)


def result_files(root: Path, found: Uploaded) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of every plain file under `root`, sorted; note in `found` what else there is.

    Links that lead out of `root` are left out: they could carry away what the pod may read and the user may not.
    """
    inside = root.resolve()

    def name(path: str | Path) -> str:
        return Path(path).relative_to(root).as_posix()

    def unreadable(error: OSError) -> None:
        found.lacks(name(error.filename), error.strerror or type(error).__name__)

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        for path in (Path(folder, each) for each in folders if Path(folder, each).is_symlink()):
            if not path.resolve().is_relative_to(inside):  # else its files are there under their own names
                found.lacks(name(path), OUTSIDE)
        for path in (Path(folder, each) for each in sorted(names)):
            if reason := _why_not(path, inside):
                found.lacks(name(path), reason)
            else:
                yield name(path), path


def _why_not(path: Path, inside: Path) -> str:
    """Return why a path is no result; empty if it is one."""
    try:
        if not path.resolve(strict=True).is_relative_to(inside):
            return OUTSIDE
        return "" if stat.S_ISREG(path.stat().st_mode) else "no plain file"
    except OSError as error:
        return "a link to nowhere" if path.is_symlink() else error.strerror or type(error).__name__
    except RuntimeError:  # before Python 3.13
        return "a link to itself"


def stored_name(name: str) -> str:
    """Return the name under which a file is stored; no two have the same.

    Characters that do not survive a URL are written as %XX; the runner's own name is not taken.
    """
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found.group())), name)
    return f"{safe}.user" if _OURS.fullmatch(safe) else safe


def upload(root: Path, url: str, exit_code: int) -> Uploaded:
    """Store every file under `root` at `url`, then the manifest, which names what is missing, too.

    An earlier attempt's manifest goes first: between the two, the results are incomplete and look it. What cannot be
    read or stored costs none of the others, but a storage that takes nothing for a minute is not asked any more.

    Raises
    ------
    StorageError, BadInput
        The manifest could not be stored: nothing counts as stored then.
    """
    storage = Storage(url)
    storage.remove(MANIFEST)
    found = Uploaded()
    for name, path in result_files(root, found):
        try:
            found.stored.append(_store(storage, name, path))
        except StorageError as error:
            found.lacks(name, str(error))
    text = json.dumps(_manifest(storage.url, found, exit_code), indent=1, ensure_ascii=False).encode()
    Storage(url).put(MANIFEST, lambda: io.BytesIO(text))  # with the patience of one that has not failed yet
    return found


def _store(storage: Storage, name: str, path: Path) -> StoredFile:
    kept = stored_name(name)
    if kept != name:
        print(f"af-run: {name!r} is stored as {kept!r}", file=sys.stderr)
    return storage.put(kept, lambda: path.open("rb"))


def _manifest(url: str, found: Uploaded, exit_code: int) -> dict[str, Any]:
    return {
        "url": url,
        "complete": not found.missing,
        "exitCode": exit_code,
        "count": len(found.stored),
        "bytes": sum(file.bytes for file in found.stored),
        "files": [asdict(file) for file in found.stored],
        "missing": [asdict(each) for each in found.missing],
    }
