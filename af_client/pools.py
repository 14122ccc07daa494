"""Pools of workers, whatever computes in them: found in a session's spec by what they are called. Pure.

There is no list of components here: a component has pools if its section of the spec says ``pools``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from af_client.errors import BadInput
from af_client.model import Session

Body = Mapping[str, Any]


@dataclass(frozen=True)
class PoolRef:
    """A pool of a session, written ``dask/cpu``; `path` is where its entry is in the session, as a JSON pointer."""

    component: str
    name: str
    path: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.component}/{self.name}"


def sections(spec: Body) -> dict[str, Sequence[Body]]:
    """Return component -> its pools, each as the spec has it."""
    found = {name: section.get("pools") for name, section in spec.items() if isinstance(section, Mapping)}
    return {name: pools for name, pools in found.items() if pools}


def refs(spec: Body) -> list[PoolRef]:
    """Return all pools of a spec."""
    return [
        PoolRef(component, pool["name"], f"/spec/{component}/pools/{position}")
        for component, pools in sections(spec).items()
        for position, pool in enumerate(pools)
    ]


def find(session: Session, wanted: str) -> PoolRef:
    """Return the pool that ``dask/cpu`` means, or ``cpu`` where only one component has it.

    Raises
    ------
    BadInput
        There is none, or more than one; the message lists what there is.
    """
    there = refs(session.body["spec"])
    found = [pool for pool in there if wanted in (pool.name, str(pool))]
    if len(found) > 1:
        raise BadInput(f"session {session.name} has several pools {wanted!r}: write {' or '.join(map(str, found))}")
    if not found:
        listed = ", ".join(map(str, there)) or "none"
        raise BadInput(f"session {session.name} has no pool {wanted!r}; its pools: {listed}")
    return found[0]
