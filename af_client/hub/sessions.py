"""The sessions as JupyterHub handles them: found by user and server, read from a watch, changed by few requests.

One of these serves the whole Hub.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import af_names
from af_client.errors import ApiError, ClientError, Forbidden, NameTaken, NotFound
from af_client.hub import names
from af_client.hub.transport import AsyncTransport
from af_client.hub.watch import Watched
from af_client.model import API_VERSION, ENDED, KIND, PLURAL, Session
from af_kube.errors import TEST_FAILED
from af_kube.reflector import Source
from af_kube.request import JSON_PATCH, Request
from af_kube.store import Body, Change, Key

FIELD_MANAGER = "af-hub"
BASE = f"/apis/{API_VERSION}"
GROUP = API_VERSION.partition("/")[0]
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
EVERYBODY = "system:authenticated"
"""The group of all whom the API server knows. A user of the Hub is somebody who has logged in."""
TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True)
class Ref:
    """One session for good: not another one that has its name later."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, body: Body) -> Ref:
        """Return the reference to an object."""
        meta = body["metadata"]
        return cls(meta["namespace"], meta["name"], meta["uid"])

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return Key(self.namespace, self.name)


class NotSuspended(ClientError):
    """Somebody else has resumed the session."""


class NameConflict(ClientError):
    """Something that a session needs under its name is there already, and somebody else's."""


class HubSessions:
    """Sessions and profiles.

    Parameters
    ----------
    namespaces
        To watch; every namespace if empty.
    """

    def __init__(self, transport: AsyncTransport, namespaces: Iterable[str] = ()) -> None:
        self._api = transport
        self._namespaces = frozenset(namespaces)
        sources = [Source(f"{BASE}/{PLURAL}", namespace) for namespace in sorted(self._namespaces) or [""]]
        self._sessions = Watched(transport, sources, {"user": _user})
        self._store = self._sessions.store
        self.profiles = Watched(transport, [Source(f"{BASE}/analysisprofiles")])

    # What is known, without a request.

    async def ready(self, seconds: float = 5.0) -> bool:
        """Start watching if need be; return whether what is known is fresh."""
        return await self._sessions.ready(seconds)

    @property
    def fresh(self) -> bool:
        """Whether what is known of the sessions is what is so."""
        return self._sessions.fresh

    @property
    def failure(self) -> ClientError | None:
        """Why not."""
        return self._sessions.failure

    def watches(self, namespace: str) -> bool:
        """Whether sessions of this namespace are seen."""
        return not self._namespaces or namespace in self._namespaces

    def get(self, ref: Ref) -> Session | None:
        """Return this very session, or None."""
        body = self._store.get(ref.key)
        return Session.parse(body) if body and self._store.uid(ref.key) == ref.uid else None

    def find(self, user: str, server: str) -> Session | None:
        """Return the session that this server shows: of several the oldest, and one that has ended only in need."""
        bodies = [
            body
            for body in self._store.by("user", user)
            if names.server_name(body) == server and "deletionTimestamp" not in body["metadata"]
        ]
        sessions = [Session.parse(body) for body in bodies]
        return min(sessions, key=_order, default=None)

    async def changed(self, seconds: float) -> None:
        """Wait for a change of any session, at most so long."""
        await self._store.changed(seconds)

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with each change of a session."""
        self._store.listen(listener)

    def ignore(self, listener: Callable[[Change], None]) -> None:
        """Call it no more."""
        self._store.ignore(listener)

    # Requests. Each raises a ``ClientError``.

    async def create(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Session:
        """Create a session."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": namespace, "name": name},
            "spec": dict(spec),
        }
        path = f"{BASE}/namespaces/{namespace}/{PLURAL}"
        query = {"fieldValidation": "Strict", "fieldManager": FIELD_MANAGER}
        return self._learn(await self._api.call(Request("POST", path, query, body)))

    async def read(self, namespace: str, name: str) -> Session:
        """Return a session as it is: for one that the watch has not told of yet."""
        return self._learn(await self._api.call(Request("GET", _path(Ref(namespace, name, "")))))

    async def may_use(self, profile: str, user: str, groups: Iterable[str], namespace: str) -> bool:
        """Return whether the API server would let a user of this name, in these groups, `use` a profile there."""
        # A group of Kubernetes' own is given by the API server alone, whatever an identity provider calls its groups.
        named = [group for group in groups if not group.startswith("system:")]
        resource = {"group": GROUP, "resource": "analysisprofiles", "name": profile, "namespace": namespace}
        spec = {"user": user, "groups": [*named, EVERYBODY], "resourceAttributes": {**resource, "verb": "use"}}
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        answer = await self._api.call(Request("POST", REVIEWS, body={**kind, "spec": spec}))
        return bool(answer["status"]["allowed"])

    async def write_environment(self, ref: Ref, environment: Mapping[str, str]) -> None:
        """Put the whole environment into the session's Secret; what was in it before is gone.

        Only while the session is suspended: a running server has what its Secret says.

        Raises
        ------
        NameConflict
            A Secret of this name is there, and not the session's: it is neither read nor changed.
        """
        name = af_names.hub_secret(ref.name)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": ref.namespace,
                "labels": {af_names.SESSION_UID: ref.uid},
                "ownerReferences": [_owner(ref)],
            },
            "type": "Opaque",
            "data": {k: base64.b64encode(v.encode()).decode() for k, v in environment.items()},
        }
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        request = Request("POST", f"/api/v1/namespaces/{ref.namespace}/secrets", query, body)
        try:
            await self._api.call(request)
        except NameTaken:
            await self._delete_environment(ref)
            try:
                await self._api.call(request)
            except NameTaken as error:  # on its way out, and somebody's finalizer holds it
                raise _not_its_own(ref) from error

    async def _delete_environment(self, ref: Ref) -> None:
        """Delete the Secret of an earlier start. It is not changed: a right to patch Secrets shows what is in all."""
        with suppress(NotFound):
            try:
                await self._api.call(Request("DELETE", _secret(ref.namespace, af_names.hub_secret(ref.name))))
            except Forbidden as error:
                if "denied request" not in error.said:
                    raise  # a right is missing, whatever the name
                raise _not_its_own(ref) from error  # says the policy that knows a session's by its label

    async def token(self, ref: Ref) -> str | None:
        """Return the token with which the session's running server speaks to the Hub; None if it has none.

        Raises
        ------
        Forbidden
            The session's Role lets the Hub read nothing of it, or not yet.
        """
        # Its Role names the Secret that we write only where the server was begun with that: not for one of kubectl's.
        with suppress(Forbidden):
            if token := await self._token_in(af_names.hub_secret(ref.name), ref):
                return token
        return await self._token_in(af_names.notebook(ref.name), ref)

    async def _token_in(self, name: str, ref: Ref) -> str | None:
        with suppress(NotFound):
            secret = await self._api.call(Request("GET", _secret(ref.namespace, name)))
            value = (secret.get("data") or {}).get(TOKEN)
            if value and _belongs(secret, ref):
                return base64.b64decode(value).decode()
        return None

    async def resume(self, ref: Ref) -> Session:
        """Let a suspended session run.

        Raises
        ------
        NotSuspended
            It runs already: by somebody who had not our environment.
        """
        patch = [*_same(ref), {"op": "test", "path": "/spec/suspend", "value": True}, _set_suspend(False)]
        try:
            return await self._patch(ref, patch)
        except ApiError as error:
            if TEST_FAILED in str(error):
                raise NotSuspended("the session was resumed by somebody else at the same moment: try again") from error
            raise

    async def suspend(self, ref: Ref) -> Session:
        """Let the session's compute go."""
        return await self._patch(ref, [*_same(ref), _set_suspend(True)])

    async def delete(self, ref: Ref) -> None:
        """Delete this very session, and by the cluster's garbage collection all that it made."""
        options = {"preconditions": {"uid": ref.uid}, "propagationPolicy": "Background"}
        with suppress(NotFound):
            await self._api.call(Request("DELETE", _path(ref), body=options))
        self.lost(ref)

    def lost(self, ref: Ref) -> None:
        """Take note that a request has found the session gone."""
        body = self._store.get(ref.key)
        if body is not None and self._store.uid(ref.key) == ref.uid:
            self._store.forget(body)

    async def close(self) -> None:
        """Stop watching."""
        for each in (self._sessions, self.profiles):
            await each.close()

    async def _patch(self, ref: Ref, patch: list[dict[str, Any]]) -> Session:
        request = Request("PATCH", _path(ref), {"fieldManager": FIELD_MANAGER}, patch, JSON_PATCH)
        return self._learn(await self._api.call(request))

    def _learn(self, body: Body) -> Session:
        self._store.put(body)
        return Session.parse(body)


