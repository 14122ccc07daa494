"""The sessions as JupyterHub handles them: found by user and server, read from a watch, changed by few requests.

One of these serves the whole Hub.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from af_client import hub_names
from af_client.async_transport import AsyncTransport
from af_client.errors import ApiError, ClientError, NotFound
from af_client.model import API_VERSION, KIND, PLURAL, Session
from af_client.reflector import Body, Key, Reflector
from af_client.transport import Request

FIELD_MANAGER = "af-hub"
BASE = f"/apis/{API_VERSION}"
TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - the variable's name
TEST_FAILED = "the server rejected our request due to an error in our request"


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
        return self.namespace, self.name


class NotSuspended(ClientError):
    """Somebody else has resumed the session."""


class HubSessions:
    """Sessions and profiles.

    Parameters
    ----------
    namespaces
        To watch; every namespace if empty.
    """

    def __init__(self, transport: AsyncTransport, namespaces: Iterable[str] = ()) -> None:
        self._api = transport
        chosen = sorted(set(namespaces))
        self._by_namespace = {n: Reflector(transport, f"{BASE}/namespaces/{n}/{PLURAL}") for n in chosen}
        self._everywhere = None if chosen else Reflector(transport, f"{BASE}/{PLURAL}")
        self.profiles = Reflector(transport, f"{BASE}/analysisprofiles")

    # What is known, without a request.

    async def ready(self, seconds: float = 5.0) -> bool:
        """Start watching if need be; return whether what is known is fresh."""
        return all(await asyncio.gather(*(each.ready(seconds) for each in self._sessions())))

    @property
    def fresh(self) -> bool:
        """Whether what is known of the sessions is what is so."""
        return all(each.fresh for each in self._sessions())

    @property
    def failure(self) -> ClientError | None:
        """Why not."""
        return next((each.failure for each in self._sessions() if each.failure), None)

    def watches(self, namespace: str) -> bool:
        """Whether sessions of this namespace are seen."""
        return self._everywhere is not None or namespace in self._by_namespace

    def get(self, ref: Ref) -> Session | None:
        """Return this very session, or None."""
        body = self._of(ref.namespace).objects.get(ref.key)
        return Session.parse(body) if body and body["metadata"]["uid"] == ref.uid else None

    def find(self, user: str, server: str) -> Session | None:
        """Return the session that this server shows: of several the oldest, and one that has ended only in need."""
        bodies = [
            body
            for each in self._sessions()
            for body in each.objects.values()
            if body["spec"].get("user") == user
            and hub_names.server_name(body) == server
            and "deletionTimestamp" not in body["metadata"]
        ]
        sessions = [Session.parse(body) for body in bodies]
        return min(sessions, key=_age, default=None)

    async def changed(self, ref: Ref, seconds: float) -> None:
        """Wait for a change in the session's namespace, at most so long."""
        await self._of(ref.namespace).changed(seconds)

    async def news(self, seconds: float) -> None:
        """Wait for a change anywhere, at most so long."""
        waits = [asyncio.create_task(each.changed(seconds)) for each in self._sessions()]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def listen(self, listener: Callable[[Key], None]) -> None:
        """Call `listener` with namespace and name of each session that changes or goes."""
        for each in self._sessions():
            each.listen(listener)

    def ignore(self, listener: Callable[[Key], None]) -> None:
        """Call it no more."""
        for each in self._sessions():
            each.ignore(listener)

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

    async def write_environment(self, ref: Ref, environment: Mapping[str, str]) -> None:
        """Put the whole environment into the session's Secret; what was in it before is gone.

        Only while the session is suspended: a running server has what its Secret says.
        """
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": ref.name, "uid": ref.uid}
        name = hub_names.hub_secret(ref.name)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": ref.namespace, "ownerReferences": [owner]},
            "type": "Opaque",
            "data": {k: base64.b64encode(v.encode()).decode() for k, v in environment.items()},
        }
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        # Server-side apply: one request whether there is one or not, and it takes away what we no longer say.
        path = _secret(ref.namespace, name)
        await self._api.call(Request("PATCH", path, query, body, content_type="application/apply-patch+yaml"))

    async def token(self, ref: Ref) -> str | None:
        """Return the token with which the session's running server speaks to the Hub; None if it has none."""
        for name in (hub_names.hub_secret(ref.name), hub_names.notebook(ref.name)):
            try:
                secret = await self._api.call(Request("GET", _secret(ref.namespace, name)))
            except NotFound:
                continue
            # One that is left of an earlier session of this name goes any moment, and nobody runs with it.
            owners = [owner.get("uid") for owner in secret["metadata"].get("ownerReferences", [])]
            if ref.uid in owners:
                value = (secret.get("data") or {}).get(TOKEN, "")
                return base64.b64decode(value).decode() or None
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
        body = self._of(ref.namespace).objects.get(ref.key)
        if body and body["metadata"]["uid"] == ref.uid:
            self._of(ref.namespace).forget(body)

    async def close(self) -> None:
        """Stop watching."""
        for each in (*self._sessions(), self.profiles):
            await each.close()

    async def _patch(self, ref: Ref, patch: list[dict[str, Any]]) -> Session:
        request = Request(
            "PATCH", _path(ref), {"fieldManager": FIELD_MANAGER}, patch, content_type="application/json-patch+json"
        )
        return self._learn(await self._api.call(request))

    def _learn(self, body: Body) -> Session:
        self._of(body["metadata"]["namespace"]).learn(body)
        return Session.parse(body)

    def _sessions(self) -> list[Reflector]:
        return [self._everywhere] if self._everywhere else list(self._by_namespace.values())

    def _of(self, namespace: str) -> Reflector:
        return self._everywhere or self._by_namespace[namespace]


def _age(session: Session) -> tuple[bool, str, str, str]:
    # The operator chooses the same one to show.
    return session.ended, session.body["metadata"].get("creationTimestamp", ""), session.namespace, session.name


def _path(ref: Ref) -> str:
    return f"{BASE}/namespaces/{ref.namespace}/{PLURAL}/{ref.name}"


def _secret(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"


def _same(ref: Ref) -> list[dict[str, Any]]:
    return [{"op": "test", "path": "/metadata/uid", "value": ref.uid}]


def _set_suspend(value: bool) -> dict[str, Any]:
    return {"op": "add", "path": "/spec/suspend", "value": value}
