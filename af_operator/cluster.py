"""The port to the API server, and its adapter on af_kube: the one place that writes, and that maps errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from prometheus_client import Counter

from af_kube.connection import Transport
from af_kube.errors import TEST_FAILED, Expired, HttpError, KubeError
from af_kube.request import APPLY_PATCH, JSON, JSON_PATCH, MERGE_PATCH, Request, api_path
from af_operator import names, ownership
from af_operator.api import GROUP, VERSION
from af_operator.errors import ClusterError, Gone, NameConflict, OurBug, Refused, Unavailable
from af_operator.model import SECRET, Body, Kind, LogRequest, Notice, ObjectRef, SessionRef

REQUESTS = Counter("af_operator_api_requests", "Requests of passes to the API server", ["verb", "kind", "code"])
TIMEOUT = 30.0
AT_ONCE = 50
"""Requests of this process at the same time: more of them make no server of any size answer sooner."""
MAX_LOG_BYTES = 262_144
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""An object without what is in it: whose a Secret is can be asked without reading it."""
STRICT = {"fieldManager": names.MANAGER, "fieldValidation": "Strict"}


class Cluster(Protocol):
    """What a pass may do. Every method raises the errors of ``errors.py`` and nothing else."""

    async def create(self, body: Body) -> Body:
        """Make an object; its name must be free. Returns the stored object.

        What is there already, made by the operator for the same session or user, is returned as it is: an answer was
        lost, or another session of the user has just made it.
        """

    async def try_out(self, body: Body) -> None:
        """Ask what the API server would say to an object, and make none."""

    async def apply(self, body: Body) -> Body:
        """Server-side apply to this very object (by uid). Returns the stored object."""

    async def overwrite(self, body: Body) -> Body:
        """Set what the body says in this very object (by uid), lists as a whole. Returns the stored object."""

    async def delete(self, body: Body) -> None:
        """Delete this very object (by uid; a Secret by its version too), its dependents in the background."""

    async def delete_session(self, session: SessionRef) -> None:
        """Delete a session that has outlived its TTL."""

    async def write_status(self, session: SessionRef, status: Mapping[str, Any]) -> Body:
        """Replace the session's status. Returns the stored object."""

    async def write_profile_status(self, name: str, uid: str, status: Mapping[str, Any]) -> Body:
        """Replace the status of this very profile. Returns the stored object."""

    async def read_session(self, session: SessionRef) -> Body:
        """Return this very session, with all its text."""

    async def read_metadata(self, namespace: str, ref: ObjectRef) -> Body | None:
        """Return what there is of this name, without what is in it; None where there is nothing."""

    async def read_log(self, session: SessionRef, request: LogRequest) -> str:
        """Return the last lines of a container's log."""

    async def record(self, session: SessionRef, notice: Notice) -> None:
        """Record a Kubernetes Event about the session."""


