"""The values that travel through a pass. All frozen; all can be printed and compared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self, TypeVar, cast

from af_kube import store
from af_operator.api import GROUP, ProfileSpec, SessionSpec
from af_operator.views import HubView, Question, Registration, SchedulerView

Body = Mapping[str, Any]
"""A Kubernetes object as the API server sends it."""
Key = store.Key
"""Also what the queue carries: which session to look at again; without a namespace, which profile."""
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class SessionRef(NamedTuple):
    """One very session: a later one of the same name has another uid."""

    namespace: str
    name: str
    uid: str


class Kind(NamedTuple):
    """A kind of child object."""

    api_version: str
    kind: str
    plural: str


class ObjectRef(NamedTuple):
    """One object, cluster-wide (the namespace is its session's)."""

    api_version: str
    kind: str
    name: str


def ref_of(body: Body) -> ObjectRef:
    """Return the identity of an object within its namespace."""
    return ObjectRef(body["apiVersion"], body["kind"], body["metadata"]["name"])


def label_of(body: Body, key: str) -> str | None:
    """Return the value of an object's label, or None."""
    found: str | None = body["metadata"].get("labels", {}).get(key)
    return found


def grouped(bodies: Iterable[Body], key: Callable[[Body], K]) -> dict[K, list[Body]]:
    """Return the bodies by what `key` says of each; their order is kept."""
    found: dict[K, list[Body]] = {}
    for body in bodies:
        found.setdefault(key(body), []).append(body)
    return found


@dataclass(frozen=True)
class Session:
    """An ``AnalysisSession`` as a pass sees it."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    spec: SessionSpec
    status: Body = field(default_factory=dict)
    """The last written status. Read for transition times, to write nothing when nothing changed, and for what was told
    for good: that a run is complete, that a scheduler was lost."""
    deleting: bool = False
    trimmed: bool = False
    """The text of ``spec.run.source.files`` is not at hand: only the names of the files are."""

    @property
    def key(self) -> Key:
        """The session's key in the queue."""
        return Key(self.namespace, self.name)

    @property
    def ref(self) -> SessionRef:
        """The session's identity."""
        return SessionRef(self.namespace, self.name, self.uid)


@dataclass(frozen=True)
class Profile:
    """An ``AnalysisProfile``."""

    name: str
    spec: ProfileSpec


@dataclass(frozen=True)
class Manifest:
    """One object that should exist, without the stamps that ``plan`` adds (namespace, labels, owner, hash).

    A `shared` one is the user's, not the session's: made once, owned by nobody, never changed and never deleted.
    One that is `from_source` has the text of the session's files in it.
    """

    body: Body
    shared: bool = False
    from_source: bool = False

    @property
    def ref(self) -> ObjectRef:
        """The object's identity."""
        return ref_of(self.body)


@dataclass(frozen=True)
class Keep:
    """An object of ours that should stay exactly as it is: neither applied nor pruned."""

    ref: ObjectRef


@dataclass(frozen=True)
class Discard:
    """An object that others made for the session, and that is to go now."""

    body: Body


@dataclass(frozen=True)
class PodPatch:
    """What one component adds to the pods of others.

    Attributes
    ----------
    env
        ``{"name", "value"}`` entries for the user's container.
    volumes, mounts
        Pod volumes, and mounts of the user's container.
    sidecars
        Containers that run beside the user's. Each component that makes pods says how: a native
        sidecar in a Job, an ordinary container where the CRD prunes the newer field.
    """

    env: tuple[Body, ...] = ()
    volumes: tuple[Body, ...] = ()
    mounts: tuple[Body, ...] = ()
    sidecars: tuple[Body, ...] = ()

    def __add__(self, other: PodPatch) -> PodPatch:
        """Return both patches in one; order is kept."""
        return PodPatch(
            self.env + other.env,
            self.volumes + other.volumes,
            self.mounts + other.mounts,
            self.sidecars + other.sidecars,
        )


@dataclass(frozen=True)
class Finish:
    """How and when a session came to its end."""

    reason: str
    """``Succeeded``, ``Failed`` or ``LifetimeExceeded``."""
    message: str
    time: datetime


class Children(tuple[Body, ...]):
    """The children of one session, and what was looked up in them.

    A session may have a thousand workers, and each is asked for by name, by kind, by group: whoever went through all
    children for each of them would need a second for one pass.
    """

    _made: dict[Callable[[Children], Any], Any]

    def __new__(cls, bodies: Iterable[Body] = ()) -> Self:
        """Take the bodies as they are; nothing is looked up yet."""
        self = super().__new__(cls, bodies)
        self._made = {}
        return self

    def once(self, make: Callable[[Children], T]) -> T:
        """Return what a pure function makes of the children: called once, however often it is asked for.

        It must be a function of a module. The answer is kept under it, and one that is defined anew has none.
        """
        if make not in self._made:
            self._made[make] = make(self)
        return cast(T, self._made[make])

    def of(self, kind: Kind) -> Sequence[Body]:
        """Return the children of one kind."""
        return self.once(_by_kind).get((kind.api_version, kind.kind), ())


@dataclass(frozen=True)
class Observed:
    """The world as the indexes know it, for one session. No API read is behind any of this.

    Attributes
    ----------
    children
        Objects that carry the session's uid label: ours, and those that others made for them (pods).
    log_tail
        Last lines of the finished run's log, once the pass has read them.
    waiting_for
        Names of the components that the run must wait for; filled in by ``plan``.
    finished
        Set by ``plan`` when the run has ended or the lifetime is over: the compute goes.
    shared
        Objects of the session's user in its namespace that outlive sessions: the home volume.
    hub
        JupyterHub, or None where the facility has none that the operator knows.
    namesake
        An older session that JupyterHub shows as the same server of the same user.
    scheduler
        The session's Dask scheduler, where something was asked of it.
    gpus_free
        Node pool to the GPUs that nobody has, as the profile's status said last.
    nonce
        64 random hex digits, others in each pass: for what must be secret when it is created.
    """

    children: tuple[Body, ...] = ()
    log_tail: str | None = None
    waiting_for: tuple[str, ...] = ()
    finished: Finish | None = None
    shared: tuple[Body, ...] = ()
    hub: HubView | None = None
    namesake: Key | None = None
    scheduler: SchedulerView | None = None
    gpus_free: Mapping[str, int] = field(default_factory=dict)
    nonce: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        # One index for all that `replace` makes of this: the children stay the same.
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


def _by_kind(children: Children) -> dict[tuple[str, str], list[Body]]:
    return grouped(children, lambda body: (body["apiVersion"], body["kind"]))


def _by_ref(children: Children) -> dict[ObjectRef, Body]:
    return {ref_of(body): body for body in children}


def pods_by_name(children: Children) -> list[Body]:
    """Return the pods in the order of their names; for ``Children.once``."""
    return sorted(children.of(POD), key=lambda pod: str(pod["metadata"]["name"]))


def _pods_by_component(children: Children) -> dict[str | None, list[Body]]:
    return grouped(children.once(pods_by_name), lambda pod: label_of(pod, f"{GROUP}/component"))


class Condition(NamedTuple):
    """One statement in the status."""

    type: str
    true: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Health:
    """What a component says of itself; becomes its ``<Component>Ready`` condition."""

    ready: bool
    reason: str
    message: str
    endpoints: Mapping[str, str] = field(default_factory=dict)
    details: Body = field(default_factory=dict)
    """The component's part of ``status.components``."""
    more: Condition | None = None
    """A condition beside ``<Component>Ready``; it has no say in whether the session is ready."""


POD = Kind("v1", "Pod", "pods")


@dataclass(frozen=True)
class LogRequest:
    """A log to read the tail of."""

    pod: str
    container: str
    lines: int


@dataclass(frozen=True)
class Notice:
    """A Kubernetes Event to record."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Refusal:
    """What the API server would not take, in its own words."""

    ref: ObjectRef
    component: str
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What a pass will do, and what it knows: ``status`` is made from this and nothing else.

    Attributes
    ----------
    rejected
        (reason, message) when the spec does not fit the profile; then nothing is applied or deleted but what a
        suspended session stops with, and `health` is empty unless something of the session exists.
    desired
        Everything that should exist, fully stamped.
    apply
        The part of `desired` that differs from the live objects.
    discard
        What components discard; it goes before anything is applied: a pool's number of workers may only say so then.
    delete
        Live objects of ours that nobody plans any more.
    active
        Names of the components whose objects are planned.
    health
        By component name, for every enabled component.
    registration
        How the session stands with JupyterHub; None where there is nothing to show, or no JupyterHub.
    report
        What components add to the status at its top level, e.g. ``{"run": {…}}``.
    log_wanted
        A log whose tail the pass must read before it can plan to the end.
    source_wanted
        Something is to be made of the text of the session's files.
    question
        What to ask of the session's Dask scheduler until the next pass, or None.
    expired
        The session has outlived its TTL and is to be deleted.
    look_again
        When the session must be looked at again though nothing may have happened.
    """

    rejected: tuple[str, str] | None = None
    desired: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    discard: tuple[Body, ...] = ()
    delete: tuple[Body, ...] = ()
    active: frozenset[str] = frozenset()
    health: Mapping[str, Health] = field(default_factory=dict)
    registration: Registration | None = None
    report: Body = field(default_factory=dict)
    finished: Finish | None = None
    log_wanted: LogRequest | None = None
    source_wanted: bool = False
    question: Question | None = None
    expired: bool = False
    look_again: datetime | None = None

    @property
    def changes_the_world(self) -> bool:
        """Whether anything is to be made, changed or deleted, beside the status."""
        return bool(self.apply or self.discard or self.delete or self.expired)
