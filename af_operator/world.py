"""The world as a pass sees it: kopf's indexes, and our own writes that the watch has not echoed yet.

Without the second part a pass that follows a write at once would see the old world and write again.
Nothing here reads the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from af_operator import names
from af_operator.api import ProfileSpec, SessionSpec
from af_operator.capacity import Node
from af_operator.model import POD, Body, Key, Observed, Profile, Session
from af_operator.views import HubServer

ENDED = ("Succeeded", "Failed", "Refused")
ObjectKey = tuple[str, str, str]
"""(kind, namespace, name)"""


Index = Mapping[Any, Iterable[Any]]
"""The part of ``kopf.Index`` that is used: key to the bodies stored under it."""


def trim(body: Body) -> dict[str, Any]:
    """Return an object without what no pass needs: of managedFields only who applied."""
    metadata = dict(body["metadata"])
    metadata["managedFields"] = [
        {"manager": f.get("manager"), "operation": f.get("operation")}
        for f in metadata.get("managedFields", ())
        if f.get("manager") == names.MANAGER and f.get("operation") == "Apply"
    ]
    return {**body, "metadata": metadata}


def parse_session(body: Body) -> Session:
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
        deleting="deletionTimestamp" in metadata,
    )


class World:
    """Snapshots for passes.

    Parameters
    ----------
    sessions
        ``Key`` to the session's body.
    profiles
        Name to the profile's body.
    children
        Session uid to the bodies of all objects that carry it as a label.
    nodes
        Name to the ``Node``.
    shared
        (namespace, label value of a user) to the bodies of what outlives that user's sessions.
    """

    def __init__(self, sessions: Index, profiles: Index, children: Index, nodes: Index, shared: Index) -> None:
        self._sessions = sessions
        self._profiles = profiles
        self._children = children
        self._nodes = nodes
        self._shared = shared
        self._written: dict[ObjectKey, Body] = {}
        self._deleted: dict[ObjectKey, str] = {}

    def session(self, key: Key) -> Session | None:
        """Return a session, or None when it is gone."""
        body = self.session_body(key)
        return parse_session(body) if body else None

    def session_body(self, key: Key) -> Body | None:
        """Return a session as the API server sent it."""
        body = _first(self._sessions, key)
        return self._newest(body) if body else None

    def sessions_of_profile(self, name: str) -> list[Key]:
        """Return the sessions that choose from a profile."""
        return [k for k in self._sessions if (_first(self._sessions, k) or {}).get("spec", {}).get("profile") == name]

    def sessions_of_user(self, namespace: str, label: str) -> list[Key]:
        """Return the sessions in a namespace of the users with this label value."""
        specs = ((k, (_first(self._sessions, k) or {}).get("spec", {})) for k in self._sessions)
        return [k for k, s in specs if k.namespace == namespace and names.label_value(s.get("user", "")) == label]

    def notebooks(self, users: frozenset[str] | None = None) -> list[Key]:
        """Return the sessions with a notebook, of these users or of all."""
        specs = ((k, (_first(self._sessions, k) or {}).get("spec", {})) for k in self._sessions)
        return [k for k, s in specs if s.get("notebook") is not None and (users is None or s.get("user") in users)]

    def sessions_of(self, server: HubServer) -> list[Session]:
        """Return the sessions that JupyterHub can show as this server; it shows the first."""
        found = (self._readable(k) for k in self.notebooks(frozenset({server.user})))
        return sorted((s for s in found if s and not s.deleting and names.hub_server(s) == server.server), key=_age)

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

    def _readable(self, key: Key) -> Session | None:
        with suppress(ValidationError):  # its own pass says so
            return self.session(key)
        return None

    def session_keys(self) -> list[Key]:
        """Return all sessions."""
        return list(self._sessions)

    def profile(self, name: str) -> Profile | None:
        """Return a profile, or None."""
        body = self.profile_body(name)
        return Profile(name, ProfileSpec.model_validate(body["spec"])) if body else None

    def profile_body(self, name: str) -> Body | None:
        """Return a profile as the API server sent it."""
        body = _first(self._profiles, name)
        return self._newest(body) if body else None

    def profile_names(self) -> list[str]:
        """Return all profiles."""
        return list(self._profiles)

    def node(self, name: str) -> Node | None:
        """Return a node, or None."""
        return next(iter(self._nodes.get(name, ())), None)

    def nodes(self) -> list[Node]:
        """Return all nodes."""
        return [node for name in self._nodes for node in self._nodes[name]]

    def session_pods(self) -> Iterator[Body]:
        """Yield the pods of all sessions."""
        return (b for uid in self._children for b in self._children[uid] if b["kind"] == POD.kind)

    def observed(self, session: Session) -> Observed:
        """Return what is the session's and what is its user's, as of the newest that watch and writes know."""
        user = names.label_value(session.spec.user)
        children = self._merged(self._children.get(session.uid, ()), {names.SESSION_UID: session.uid})
        shared = self._merged(self._shared.get((session.namespace, user), ()), {names.USER: user})
        here = (body for body in shared if body["metadata"]["namespace"] == session.namespace)
        free = self._gpus_free(session.spec.profile)
        return Observed(children=tuple(children), shared=tuple(here), gpus_free=free)

    def _gpus_free(self, profile: str) -> dict[str, int]:
        status = (self.profile_body(profile) or {}).get("status", {})
        return {pool["name"]: pool["gpusFree"] for pool in status.get("nodePools", ())}

    def _merged(self, bodies: Iterable[Body], label: Mapping[str, str]) -> Iterator[Body]:
        """Yield the bodies and what we wrote with this label, by kind and name."""
        seen = {_key(b): self._newest(b) for b in bodies}
        mine = {k: b for k, b in self._written.items() if label.items() <= b["metadata"].get("labels", {}).items()}
        for key, body in sorted((mine | seen).items()):
            yield _terminating(body) if self._deleted.get(key) == body["metadata"]["uid"] else body

    def wrote(self, body: Body) -> None:
        """Remember the server's answer to a write of ours until the watch has caught up."""
        self._written[_key(body)] = trim(body)

    def deleted(self, body: Body) -> None:
        """Remember that we deleted this very object (by uid) until the watch says so."""
        self._deleted[_key(body)] = body["metadata"]["uid"]

    def saw(self, event: str | None, body: Body) -> None:
        """Take note of a watch event: what it tells, we need not remember."""
        key = _key(body)
        if event == "DELETED":
            self._deleted.pop(key, None)
            if self._written.get(key, {}).get("metadata", {}).get("uid") == body["metadata"]["uid"]:
                del self._written[key]
        elif key in self._written and not _newer(self._written[key], body):
            del self._written[key]

    def _newest(self, seen: Body) -> Body:
        written = self._written.get(_key(seen))
        return written if written is not None and _newer(written, seen) else seen


def _age(session: Session) -> tuple[bool, datetime, Key]:
    # The spawner has the same order. What has ended gives its name to what has not.
    return session.status.get("phase") in ENDED, session.created, session.key


def _key(body: Body) -> ObjectKey:
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


def _first(index: Index, key: Any) -> Body | None:
    return next(iter(index.get(key, ())), None)


def _terminating(body: Body) -> Body:
    # Not hidden: until it is really gone its name is taken, and applying to it would be lost.
    return {**body, "metadata": {"deletionTimestamp": "", **body["metadata"]}}


def _newer(one: Body, other: Body) -> bool:
    # Resource versions of one object are ordered integers on every server we support (KEP-5504).
    return int(one["metadata"]["resourceVersion"]) > int(other["metadata"]["resourceVersion"])
