"""What a session chose, looked up in its profile. A wrong name is an ``InvalidSession`` that lists the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from af_operator.api.profile import Image, NodePool, Size
from af_operator.errors import InvalidSession
from af_operator.model import Profile, Session


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


def image(session: Session, profile: Profile) -> str:
    """Return the reference of the session's image."""
    chosen, needed = _image(session, profile), _needed(session)
    if not needed <= set(chosen.provides):
        fitting = ", ".join(i.name for i in profile.spec.images if needed <= set(i.provides)) or "none"
        raise InvalidSession(
            "UnfitImage",
            f"image {chosen.name!r} has no {' and '.join(sorted(needed))}, which the session asks for: choose one that "
            f"has; in profile {profile.name!r}: {fitting}",
        )
    return chosen.image


def image_name(session: Session, profile: Profile) -> str:
    """Return what the session's image is called in its profile."""
    return _image(session, profile).name


def _image(session: Session, profile: Profile) -> Image:
    spec, needed = profile.spec, _needed(session)
    name = session.spec.image or spec.defaults.image or spec.images[0].name
    chosen = _choose(spec.images, name, ("UnknownImage", "image"), profile)
    if session.spec.image is None and not needed <= set(chosen.provides):
        return next((image for image in spec.images if needed <= set(image.provides)), chosen)
    return chosen


def _needed(session: Session) -> set[str]:
    """Return what the image must have, as `provides` of the profile says it."""
    return {"Spark"} if session.spec.spark else set()


def size(profile: Profile, name: str | None) -> Size:
    """Return a size of the profile, or its default."""
    spec = profile.spec
    return _choose(spec.sizes, name or spec.defaults.size or spec.sizes[0].name, ("UnknownSize", "size"), profile)


def node_pool(profile: Profile, name: str) -> NodePool:
    """Return a node pool of the profile."""
    return _choose(profile.spec.node_pools, name, ("UnknownNodePool", "node pool"), profile)


def _choose(entries: Sequence[T], name: str, refusal: tuple[str, str], profile: Profile) -> T:
    entry = next((e for e in entries if e.name == name), None)
    if entry is None:
        reason, noun = refusal
        available = ", ".join(sorted(e.name for e in entries)) or "none"
        raise InvalidSession(reason, f"{noun} {name!r} is not in profile {profile.name!r}: choose one of: {available}")
    return entry
