"""What an ``AnalysisProfile`` offers to those who start a server: light, frozen, read from the object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]

DEFAULT_CACHE = "10Gi"
"""What the CRD makes of a session's xcache without a size."""
DASK = "dask"
"""The component whose pools need no prefix."""
SPARK_MEMORY = "1.5Gi"
"""A worker with less has no room for an executor, whose heap Spark wants to be 450 MiB at least."""
CONNECT_MEMORY = "1Gi"
"""The same of Spark's Connect server."""
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_UNITS |= {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}


@dataclass(frozen=True)
class Size:
    """A shape of a container."""

    name: str
    cpu: str
    memory: str

    @property
    def label(self) -> str:
        """In words: ``medium (0.25 cores, 2Gi memory)``."""
        cores = float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)
        return f"{self.name} ({cores:g} core{'' if cores == 1 else 's'}, {self.memory} memory)"


@dataclass(frozen=True)
class Pool:
    """A node pool on which workers may be had, at most `most` of them."""

    name: str
    gpu: bool
    cpu_workers: bool
    """Workers without GPUs may be had, too."""
    most: int
    gpus: int | None
    gpus_free: int | None

    @property
    def free(self) -> str:
        """What is free at this moment, in words; empty where nobody knows."""
        if not self.gpu or self.gpus_free is None:
            return ""
        whole = "" if self.gpus is None else f" of {self.gpus}"
        return f"{self.gpus_free}{whole} GPU{'' if self.gpus_free == 1 and not whole else 's'} free now"


@dataclass(frozen=True)
class Engine:
    """What computes on pools of workers, and what of the profile can be chosen with it."""

    component: str
    """Its section of a session's spec."""
    title: str
    images: tuple[str, ...]
    """Those that have it."""
    sizes: tuple[Size, ...]
    """Those that its workers have room in."""
    pools: tuple[Pool, ...]
    server_size: str | None = None
    """Of its server, where the profile's own size is too small."""

    def choice(self, pool: Pool) -> str:
        """Return what options call this engine's workers on a pool: ``cpu``, or ``spark/cpu``, as `af scale` does."""
        return pool.name if self.component == DASK else f"{self.component}/{pool.name}"


@dataclass(frozen=True)
class Model:
    """A model of the catalogue; `version` is the one that a session gets."""

    name: str
    version: str
    description: str


@dataclass(frozen=True)
class Serving:
    """What sessions can serve: models of the catalogue, and where `upload` their own."""

    models: tuple[Model, ...]
    upload: bool


@dataclass(frozen=True)
class Offer:
    """A profile. The first image and the first size are the ones that it gives to who does not choose."""

    profile: str
    images: tuple[str, ...]
    sizes: tuple[Size, ...]
    engines: tuple[Engine, ...]
    workers: int
    gpus: int
    serving: Serving | None
    xcache: bool
    cache_size: str | None
    """Disk of a cache, where the profile's limit is below the usual size."""
    home: bool
    lifetime_seconds: int | None

    @classmethod
    def parse(cls, body: Body) -> Offer:
        """Read a profile as the API server sends it: with its defaults filled in."""
        spec, defaults = body["spec"], body["spec"].get("defaults") or {}
        limits = spec.get("limits") or {}
        workers, gpus = limits.get("workers", 100), limits.get("gpus", 0)
        counts = {p["name"]: p for p in (body.get("status") or {}).get("nodePools") or []}
        entries = spec.get("nodePools") or []
        closed = [e for e in entries if e.get("gpuResource") and not e.get("cpuWorkers")]
        pools = [_pool(e, closed, counts.get(e["name"], {}), workers, gpus) for e in entries]
        pools = [pool for pool in pools if pool.most > 0 and (pool.gpu or pool.cpu_workers)]
        images = sorted(spec["images"], key=lambda image: bool(image["name"] != defaults.get("image")))
        sizes = [Size(s["name"], s["cpu"], s["memory"]) for s in spec["sizes"]]
        sizes.sort(key=lambda size: size.name != defaults.get("size"))
        cache = spec.get("xcache")
        return cls(
            profile=body["metadata"]["name"],
            images=tuple(image["name"] for image in images),
            sizes=tuple(sizes),
            engines=tuple(engine for engine in _engines(images, sizes, pools) if engine.pools),
            workers=workers,
            gpus=gpus,
            serving=_serving(spec.get("inference")),
            xcache=cache is not None,
            cache_size=_below(cache.get("maxSize"), DEFAULT_CACHE) if cache else None,
            home=bool((spec.get("storage") or {}).get("home")),
            lifetime_seconds=limits.get("lifetimeSeconds"),
        )

    @property
    def special(self) -> list[Engine]:
        """The engines that some image lacks."""
        return [engine for engine in self.engines if len(engine.images) < len(self.images)]

    def lacking(self, image: str) -> list[Engine]:
        """Return the engines that this image lacks."""
        return [engine for engine in self.engines if image not in engine.images]


def _engines(images: Sequence[Body], sizes: Sequence[Size], pools: Sequence[Pool]) -> Iterator[Engine]:
    # Dask is in every image; what else is in one says the profile.
    yield Engine(DASK, "Dask", tuple(image["name"] for image in images), tuple(sizes), tuple(pools))
    having = tuple(image["name"] for image in images if "Spark" in (image.get("provides") or ()))
    large = tuple(size for size in sizes if _bytes(size.memory) >= _bytes(SPARK_MEMORY))
    if having and large:
        # A stage of Spark's must ask for a GPU in words of its own: who only fills in a form would hold them in vain.
        without_gpus = tuple(pool for pool in pools if not pool.gpu)
        server_size = None if _bytes(sizes[0].memory) >= _bytes(CONNECT_MEMORY) else large[0].name
        yield Engine("spark", "Spark", having, large, without_gpus, server_size)


def _serving(section: Body | None) -> Serving | None:
    highest: dict[str, Model] = {}
    for entry in (section or {}).get("models") or []:
        model = Model(entry["name"], entry["version"], entry.get("description") or "")
        if model.name not in highest or int(highest[model.name].version) < int(model.version):
            highest[model.name] = model
    found = Serving(tuple(highest.values()), bool((section or {}).get("upload")))
    return found if found.models or found.upload else None


def _pool(entry: Body, closed: Sequence[Body], counts: Body, workers: int, gpus: int) -> Pool:
    gpu = bool(entry.get("gpuResource"))
    most = min(workers, gpus) if gpu else workers
    most = min(most, entry.get("maxWorkers", most))
    return Pool(entry["name"], gpu, not _within(entry, closed), most, counts.get("gpus"), counts.get("gpusFree"))


def _within(entry: Body, closed: Sequence[Body]) -> bool:
    """Return whether all nodes of a pool are closed to workers without GPUs, as the operator sees it."""
    labels = (entry.get("nodeSelector") or {}).items()
    around = (each["nodeSelector"].items() for each in closed if each.get("nodeSelector"))
    return entry in closed or any(each <= labels for each in around)


def _below(limit: str | None, usual: str) -> str | None:
    return limit if limit is not None and _bytes(limit) < _bytes(usual) else None


def _bytes(quantity: str) -> float:
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    return float(found[1]) * _UNITS.get(found[2], 1) if found else 0.0
