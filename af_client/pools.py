"""Pools of workers, whatever computes in them: found in a session's spec by what they are called. Pure.

There is no list of components here: a component has pools if its section of the spec says ``pools``, and one of
servers that are all alike if that says ``replicas``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from af_client.errors import BadInput
from af_client.model import REPLICAS, Session

Body = Mapping[str, Any]


@dataclass(frozen=True)
class PoolRef:
    """A pool of a session, written ``dask/cpu``, or ``inference`` where a component has but one, of its replicas.

    `path` is where it is in the session, as a JSON pointer: its entry, or the number of `replicas`.
    """

    component: str
    name: str
    path: str = field(compare=False)
    replicas: bool = False

    def __str__(self) -> str:
        return self.component if self.replicas else f"{self.component}/{self.name}"

    def patch(self, least: int, most: int | None) -> list[Body]:
        """Return the JSON patch that gives it exactly `least`, or between both.

        Raises
        ------
        BadInput
            Both are given for replicas.
        """
        if not self.replicas:
            workers = {"min": least, "max": least if most is None else most}
            # Others may have changed the list since.
            same = {"op": "test", "path": f"{self.path}/name", "value": self.name}
            return [same, {"op": "replace", "path": f"{self.path}/workers", "value": workers}]
        if most not in (None, least):
            raise BadInput(f"{self} has a fixed number of replicas: write one number, not {least}..{most}")
        return [{"op": "replace", "path": self.path, "value": least}]


def sections(spec: Body) -> dict[str, Sequence[Body]]:
    """Return component -> its pools, each as the spec has it."""
    found = {name: section.get("pools") for name, section in spec.items() if isinstance(section, Mapping)}
    return {name: pools for name, pools in found.items() if pools}


def refs(spec: Body) -> list[PoolRef]:
    """Return all pools of a spec."""
    replicated = [name for name, section in spec.items() if isinstance(section, Mapping) and REPLICAS in section]
    return [
        PoolRef(component, pool["name"], f"/spec/{component}/pools/{position}")
        for component, pools in sections(spec).items()
        for position, pool in enumerate(pools)
    ] + [PoolRef(name, REPLICAS, f"/spec/{name}/{REPLICAS}", replicas=True) for name in replicated]


def find(session: Session, wanted: str) -> PoolRef:
    """Return the pool that ``dask/cpu`` or ``inference`` means, or ``cpu`` where only one component has it.

    Raises
    ------
    BadInput
        There is none, or more than one; the message lists what there is.
    """
    there = refs(session.body["spec"])
    found = [pool for pool in there if wanted == str(pool)] or [pool for pool in there if wanted == pool.name]
    if len(found) > 1:
        raise BadInput(f"session {session.name} has several pools {wanted!r}: write {' or '.join(map(str, found))}")
    if not found:
        listed = ", ".join(map(str, there)) or "none"
        raise BadInput(f"session {session.name} has no pool {wanted!r}; its pools: {listed}")
    return found[0]