class KubernetesCluster:
    """``Cluster`` over the network.

    Parameters
    ----------
    api
        A connection to it.
    kinds
        Those of which it may make objects.
    fence
        Returns the seconds in which this process may write; raises when it must not (the Lease was lost).
    """

    def __init__(self, api: Transport, kinds: Iterable[Kind], fence: Callable[[], float] = lambda: TIMEOUT) -> None:
        self._api = api
        self._fence = fence
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._plurals = {kind.kind: kind for kind in kinds}

    async def create(self, body: Body) -> Body:
        """See ``Cluster.create``."""
        try:
            return await self._request_json("POST", self._collection(body), STRICT, body)
        except _NameTaken:
            stored = await self._read_stored(body)
        if ownership.same_owner(stored, body):
            return stored
        raise NameConflict(_conflict(body))

    async def try_out(self, body: Body) -> None:
        """See ``Cluster.try_out``."""
        with suppress(_NameTaken):
            await self._request_json("POST", self._collection(body), STRICT | {"dryRun": "All"}, body)

    async def apply(self, body: Body) -> Body:
        """See ``Cluster.apply``."""
        return await self._change(body, STRICT | {"force": "true"}, APPLY_PATCH)

    async def overwrite(self, body: Body) -> Body:
        """See ``Cluster.overwrite``."""
        return await self._change(body, STRICT, MERGE_PATCH)

    async def delete(self, body: Body) -> None:
        """See ``Cluster.delete``."""
        # A Secret that was written anew since is for somebody who waits for it: it has its name and its uid, too.
        known = ("uid", "resourceVersion") if body["kind"] == SECRET.kind else ("uid",)
        preconditions = {key: body["metadata"][key] for key in known}
        await self._delete(self._path(body), {"preconditions": preconditions, "propagationPolicy": "Background"})

    async def delete_session(self, session: SessionRef) -> None:
        """See ``Cluster.delete_session``."""
        options = {"preconditions": {"uid": session.uid}, "propagationPolicy": "Background"}
        await self._delete(_session_path(session), options)

    async def write_status(self, session: SessionRef, status: Mapping[str, Any]) -> Body:
        """See ``Cluster.write_status``."""
        return await self._replace_status(_session_path(session), session.uid, status)

    async def write_profile_status(self, name: str, uid: str, status: Mapping[str, Any]) -> Body:
        """See ``Cluster.write_profile_status``."""
        return await self._replace_status(f"/apis/{GROUP}/{VERSION}/analysisprofiles/{name}", uid, status)

    async def read_session(self, session: SessionRef) -> Body:
        """See ``Cluster.read_session``."""
        stored = await self._request_json("GET", _session_path(session), {})
        if stored["metadata"]["uid"] != session.uid:
            raise Gone("another session has this name now")
        return stored

    async def read_metadata(self, namespace: str, ref: ObjectRef) -> Body | None:
        """See ``Cluster.read_metadata``."""
        kind = self._plurals[ref.kind]
        path = f"{api_path(kind.api_version)}/namespaces/{namespace}/{kind.plural}/{ref.name}"
        try:
            return await self._request_json("GET", path, {}, content=METADATA)
        except Gone:
            return None

    async def read_log(self, session: SessionRef, request: LogRequest) -> str:
        """See ``Cluster.read_log``."""
        path = f"/api/v1/namespaces/{session.namespace}/pods/{request.pod}/log"
        # Not limitBytes: of the last lines that keeps the first, and how it ended is in the last.
        query = {"container": request.container, "tailLines": str(request.lines)}
        return (await self._request("GET", path, query, content="*/*")).decode(errors="replace")

    async def record(self, session: SessionRef, notice: Notice) -> None:
        """See ``Cluster.record``."""
        regarding = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "AnalysisSession",
            "name": session.name,
            "namespace": session.namespace,
            "uid": session.uid,
        }
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{session.name}-", "namespace": session.namespace},
            "eventTime": micro_now(),
            "type": notice.kind,
            "reason": notice.reason,
            "note": notice.message[:1000],
            "action": "Reconcile",
            "regarding": regarding,
            "reportingController": f"{GROUP}/{names.MANAGER}",
            "reportingInstance": names.MANAGER,
        }
        await self._request_json("POST", f"/apis/events.k8s.io/v1/namespaces/{session.namespace}/events", {}, event)

    async def missing(self, kinds: Collection[Kind]) -> list[str]:
        """Return the kinds, as plural.group/version, that the API server does not know."""
        served: dict[str, set[str]] = {}
        for version in {k.api_version for k in kinds}:
            try:
                answer = await self._request_json("GET", api_path(version), {})
            except Gone:
                answer = {"resources": []}
            served[version] = {r["name"] for r in answer["resources"]}
        return sorted(f"{k.plural}.{k.api_version}" for k in kinds if k.plural not in served[k.api_version])

    async def _change(self, body: Body, query: Mapping[str, str], content: str) -> Body:
        try:
            return await self._request_json("PATCH", self._path(body), query, body, content)
        except Refused as error:
            if "metadata.uid" in str(error):  # another object has the name by now: the next pass will see it
                raise Unavailable(str(error)) from error
            raise

    async def _read_stored(self, body: Body) -> Body:
        # Only where a name is taken, which is rare: nothing is read before it is made.
        try:
            return await self._request_json("GET", self._path(body), {})
        except Gone as error:
            raise Unavailable(f"{body['kind']} {body['metadata']['name']} came and went") from error

    async def _replace_status(self, path: str, uid: str, status: Mapping[str, Any]) -> Body:
        # Whole, and only of this very object: one that came later under the same name has another status.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            return await self._request_json(
                "PATCH", f"{path}/status", {"fieldManager": names.MANAGER}, patch, JSON_PATCH
            )
        except Refused as error:
            # A failed test is a 422 that names nothing; one about the schema names the field.
            if str(error) == TEST_FAILED:
                raise Gone("another object has this name now") from error
            raise OurBug(str(error)) from error

    async def _delete(self, path: str, options: Body) -> None:
        try:
            await self._request_json("DELETE", path, {}, options)
        except Gone:
            return

    async def _request_json(
        self, verb: str, path: str, query: Mapping[str, str], body: Any = None, content: str = JSON
    ) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self._request(verb, path, query, body, content))
        return answer

    async def _request(
        self, verb: str, path: str, query: Mapping[str, str], body: Any = None, content: str = JSON
    ) -> bytes:
        async with self._at_once:
            # A write that outlived the Lease would be one beside the next leader's.
            reads = verb == "GET"
            seconds = TIMEOUT if reads else min(TIMEOUT, self._fence())
            # Where nothing is sent, it is what is to come back.
            accept, end = (content if reads else JSON), (MAX_LOG_BYTES if path.endswith("/log") else None)
            request = Request(verb, path, query, body, content, seconds, accept, end)
            try:
                data = await self._api.read(request)
            except HttpError as error:
                REQUESTS.labels(verb, _kind_of(path), str(error.status)).inc()
                raise error_of(error.status, error.text.encode(), error.retry_after) from None
            except KubeError as error:
                REQUESTS.labels(verb, _kind_of(path), "410" if isinstance(error, Expired) else "error").inc()
                raise (Gone if isinstance(error, Expired) else Unavailable)(f"{verb} {path}: {error}") from error
        REQUESTS.labels(verb, _kind_of(path), "2xx").inc()
        return data

    def _collection(self, body: Body) -> str:
        kind = self._plurals[body["kind"]]
        return f"{api_path(kind.api_version)}/namespaces/{body['metadata']['namespace']}/{kind.plural}"

    def _path(self, body: Body) -> str:
        return f"{self._collection(body)}/{body['metadata']['name']}"


