"""What a session can be begun as, in words, by what its profile offers; each stands for numbers. Pure.

Field of the form and of links: ``start``, with the name of one of these. Who says ``own``, or nothing, says numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from af_client.hub.choices import one_of
from af_client.hub.offers import DASK, Engine, Offer, Pool

FIELD = "start"
OWN = "own"
FEW = 4
"""Workers, where that many can be had."""
SOME = 3
"""Models that are served without a choice among them: each takes memory."""


@dataclass(frozen=True)
class Preset:
    """One choice; `options` is its part of the options: pools and models."""

    name: str
    title: str
    hint: str
    options: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    """Those that have what it needs; any if empty."""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the form that say the same, but for those that say nothing."""
        models = self.options.get("inference", {}).get("models", ())
        pools = self.options.get("pools", {})
        found = {f"workers.{name}": pool["workers"] for name, pool in pools.items()}
        found |= {f"min-workers.{name}": pool["minWorkers"] for name, pool in pools.items()}
        return found | {f"model.{name}": True for name in models}


def of(offer: Offer) -> list[Preset]:
    """Return what can be begun with a profile, the least first; the last is to choose the numbers oneself."""
    alone = Preset("notebook", "Just a notebook", "JupyterLab, and nothing beside it.")
    own = Preset(OWN, "My own choice", "Image, sizes and numbers as they stand below.")
    return [alone, *_workers(offer), *_models(offer), own]


def _workers(offer: Offer) -> Iterator[Preset]:
    for engine in offer.engines:
        dask = engine.component == DASK
        if pool := next((pool for pool in engine.pools if not pool.gpu), None):
            many = min(FEW, pool.most)
            workers = "1 worker," if many == 1 else f"up to {many} workers, each"
            hint = f"A notebook, and {engine.title} with {workers} {engine.sizes[0].label}."
            name, title = ("workers", "A few workers") if dask else (engine.component, f"A few {engine.title} workers")
            yield Preset(name, title, hint, _pools(engine, pool, many, 1), engine.images)
        if pool := next((pool for pool in engine.pools if pool.gpu), None):
            free = f" ({pool.free})" if pool.free else ""
            hint = f"A notebook, and a {engine.title} worker with a GPU{free}, which joins when your tasks ask for it."
            yield Preset("gpu", "A GPU", hint, _pools(engine, pool, 1, 0), engine.images)


def _models(offer: Offer) -> Iterator[Preset]:
    models = offer.serving.models[:SOME] if offer.serving and offer.workers else ()
    if models:
        names = [model.name for model in models]
        chosen = {"models": names, "size": offer.sizes[0].name, "replicas": 1}
        hint = f"A notebook, and a service with {', '.join(names)}."
        yield Preset("models", "Models to ask", hint, {"inference": chosen})


def _pools(engine: Engine, pool: Pool, workers: int, least: int) -> dict[str, Any]:
    chosen = {"workers": workers, "minWorkers": least, "size": engine.sizes[0].name}
    return {"pools": {engine.choice(pool): chosen}}


def apply(name: str, options: dict[str, Any], offer: Offer) -> dict[str, Any]:
    """Return the options with what a preset stands for in the place of their own pools and models.

    Raises
    ------
    BadOption
        This profile offers no such preset.
    """
    found = of(offer)
    preset = next(each for each in found if each.name == one_of(FIELD, name, [each.name for each in found]))
    if preset.name == OWN:
        return options
    kept = {key: value for key, value in options.items() if key not in ("pools", "inference")}
    if preset.images and options.get("image", offer.images[0]) not in preset.images:
        kept["image"] = preset.images[0]
    return kept | dict(preset.options)


def matching(options: Mapping[str, Any], offer: Offer) -> str:
    """Return the preset that these options ask for, whatever they are; `OWN` if none."""
    asked = _asked(options)
    return next((preset.name for preset in of(offer) if _asked(preset.options) == asked and preset.name != OWN), OWN)


def _asked(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the pools with workers, and the models if there are any: a form says zeros and sizes beside them."""
    pools, models = options.get("pools") or {}, options.get("inference") or {}
    if isinstance(pools, Mapping):
        pools = {name: pool for name, pool in pools.items() if not isinstance(pool, Mapping) or pool.get("workers", 0)}
    if isinstance(models, Mapping) and not models.get("models") and not models.get("upload"):
        models = {}
    return pools, models
