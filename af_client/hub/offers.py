"""What an ``AnalysisProfile`` offers to those who start a server: light, frozen, read from the object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]

DEFAULT_CACHE = "10Gi"
"""What the CRD makes of a session's xcache without a size."""
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
class Offer:
    """A profile. The first image and the first size are the ones that it gives to who does not choose."""

    profile: str
    images: tuple[str, ...]
    sizes: tuple[Size, ...]
    pools: tuple[Pool, ...]
    workers: int
    gpus: int
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
        pools = (_pool(e, closed, counts.get(e["name"], {}), workers, gpus) for e in entries)
        images = tuple(image["name"] for image in spec["images"])
        sizes = tuple(Size(s["name"], s["cpu"], s["memory"]) for s in spec["sizes"])
        cache = spec.get("xcache")
        return cls(
            profile=body["metadata"]["name"],
            images=tuple(sorted(images, key=lambda name: name != defaults.get("image"))),
            sizes=tuple(sorted(sizes, key=lambda size: size.name != defaults.get("size"))),
            pools=tuple(pool for pool in pools if pool.most > 0 and (pool.gpu or pool.cpu_workers)),
            workers=workers,
            gpus=gpus,
            xcache=cache is not None,
            cache_size=_below(cache.get("maxSize"), DEFAULT_CACHE) if cache else None,
            home=bool((spec.get("storage") or {}).get("home")),
            lifetime_seconds=limits.get("lifetimeSeconds"),
        )

    def pool(self, name: str) -> Pool | None:
        """Return the pool of this name."""
        return next((pool for pool in self.pools if pool.name == name), None)


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
