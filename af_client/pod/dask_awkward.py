"""dask-awkward on Dask since 2025.4, which puts a task that gathers the partitions behind a collection's own.

dask-awkward 2026.2 does not know that task: asked which columns it needs, it looks at the first partition alone, and
fails with *Missing dependency*. So it is asked without, and gets the task back afterwards.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

OPTIMIZE = "dask_awkward.lib.optimize"


def mend(module: ModuleType) -> None:
    """Have the module's `optimize` look at the collections alone."""
    optimize = module.optimize

    def of_collections(dsk: Any, keys: Any, **more: Any) -> Any:
        ends, rest, wanted = _apart(dsk, set(keys))
        found = optimize(rest, wanted, **more) if ends else optimize(dsk, keys, **more)
        if not ends:
            return found
        dependencies = {**found.dependencies, **{name: dsk.dependencies[name] for name in ends}}
        return type(dsk)({**found.layers, **ends}, dependencies)

    module.optimize = of_collections  # type: ignore[attr-defined]


def _apart(dsk: Any, keys: set[Any]) -> tuple[dict[str, Any], Any, list[Any]]:
    """Return the layers that only gather, the graph without them, and the keys that are wanted of that."""
    from dask.highlevelgraph import MaterializedLayer  # noqa: PLC0415 - where it is needed Dask is there

    ends = {n: layer for n, layer in dsk.layers.items() if n in keys and type(layer) is MaterializedLayer}
    ends = {n: layer for n, layer in ends.items() if dsk.dependencies[n] and not dsk.dependents[n]}
    layers = {n: layer for n, layer in dsk.layers.items() if n not in ends}
    rest = type(dsk)(layers, {n: dsk.dependencies[n] for n in layers})
    gathered = {key for n in ends for of in dsk.dependencies[n] for key in layers[of].get_output_keys()}
    return ends, rest, [*keys - ends.keys(), *gathered]