class _NameTaken(ClusterError):
    """A create found its name taken: who has it is to be looked at."""


def error_of(code: int, data: bytes, retry_after: float | None = None) -> ClusterError:
    """Return the error that an HTTP answer stands for; the only place that knows codes."""
    message = _message(data)
    if code in (404, 410):
        return Gone(message)
    if "field not declared in schema" in message or (code == 400 and "strict decoding" in message):
        return OurBug(message)  # the server says 500 to the first: kubernetes/kubernetes#139253
    if code == 409 and _field(data, "reason") == "AlreadyExists":
        return _NameTaken(message)
    # The last: our CRDs are some seconds old, and an admission plugin has not heard of them yet.
    if code in (401, 408, 409, 429) or code >= 500 or (code == 403 and "cannot find RESTMapping" in message):
        return Unavailable(f"{code}: {message}", retry_after)
    if code in (403, 422):
        return Refused(message)
    return OurBug(f"{code}: {message}")


def _message(data: bytes) -> str:
    return _field(data, "message") or data.decode(errors="replace")[:500]


def _field(data: bytes, name: str) -> str:
    try:
        return str(json.loads(data)[name])
    except (ValueError, KeyError, TypeError):
        return ""


def _conflict(body: Body) -> str:
    kind, name = body["kind"], body["metadata"]["name"]
    if ownership.controller(body):
        return f"{kind} {name!r} exists and is not this session's: rename the session or delete it"
    user = body["metadata"]["annotations"][names.USER]
    return f"{kind} {name!r} exists, and this operator has not made it for user {user!r}: rename it or delete it"


def _session_path(session: SessionRef) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{session.namespace}/analysissessions/{session.name}"


def _kind_of(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[parts.index("namespaces") + 2] if "namespaces" in parts else parts[-1]


def micro_now() -> str:
    """Return the time as Kubernetes writes it where it wants microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
