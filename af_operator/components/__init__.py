"""Components, and the protocol that each of them follows. Found by file: a new component is one new module.

A component's functions are pure: no clock, no random, no I/O. Components know each other only through
``names`` (addresses and labels), never through each other's modules.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, Protocol, runtime_checkable

from af_operator.model import (
    Discard,
    Finish,
    Health,
    Keep,
    Kind,
    LogRequest,
    Manifest,
    Observed,
    PodPatch,
    Profile,
    Session,
)
from af_operator.views import HubServer, Question

Item = Manifest | Keep | Discard
Lifetime = Literal["compute", "cache", "record"]
"""When a component's objects go: compute on suspend and on the end; cache on the end; record with the session."""


@runtime_checkable
class Component(Protocol):
    """What ``plan`` and ``status`` ask of a component module."""

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
    LIFETIME: Lifetime

    @staticmethod
    def enabled(session: Session) -> bool:
        """Return whether the session asks for this component."""

    @staticmethod
    def check(session: Session, profile: Profile) -> None:
        """Raise ``InvalidSession`` when the spec does not fit the profile."""

    @staticmethod
    def desired(session: Session, profile: Profile, observed: Observed, patch: PodPatch) -> Sequence[Item]:
        """Return what should exist, and what others made that is to go.

        `patch` is the sum of what the other components add to pods."""

    @staticmethod
    def pod_patch(session: Session, profile: Profile) -> PodPatch:
        """Return what this component adds to the pods of others."""

    @staticmethod
    def health(session: Session, observed: Observed) -> Health:
        """Return readiness, computed from the pods."""

    @staticmethod
    def finish(session: Session, observed: Observed) -> Finish | None:
        """Return how the session ended, if this component is what ends it."""

    @staticmethod
    def report(session: Session, observed: Observed) -> Mapping[str, Any]:
        """Return what this component adds to the status at its top level."""

    @staticmethod
    def log_wanted(session: Session, observed: Observed) -> LogRequest | None:
        """Return the log that must be read before the end can be recorded, if any is still to be read."""

    @staticmethod
    def deadline(session: Session, observed: Observed) -> datetime | None:
        """Return when the session must be looked at again though nothing may happen, or None."""

    @staticmethod
    def question(session: Session, profile: Profile, observed: Observed) -> Question | None:
        """Return what to ask of the session's Dask scheduler, or None."""

    @staticmethod
    def registration(session: Session, observed: Observed) -> HubServer | None:
        """Return the JupyterHub server that shows this component, or None; whether it is ready is not asked here."""


@cache
def all_components() -> tuple[Component, ...]:
    """Return every component module, in the order of their names.

    Raises
    ------
    TypeError
        A module in this package does not follow the protocol.
    """
    found = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda i: i.name):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        if not isinstance(module, Component):
            raise TypeError(f"{module.__name__} does not follow the Component protocol")
        found.append(module)
    return tuple(found)
