"""Claims of volumes that outlive pods. Pure."""

from __future__ import annotations

from typing import Protocol

from af_operator.components._shared import pod_spec
from af_operator.model import Manifest
from af_operator.render import render


class _Volume(Protocol):
    @property
    def access_mode(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def storage_class_name(self) -> str | None: ...


def claim(name: str, volume: _Volume) -> Manifest:
    """Return the claim of a volume as the profile describes it."""
    return render(
        __package__,
        "claim",
        name=name,
        access_mode=volume.access_mode,
        size=pod_spec.quantity(volume.size),
        classed=volume.storage_class_name is not None,
        storage_class=volume.storage_class_name,
    )
