"""What a session chose, looked up in its profile. A wrong name is an ``InvalidSession`` that lists the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from af_operator.api.profile import NodePool, Size
from af_operator.errors import InvalidSession
from af_operator.model import Profile, Session


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


def image(session: Session, profile: Profile) -> str:
    """Return the reference of the session's image."""
    spec = profile.spec
    name = session.spec.image or spec.defaults.image or spec.images[0].name
    return _choose(spec.images, name, ("UnknownImage", "image"), profile).image


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