def _user(body: Body) -> str | None:
    user: str | None = (body.get("spec") or {}).get("user")
    return user


def _order(session: Session) -> tuple[bool, str, str, str]:
    # The operator has the same order, or each would show another one: by what the status says, whatever spec it is of.
    phase = (session.body.get("status") or {}).get("phase")
    return phase in ENDED, session.body["metadata"].get("creationTimestamp", ""), session.namespace, session.name


def _not_its_own(ref: Ref) -> NameConflict:
    return NameConflict(f"Secret {af_names.hub_secret(ref.name)} is not this session's")


def _path(ref: Ref) -> str:
    return f"{BASE}/namespaces/{ref.namespace}/{PLURAL}/{ref.name}"


def _secret(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"


def _owner(ref: Ref) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": KIND, "name": ref.name, "uid": ref.uid, "controller": True}


def _belongs(secret: Body, ref: Ref) -> bool:
    """Return whether a Secret is this session's: what its server runs with, and not what others have laid there.

    Anybody may name an owner, and one that is left of an earlier session of this name goes any moment. The label can be
    set by the operators and the Hub alone.
    """
    meta = secret["metadata"]
    owners = [owner.get("uid") for owner in meta.get("ownerReferences", [])]
    return ref.uid in owners and (meta.get("labels") or {}).get(af_names.SESSION_UID) == ref.uid


def _same(ref: Ref) -> list[dict[str, Any]]:
    return [{"op": "test", "path": "/metadata/uid", "value": ref.uid}]


def _set_suspend(value: bool) -> dict[str, Any]:
    return {"op": "add", "path": "/spec/suspend", "value": value}
