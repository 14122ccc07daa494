"""What a user's home begins with: the image's ``share/af/home``, each file laid once.

What was laid is remembered, so a file that its user has deleted does not come back, and one that is there is never
written. A file that a newer image brings along is laid at the next start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

IMAGE = Path(sys.prefix) / "share" / "af" / "home"
LAID = Path(".local/share/af/laid.json")
"""In home: the names of what was laid."""


def lay(home: Path, source: Path = IMAGE) -> None:
    """Lay what was never laid in a home.

    Raises
    ------
    OSError
        Home cannot be written.
    """
    known = _laid(home / LAID)
    offered = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    if new := offered - known:
        # First: a start that ends half-way must not bring back later what was deleted meanwhile.
        _remember(home / LAID, known | new)
    for name in sorted(new):
        with suppress(FileExistsError, NotADirectoryError):  # the user's own
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            with (home / name).open("xb") as file:
                file.write((source / name).read_bytes())


def _remember(record: Path, names: Collection[str]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    written = record.with_suffix(".new")
    written.write_text(json.dumps(sorted(names), indent=1))
    written.replace(record)


def _laid(record: Path) -> set[str]:
    with suppress(OSError, ValueError):
        return set(map(str, json.loads(record.read_text())))
    return set()
