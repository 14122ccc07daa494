"""What is left: of the store, and of the pod's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from af_inference.errors import Full, NotFound
from af_inference.repository import Repository
from af_inference.settings import MIB, Limits

CGROUP = Path("/sys/fs/cgroup")
SPARE = 64 * MIB


def check(repository: Repository, limits: Limits) -> None:
    """See whether one more version fits into the store.

    Raises
    ------
    Full
        There are as many versions, or bytes, as there may be.
    """
    sizes = [_size(repository, name, version) for name, version in _stored(repository)]
    if len(sizes) >= limits.versions:
        raise Full(f"the store has {len(sizes)} versions, and may have {limits.versions}: delete models first")
    if sum(sizes) >= limits.store:
        raise Full(f"the store has {sum(sizes)} bytes, and may have {limits.store}: delete models first")


def _stored(repository: Repository) -> Iterator[tuple[str, str]]:
    for name in repository.names():
        if name not in repository.catalogue:
            yield from ((name, version) for version in repository.versions(name))


def _size(repository: Repository, name: str, version: str) -> int:
    try:
        return sum(file.stat().st_size for file in repository.find(name, version).folder.iterdir())
    except (NotFound, FileNotFoundError):
        return 0  # was deleted meanwhile


def memory(limits: Limits, cgroup: Path = CGROUP) -> int:
    """Return the bytes that a child may take: what the pod has left, and never more than the limit."""
    try:
        most = (cgroup / "memory.max").read_text().strip()
        used = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except OSError:
        return limits.conversion
    if most == "max":
        return limits.conversion
    # The rest of what the pod has is cache, which goes when it is needed.
    return max(SPARE, min(limits.conversion, int(most) - int(used["anon"]) - SPARE))
