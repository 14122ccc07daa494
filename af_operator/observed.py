"""The world as one pass sees it, and what is settled on the way through a plan. All frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self, TypeVar, cast

from af_operator import names
from af_operator.model import (
    POD,
    Audience,
    Body,
    Finish,
    Key,
    Kind,
    ObjectRef,
    PodPatch,
    Refusal,
    grouped,
    label_of,
    ref_of,
)
from af_operator.views import AgentView, ClusterNetwork, HubView

T = TypeVar("T")


class Children(tuple[Body, ...]):
    """The children of one session, and what was looked up in them.

    A session may have a thousand workers, and each is asked for by name, by kind, by group: whoever went through all
    children for each of them would need a second for one pass.
    """

    _computed: dict[Callable[[Children], Any], Any]

    def __new__(cls, bodies: Iterable[Body] = ()) -> Self:
        """Take the bodies as they are; nothing is looked up yet."""
        self = super().__new__(cls, bodies)
        self._computed = {}
        return self

    def once(self, make: Callable[[Children], T]) -> T:
        """Return what a pure function makes of the children: called once, however often it is asked for.

        It must be a function of a module. The answer is kept under it, and one that is defined anew has none.
        """
        if make not in self._computed:
            self._computed[make] = make(self)
        return cast(T, self._computed[make])

    def of(self, kind: Kind) -> Sequence[Body]:
        """Return the children of one kind."""
        return self.once(_by_kind).get((kind.api_version, kind.kind), ())


@dataclass(frozen=True)
class Observed:
    """The world as the stores know it, for one session. No API read is behind any of this.

    Attributes
    ----------
    children
        Objects that carry the session's uid label: ours, and those that others made for them (pods).
    log_tail
        Last lines of the finished run's log, once the pass has read them.
    shared
        Objects of the session's user in its namespace that outlive sessions: the home volume.
    hub
        JupyterHub, or None where the facility has none that the operator knows.
    network
        The facility's network, as its admin has said it; None where sessions get no NetworkPolicies.
    namesake
        An older session that JupyterHub shows as the same server of the same user.
    agents
        By component, what is known of the agent that it asked something.
    gpus_free
        Node pool to the GPUs that nobody has, as the profile's status said last.
    read
        What others have made and no store has, without what is in it, once the pass has looked at it; None where there
        is nothing of that name.
    refused
        By batch (``Manifest.batch``), or by kind and name, what the API server would not take lately: it is not asked
        again for a while.
    quotas
        ResourceQuotas of its namespace.
    promised
        What other sessions of the namespace are about to make, as quotas count it.
    nonce
        64 random hex digits, others in each pass that makes something: see ``token``.
    """

    children: tuple[Body, ...] = ()
    log_tail: str | None = None
    shared: tuple[Body, ...] = ()
    hub: HubView | None = None
    network: ClusterNetwork | None = None
    namesake: Key | None = None
    agents: Mapping[str, AgentView] = field(default_factory=dict)
    gpus_free: Mapping[str, int] = field(default_factory=dict)
    read: Mapping[ObjectRef, Body | None] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    quotas: tuple[Body, ...] = ()
    promised: Mapping[str, Decimal] = field(default_factory=dict)
    nonce: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        # What was looked up in the children serves all that `replace` makes of this: they stay the same.
        if not isinstance(self.children, Children):
            object.__setattr__(self, "children", Children(self.children))

    def once(self, make: Callable[[Children], T]) -> T:
        """See ``Children.once``."""
        return cast(Children, self.children).once(make)

    def of(self, kind: Kind) -> Sequence[Body]:
        """Return the children of one kind."""
        return cast(Children, self.children).of(kind)

    def get(self, ref: ObjectRef) -> Body | None:
        """Return one child, or None."""
        return self.once(_by_ref).get(ref)

    def pods(self, component: str | None = None) -> Sequence[Body]:
        """Return the pods, of all components or of one, by name."""
        return self.once(pods_by_name) if component is None else self.once(_pods_by_component).get(component, ())

    @property
    def hub_base_url(self) -> str:
        """The path under which JupyterHub is shown; ``/`` where there is none."""
        return self.hub.base_url if self.hub else "/"

    def token(self, purpose: str) -> str:
        """Return 64 hex digits that nobody can guess, others for each purpose and in each pass.

        One for each purpose: some are secret and others are part of a name, which everybody may read, and who has one
        of them must not have another by that.
        """
        return hashlib.sha256(f"{purpose} {self.nonce}".encode()).hexdigest()


@dataclass(frozen=True)
class Settled(Observed):
    """The same, once it is settled whether the session is over; only after that can components judge.

    Attributes
    ----------
    finished
        How the run has ended, or that the lifetime is over: the compute goes. None while the session goes on.
    now
        The time of the plan.
    """

    finished: Finish | None = None
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    @classmethod
    def at(cls, now: datetime, observed: Observed, finished: Finish | None) -> Self:
        """Return what was observed, with how the session ended."""
        values = {each.name: getattr(observed, each.name) for each in fields(Observed)}
        return cls(**values, finished=finished, now=now)


@dataclass(frozen=True)
class Terms:
    """What is settled among the components before any of them says what should exist.

    Attributes
    ----------
    waiting_for
        Names of the components that are not ready, and that a run must wait for.
    patches
        By audience, what the other components add to pods.
    workers
        By pool of this component, how many workers it may have by now: its share of the one budget.
    outside
        The session waits until there is room for all of it: nothing runs.
    """

    waiting_for: tuple[str, ...] = ()
    patches: Mapping[Audience, PodPatch] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)
    outside: bool = False

    def without_room(self) -> Terms:
        """Return the same for a session that waits for room."""
        return replace(self, outside=True)

    def patch(self, audience: Audience) -> PodPatch:
        """Return what the other components add to the pods of this audience."""
        return self.patches.get(audience, PodPatch())


def _by_kind(children: Children) -> dict[tuple[str, str], list[Body]]:
    return grouped(children, lambda body: (body["apiVersion"], body["kind"]))


def _by_ref(children: Children) -> dict[ObjectRef, Body]:
    return {ref_of(body): body for body in children}


def pods_by_name(children: Children) -> list[Body]:
    """Return the pods in the order of their names; for ``Children.once``."""
    return sorted(children.of(POD), key=lambda pod: str(pod["metadata"]["name"]))


def _pods_by_component(children: Children) -> dict[str | None, list[Body]]:
    return grouped(children.once(pods_by_name), lambda pod: label_of(pod, names.COMPONENT))
