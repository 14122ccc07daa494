"""The values that travel through a pass. All frozen; all can be printed and compared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar

from af_kube import store
from af_operator.api import ProfileSpec, SessionSpec
from af_operator.views import HubServer, Question, Registration

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


class ObjectRef(NamedTuple):
    """One object, cluster-wide (the namespace is its session's)."""

    api_version: str
    kind: str
    name: str


class Kind(NamedTuple):
    """A kind of child object."""

    api_version: str
    kind: str
    plural: str

    def ref(self, name: str) -> ObjectRef:
        """Return the identity of one of this kind."""
        return ObjectRef(self.api_version, self.kind, name)


NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD = Kind("v1", "Pod", "pods")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE = Kind("v1", "Service", "services")
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")


def ref_of(body: Body) -> ObjectRef:
    """Return the identity of an object within its namespace."""
    return ObjectRef(body["apiVersion"], body["kind"], body["metadata"]["name"])


def label_of(body: Body, key: str) -> str | None:
    """Return the value of an object's label, or None."""
    value: str | None = body["metadata"].get("labels", {}).get(key)
    return value


def age_of(body: Body) -> tuple[str, str]:
    """Return what orders objects by age, oldest first, and those of one second by name."""
    return str(body["metadata"].get("creationTimestamp", "")), str(body["metadata"]["name"])


def grouped(values: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return the values by what `key` says of each; their order is kept."""
    groups: dict[K, list[T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


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
    """The last written status. Read for transition times, to write nothing when nothing changed, for what was told for
    good (that a run is complete and what was known of it, that a scheduler was ready or lost, when the session was last
    used), and for its phase (``status.phase``)."""
    deleted: datetime | None = None
    """Since when it is being deleted. From then on it is planned as one that stops, whatever holds it."""
    finalizers: tuple[str, ...] = ()
    trimmed: bool = False
    """The text of ``spec.run.source.files`` is not at hand: only the names of the files are."""

    @property
    def key(self) -> Key:
        """The session's key in the queue."""
        return Key(self.namespace, self.name)

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted; what it stays for are its finalizers."""
        return self.deleted is not None

    @property
    def ref(self) -> SessionRef:
        """The session's identity."""
        return SessionRef(self.namespace, self.name, self.uid)

    def told(self, condition: str) -> Body | None:
        """Return a condition of the last written status by its type; None where there is none."""
        conditions: Iterable[Body] = self.status.get("conditions", ())
        return next((each for each in conditions if each["type"] == condition), None)


@dataclass(frozen=True)
class Profile:
    """An ``AnalysisProfile``."""

    name: str
    spec: ProfileSpec


@dataclass(frozen=True)
class Manifest:
    """One object that should exist, without the stamps that ``plan`` adds (namespace, labels, owner, hash).

    A `shared` one is the user's, not the session's: made once, owned by nobody, never changed and never deleted.
    One that is `kept` is made once, too, but owned by the session: it goes with it and not before.
    One that is `tried` is a pod that somebody else is to make and has not: the API server is asked in a dry run what it
    says of it, for who makes it is told so only in Events. What it refuses is remembered as of its `batch`.
    One that is `from_source` has the text of the session's files in it. Those of one `batch` are alike: a few are made
    at a time, and none any more once the API server has refused one of them.
    """

    body: Body
    shared: bool = False
    kept: bool = False
    from_source: bool = False
    batch: str = ""
    tried: bool = False

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
class Loan:
    """What somebody else makes, and objects of the session refer to by its name: a name says nothing of whose it is.

    Attributes
    ----------
    fits
        It is what it should be; where it is not nothing is made that refers to it, and its component's health says why.
    unread
        It must be looked at before anything is made, for no store has it: ``Observed.read`` will say what it is.
    """

    ref: ObjectRef
    fits: bool = True
    unread: bool = False


Lifetime = Literal["compute", "cache", "record"]
"""When a component's objects go: compute on suspend and on the end; cache on the end; record with the session."""
Audience = Literal["user", "worker"]
"""Whose pods a patch is for: those where the user's own program starts (run, notebook), or those that compute for it.

What only the first may have, such as a token, is never given to the second: a worker runs what anybody sends it."""


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
        Containers that run beside the user's. Each component that makes pods says how: native sidecars, but
        ordinary containers in a DaskWorkerGroup, whose CRD prunes the newer field.
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
    """``Succeeded``, ``LifetimeExceeded``, or why the run failed: ``Failed``, ``DeadlineExceeded``, ``OOMKilled``, or
    what its pod's status says (``Evicted``)."""
    message: str
    time: datetime


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
    condition: Condition | None = None
    """A condition beside ``<Component>Ready``; it has no say in whether the session is ready."""


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
    titles
        By component name, how conditions spell it; for every enabled component.
    health
        By component name, for every enabled component that has something to tell.
    server
        The component that JupyterHub is to show, and its server; None where there is none.
    registration
        How the session stands with JupyterHub; None where there is nothing to show, or no JupyterHub.
    report
        What components add to the status at its top level, e.g. ``{"run": {…}}``.
    finished
        How and when the session came to its end; None while it goes on.
    room
        Whether there is room for all that the session needs; None where it was never wanting.
    promised
        What it is about to make and others must leave room for, as quotas count it.
    log_wanted
        A log whose tail the pass must read before it can plan to the end.
    source_wanted
        Something is to be made of the text of the session's files.
    lent
        Objects of others that some of these refer to.
    unread
        The part of `lent` that the pass must look at before it can plan to the end.
    held
        The part of `lent` that nothing may refer to.
    questions
        By component, what to ask of its agent until the next pass.
    last_activity
        When the session was last used, as far as its components know; None where none of them can tell.
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
    titles: Mapping[str, str] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    server: tuple[str, HubServer] | None = None
    registration: Registration | None = None
    report: Body = field(default_factory=dict)
    finished: Finish | None = None
    room: Condition | None = None
    promised: Mapping[str, Decimal] = field(default_factory=dict)
    log_wanted: LogRequest | None = None
    source_wanted: bool = False
    lent: frozenset[ObjectRef] = frozenset()
    unread: tuple[ObjectRef, ...] = ()
    held: frozenset[ObjectRef] = frozenset()
    questions: Mapping[str, Question] = field(default_factory=dict)
    last_activity: datetime | None = None
    expired: bool = False
    look_again: datetime | None = None

    @property
    def changes_the_world(self) -> bool:
        """Whether anything is to be made, changed or deleted, beside the status."""
        return bool(self.apply or self.discard or self.delete or self.expired)
