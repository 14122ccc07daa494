"""Components, and the protocol that each of them follows. Found by folder: a new component is one new package.

A component's functions are pure: no clock, no random, no I/O. Components know each other only through ``names``
(addresses and labels), never through each other's modules; what several of them use is in ``_shared``. The order in
which a pass asks them stands in ``plan``, and the types say what is settled by then.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from af_operator.api.pools import Pool
from af_operator.components._shared.budget import Demand
from af_operator.model import (
    Audience,
    Discard,
    Finish,
    Health,
    Keep,
    Kind,
    Lifetime,
    Loan,
    LogRequest,
    Manifest,
    PodPatch,
    Profile,
    Session,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.views import HubServer, Question

Item = Manifest | Keep | Discard


@runtime_checkable
class Component(Protocol):
    """What ``plan`` and ``status`` ask of a component, which is a module: its functions have no `self`.

    ``_shared.defaults`` has those answers that say nothing. What a package has of the protocol stands in its
    ``__all__``: what does not is nothing that mypy can see.
    """

    NAME: str
    """Lower-case name: key in ``status.components``; the condition is ``<Title>Ready``."""
    TITLE: str
    """The name as conditions spell it: ``Dask``, ``XCache``, ``Run``."""
    KINDS: tuple[Kind, ...]
    """Kinds that it creates: watched, pruned, and granted to the operator by the generated RBAC."""
    WATCHED: tuple[Kind, ...]
    """Kinds that others make for it and that it judges by: watched, never written."""
    SHARED: tuple[Kind, ...]
    """Kinds of what it makes for a user and not for a session (``Manifest.shared``): watched, never deleted."""
    KEPT: tuple[Kind, ...]
    """Kinds of what it makes once for a session (``Manifest.kept``): watched, never changed, and gone with it alone."""
    LIFETIME: Lifetime

    # Of the spec alone.

    def enabled(self, session: Session) -> bool:
        """Return whether the session asks for this component."""

    def check(self, session: Session, profile: Profile) -> None:
        """Raise ``InvalidSession`` when the spec does not fit the profile."""

    def pools(self, session: Session) -> Sequence[Pool]:
        """Return the pools of workers that the spec asks for: ``plan`` holds them against the profile's limits."""

    # Of the world, before it is settled whether the session is over.

    def finish(self, session: Session, observed: Observed) -> Finish | None:
        """Return how the session ended, if this component is what ends it."""

    # Of the world, once that is settled.

    def pod_patch(self, session: Session, profile: Profile, observed: Settled, audience: Audience) -> PodPatch:
        """Return what this component adds to the pods of others."""

    def health(self, session: Session, observed: Settled) -> Health | None:
        """Return readiness, computed from the pods; None where there is nothing to tell or to wait for."""

    def report(self, session: Session, observed: Settled) -> Mapping[str, Any]:
        """Return what this component adds to the status at its top level."""

    def log_wanted(self, session: Session, observed: Settled) -> LogRequest | None:
        """Return the log that must be read before the end can be recorded, if any is still to be read."""

    def deadline(self, session: Session, observed: Settled) -> datetime | None:
        """Return when the session must be looked at again though nothing may happen, or None."""

    def registration(self, session: Session, observed: Settled) -> HubServer | None:
        """Return the JupyterHub server that shows this component, or None; whether it is ready is not asked here."""

    def activity(self, session: Session, observed: Settled) -> datetime | None:
        """Return when this component was last seen to be used; None where it cannot tell."""

    def loans(self, session: Session, profile: Profile, observed: Settled) -> Sequence[Loan]:
        """Return what others make that this component's objects, or its patches, refer to by name.

        Raises ``InvalidSession`` for what the session may never refer to.
        """

    def demands(self, session: Session, profile: Profile, observed: Settled) -> Sequence[Demand]:
        """Return, for each group of workers that there is or should be, what it asks of the one budget."""

    # Of the world, once it is settled what each component may have.

    def desired(self, session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Item]:
        """Return what should exist, and what others made that is to go."""

    def question(self, session: Session, profile: Profile, observed: Settled, terms: Terms) -> Question | None:
        """Return what to ask of this component's agent, or None."""


Components = tuple[Component, ...]


def shipped() -> Components:
    """Return every component of this package, in the order of their names."""
    return in_package(importlib.import_module(__name__))


def in_package(package: ModuleType) -> Components:
    """Return the components that are folders of a package, in the order of their names.

    Raises
    ------
    TypeError
        A package in it does not follow the protocol.
    """
    names = sorted(i.name for i in pkgutil.iter_modules(package.__path__) if i.ispkg and not i.name.startswith("_"))
    return tuple(_checked(importlib.import_module(f"{package.__name__}.{name}")) for name in names)


def _checked(module: ModuleType) -> Component:
    if not isinstance(module, Component):
        raise TypeError(f"{module.__name__} does not follow the Component protocol")
    return module


def child_kinds(components: Components) -> list[Kind]:
    """Return every kind that components create for sessions or look at."""
    return sorted({kind for c in components for kind in (*c.KINDS, *c.WATCHED, *c.KEPT)})


def shared_kinds(components: Components) -> list[Kind]:
    """Return every kind of what components make for users, and not for one session."""
    return sorted({kind for c in components for kind in c.SHARED})


def lasting_kinds(components: Components) -> list[Kind]:
    """Return every kind of what is made once: of users and of sessions. The operator has no right to change these."""
    return sorted({kind for c in components for kind in (*c.SHARED, *c.KEPT)})
