"""Uploading a run's results: every file under a directory, and ``manifest.json`` last."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from af_client.storage import MANIFEST, Storage, StoredFile

_UNSAFE = re.compile(r"[\x00-\x1f\x7f%?#*\\\[\]{}&\udc80-\udcff]")
"""Characters that a URL or a glob takes for its own, and bytes that are no text."""


def result_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of every plain file under `root`, sorted; what is left out is said on stderr.

    Links that lead out of `root` are left out: they could carry away what the pod may read and the user may not.
    """
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and path.resolve().is_relative_to(inside):
                yield path.relative_to(root).as_posix(), path
            else:
                print(f"af-run: {path} is no plain file of {root}: left out of the results", file=sys.stderr)


def stored_name(name: str) -> str:
    """Return the name under which a file is stored.

    Characters that do not survive a URL are written as %XX; the runner's own name is not taken.
    """
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found.group())), name)
    return f"{safe}.user" if safe == MANIFEST else safe


def upload(root: Path, url: str, exit_code: int) -> list[StoredFile]:
    """Store every file under `root` at `url`, then the manifest.

    An earlier attempt's manifest goes first: between the two, the results are incomplete and look it.

    Raises
    ------
    StorageError, BadInput
        Something could not be stored; there is no manifest then.
    """
    storage = Storage(url)
    storage.remove(MANIFEST)
    stored = []
    for name, path in result_files(root):
        kept = stored_name(name)
        if kept != name:
            print(f"af-run: {name!r} is stored as {kept!r}", file=sys.stderr)
        # The default binds this turn's path; mypy has no type for a lambda with a default.
        stored.append(storage.put(kept, lambda path=path: path.open("rb")))  # type: ignore[misc]
    manifest = {
        "url": storage.url,
        "complete": True,
        "exitCode": exit_code,
        "count": len(stored),
        "bytes": sum(file.bytes for file in stored),
        "files": [asdict(file) for file in stored],
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
    storage.put(MANIFEST, lambda: io.BytesIO(text))
    return stored
