"""The world as a pass sees it: a store for each kind that is watched, read without a request.

The stores are filled by watches and by the server's answers to our own writes, whichever is newer: without the second,
a pass that follows a write at once would see the old world and write again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from af_kube.packing import Packing
from af_kube.store import Change, Store, key_of
from af_operator import names, ownership
from af_operator.api import API_VERSION, ProfileSpec, SessionSpec
from af_operator.capacity import Node, extended_of, parse_node
from af_operator.components import Components, child_kinds, shared_kinds
from af_operator.model import POD, Body, Key, Kind, Profile, Session
from af_operator.observed import Observed
from af_operator.views import ClusterNetwork, HubServer

SESSION = Kind(API_VERSION, "AnalysisSession", "analysissessions")
PROFILE = Kind(API_VERSION, "AnalysisProfile", "analysisprofiles")
NODE = Kind("v1", "Node", "nodes")
QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
ENDED = ("Succeeded", "Failed", "Refused")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which kubectl keeps an object's whole text once more."""
TEXT_BYTES = 64 * 1024**2
"""Texts of sources that are held, packed, until their ConfigMaps are there: beyond that they are read again."""


def trim(body: Body) -> dict[str, Any]:
    """Return an object without what no pass needs: of managedFields stays who, and what cannot change has no text."""
    metadata = dict(body["metadata"])
    metadata["managedFields"] = ownership.our_entries(body)
    if LAST_APPLIED in metadata.get("annotations", {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED}
    trimmed = {**body, "metadata": metadata}
    if body.get("immutable") and "data" in body:
        trimmed["data"] = dict.fromkeys(body["data"], "")
    return trimmed


def trim_session(body: Body) -> dict[str, Any]:
    """Return a session without the text of its files, which is in a ConfigMap of its own."""
    trimmed = trim(body)
    del trimmed["metadata"]["managedFields"]
    return _with_files(trimmed, dict.fromkeys(_files(body), "")) if _files(body) else trimmed


def parse_session(body: Body, *, trimmed: bool = False) -> Session:
    """Return the value of an AnalysisSession; raises pydantic's ValidationError if the schema let something by."""
    metadata = body["metadata"]
    return Session(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        spec=SessionSpec.model_validate(body["spec"]),
        status=body.get("status", {}),
        deleted=_time(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers", ())),
        trimmed=trimmed,
    )


class Mark(NamedTuple):
    """What children of one session have in common."""

    namespace: str
    uid: str


class World:
    """Snapshots for passes.

    Parameters
    ----------
    components
        Whose kinds are watched.
    network
        The facility's network, as its admin has said it; the one thing here that never changes.

    Attributes
    ----------
    sessions, profiles, nodes, quotas
        A store each.
    children, shared
        By kind: what carries a session's label, and what carries a user's.
    unseen
        Says what of all this is not kept up to date for too long, or None: by what may be long past nothing is made or
        deleted.
    """

    def __init__(self, components: Components, network: ClusterNetwork | None = None) -> None:
        self.network = network
        self.sessions = _packed(
            trim_session,
            uid=lambda body: body["metadata"]["uid"],
            phase=lambda body: body.get("status", {}).get("phase", "Pending"),
            profile=lambda body: body["spec"].get("profile"),
            without_room=lambda body: body["metadata"]["namespace"] if _waits_for_room(body) else None,
            user=lambda body: (body["metadata"]["namespace"], names.label_value(body["spec"].get("user", ""))),
            notebook=lambda body: body["spec"].get("user") if body["spec"].get("notebook") is not None else None,
        )
        self.profiles = _packed(trim)
        self.nodes: Store[Node] = Store(parse_node)
        self.quotas = _packed(trim, namespace=lambda body: body["metadata"]["namespace"])
        self.children = {
            kind: _packed(trim, session=_session_of, extended=_extended) for kind in {*child_kinds(components), POD}
        }
        self.shared = {kind: _packed(trim, user=_user_of) for kind in shared_kinds(components)}
        self.unseen: Callable[[], str | None] = lambda: None
        self._terminating: set[str] = set()
        self._texts: dict[str, bytes] = {}
        self._text_bytes = 0
        own: dict[Kind, Store[Any]] = {SESSION: self.sessions, PROFILE: self.profiles}
        self._by_kind = {kind[:2]: store for kind, store in (own | self.children).items()}
        self._shared_by_kind = {kind[:2]: store for kind, store in self.shared.items()}
        for store in [*self._by_kind.values(), *self._shared_by_kind.values()]:
            store.listen(self._changed)

    @property
    def kinds(self) -> list[Kind]:
        """Every kind that there is a store for, but nodes."""
        return [SESSION, PROFILE, *sorted(self.children), *sorted(self.shared)]

    # Sessions and profiles.

    def session(self, key: Key) -> Session | None:
        """Return a session, or None when it is gone."""
        body = self.session_body(key)
        if body is None:
            return None
        text = self._texts.get(body["metadata"]["uid"])
        full = body if text is None else _with_files(body, json.loads(zlib.decompress(text)))
        return parse_session(full, trimmed=text is None and bool(_files(body)))

    def session_body(self, key: Key) -> Body | None:
        """Return a session as the API server sent it, but for the text of its files."""
        return self.sessions.get(key)

    def learn_session(self, body: Body) -> bool:
        """Take over a session as the API server sent it; return whether that was news."""
        files, uid = _files(body), body["metadata"]["uid"]
        news = self.sessions.put(body)
        if news and files and uid not in self._texts and self._text_bytes < TEXT_BYTES:
            self._texts[uid] = zlib.compress(json.dumps(files).encode(), 1)
            self._text_bytes += len(self._texts[uid])
        return news

    def text_is_kept(self, session: Session) -> None:
        """Let go of the text of a session's files: its ConfigMap is there."""
        self._let_go(session.uid)

    def key_of_uid(self, uid: str) -> Key | None:
        """Return the key of the session that has this uid."""
        return next(iter(self.sessions.keys("uid", uid)), None)

    def sessions_of_profile(self, name: str) -> list[Key]:
        """Return the sessions that choose from a profile."""
        return self.sessions.keys("profile", name)

    def sessions_without_room(self, namespace: str) -> list[Key]:
        """Return the sessions in a namespace that wait for room."""
        return self.sessions.keys("without_room", namespace)

    def sessions_of_user(self, namespace: str, label: str) -> list[Key]:
        """Return the sessions in a namespace of the users with this label value."""
        return self.sessions.keys("user", (namespace, label))

    def notebooks(self, users: Iterable[str] | None = None) -> list[Key]:
        """Return the sessions with a notebook, of these users or of all."""
        chosen = self.sessions.counts("notebook") if users is None else users
        return [key for user in chosen for key in self.sessions.keys("notebook", user)]

    def sessions_of(self, server: HubServer) -> list[Session]:
        """Return the sessions that JupyterHub can show as this server; it shows the first."""
        sessions = (self._readable(key) for key in self.notebooks([server.user]))
        return sorted(
            (s for s in sessions if s and not s.deleting and names.hub_server(s) == server.server), key=_hub_order
        )

    def runs(self, server: HubServer) -> bool:
        """Return whether the session that JupyterHub shows as this server is neither suspended nor over."""
        shown = self.sessions_of(server)[:1]
        return any(not s.spec.suspend and s.status.get("phase") not in ENDED for s in shown)

    def namesake(self, session: Session) -> Key | None:
        """Return the other session that JupyterHub shows where it could show this one."""
        if session.spec.notebook is None:
            return None
        first = next(iter(self.sessions_of(HubServer(session.spec.user, names.hub_server(session)))), session)
        return None if first.uid == session.uid else first.key

    def phases(self) -> dict[str, int]:
        """Return how many sessions there are in each phase."""
        return {str(phase): number for phase, number in self.sessions.counts("phase").items()}

    def profile(self, name: str) -> Profile | None:
        """Return a profile, or None."""
        body = self.profile_body(name)
        return Profile(name, ProfileSpec.model_validate(body["spec"])) if body else None

    def profile_body(self, name: str) -> Body | None:
        """Return a profile as the API server sent it."""
        return self.profiles.get(Key("", name))

    def profile_names(self) -> list[str]:
        """Return all profiles."""
        return [key.name for key in self.profiles]

    # What there is beside them.

    def all_nodes(self) -> list[Node]:
        """Return all nodes."""
        return [node for key in self.nodes if (node := self.nodes.get(key)) is not None]

    def gpu_pods(self) -> Iterator[Body]:
        """Yield the pods of all sessions that ask for extended resources."""
        return self.children[POD].by("extended", True)

    def observed(self, session: Session) -> Observed:
        """Return what is the session's and what is its user's, as of the newest that watch and writes know."""
        mark, user = Mark(session.namespace, session.uid), (session.namespace, names.label_value(session.spec.user))
        shared = [body for store in self.shared.values() for body in store.by("user", user)]
        return Observed(
            children=tuple(self.children_of(mark)),
            shared=tuple(map(self._marked_terminating, sorted(shared, key=_by_kind_and_name))),
            network=self.network,
            gpus_free=self._gpus_free(session.spec.profile),
            quotas=tuple(self.quotas.by("namespace", session.namespace)),
        )

    def ownerless(self) -> set[Mark]:
        """Return the sessions that there are not, and of which there are children."""
        there = self.sessions.counts("uid")
        marks = {mark for store in self.children.values() for mark in store.counts("session")}
        return {mark for mark in marks if isinstance(mark, Mark) and mark.uid not in there}

    def children_of(self, mark: Mark) -> list[Body]:
        """Return what has this mark."""
        bodies = (body for store in self.children.values() for body in store.by("session", mark))
        return [*map(self._marked_terminating, sorted(bodies, key=_by_kind_and_name))]

    # Our own writes.

    def wrote(self, body: Body) -> None:
        """Take over the server's answer to a write of ours: the watch may tell of it later."""
        if body["kind"] == SESSION.kind:
            self.learn_session(body)
        else:
            self.store_of(body).put(body)

    def deleted(self, body: Body) -> None:
        """Remember that we deleted this very object (by uid) until the watch says so."""
        if self.store_of(body).uid(key_of(body)) == body["metadata"]["uid"]:  # else it has said so already
            self._terminating.add(body["metadata"]["uid"])

    def store_of(self, body: Body) -> Store[Any]:
        """Return the store that an object of this kind is in; raises KeyError for a kind that nobody watches."""
        kind = (body["apiVersion"], body["kind"])
        # Of one kind some are a user's and others a session's: volume claims.
        is_shared = kind in self._shared_by_kind and _user_of(body) is not None
        return self._shared_by_kind[kind] if is_shared else self._by_kind[kind]

    def _changed(self, change: Change) -> None:
        if change.gone:
            self._terminating.discard(change.uid)
            self._let_go(change.uid)

    def _let_go(self, uid: str) -> None:
        self._text_bytes -= len(self._texts.pop(uid, b""))

    def _marked_terminating(self, body: Body) -> Body:
        # Not hidden: until it is really gone its name is taken, and applying to it would be lost.
        if body["metadata"]["uid"] not in self._terminating:
            return body
        return {**body, "metadata": {"deletionTimestamp": "", **body["metadata"]}}

    def _readable(self, key: Key) -> Session | None:
        with suppress(ValidationError):  # its own pass says so
            return self.session(key)
        return None

    def _gpus_free(self, profile: str) -> dict[str, int]:
        status = (self.profile_body(profile) or {}).get("status", {})
        return {pool["name"]: pool["gpusFree"] for pool in status.get("nodePools", ())}


def with_text(session: Session, body: Body) -> Session:
    """Return the session with the text of its files, from a body that has it."""
    return replace(session, spec=SessionSpec.model_validate(body["spec"]), trimmed=False)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _packed(keep: Callable[[Body], Body], **indexes: Callable[[Body], Any]) -> Store[Body]:
    packing = Packing()
    return Store(lambda body: packing.pack(keep(body)), packing.unpack, indexes)


def _session_of(body: Body) -> Mark | None:
    uid = body["metadata"].get("labels", {}).get(names.SESSION_UID)
    return Mark(body["metadata"].get("namespace", ""), uid) if uid else None


def _waits_for_room(session: Body) -> bool:
    conditions = (session.get("status") or {}).get("conditions", ())
    return any(c["type"] == names.HAS_ROOM and c["status"] == "False" for c in conditions)


def _user_of(body: Body) -> tuple[str, str] | None:
    label = body["metadata"].get("labels", {}).get(names.USER)
    return (body["metadata"].get("namespace", ""), label) if label is not None else None


def _extended(body: Body) -> bool | None:
    return True if body["kind"] == POD.kind and extended_of(body) else None


def _files(session: Body) -> Mapping[str, str]:
    run = session["spec"].get("run") or {}
    return (run.get("source") or {}).get("files") or {}


def _with_files(session: Body, files: Mapping[str, str]) -> dict[str, Any]:
    spec = session["spec"]
    source = {**spec["run"]["source"], "files": dict(files)}
    return {**session, "spec": {**spec, "run": {**spec["run"], "source": source}}}


def _hub_order(session: Session) -> tuple[bool, datetime, Key]:
    # The spawner has the same order, by the same words of the status. What has ended gives its name to what has not.
    return session.status.get("phase") in ENDED, session.created, session.key


def _by_kind_and_name(body: Body) -> tuple[str, str]:
    return body["kind"], body["metadata"]["name"]
