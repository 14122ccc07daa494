"""The port to the API server, and its adapter on kubernetes.aio: the one place that writes, and that maps errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import client as k8s
from kubernetes.aio.client.exceptions import ApiException
from prometheus_client import Counter

from af_operator import names
from af_operator.api import GROUP, VERSION
from af_operator.components import all_components
from af_operator.errors import ClusterError, Gone, NameConflict, OurBug, Refused, Unavailable
from af_operator.model import Body, Kind, LogRequest, Notice, SessionRef

REQUESTS = Counter("af_operator_api_requests", "Requests of passes to the API server", ["verb", "kind", "code"])
TIMEOUT = 30.0
MAX_LOG_BYTES = 262_144
TEST_FAILED = "the server rejected our request due to an error in our request"


class Cluster(Protocol):
    """What a pass may do. Every method raises the errors of ``errors.py`` and nothing else."""

    async def apply(self, body: Body, *, create: bool) -> Body:
        """Server-side apply; with `create`, the name must be free. Returns the stored object.

        Of what a user shares between sessions the name is free, too, when another session has just made it.
        """

    async def overwrite(self, body: Body) -> Body:
        """Set what the body says in this very object (by uid), lists as a whole. Returns the stored object."""

    async def delete(self, body: Body) -> None:
        """Delete this very object (by uid), its dependents in the background."""

    async def delete_session(self, session: SessionRef) -> None:
        """Delete a session that has outlived its TTL."""

    async def write_status(self, session: SessionRef, status: Mapping[str, Any]) -> Body:
        """Replace the session's status. Returns the stored object."""

    async def write_profile_status(self, name: str, uid: str, status: Mapping[str, Any]) -> Body:
        """Replace the status of this very profile. Returns the stored object."""

    async def read_log(self, session: SessionRef, wanted: LogRequest) -> str:
        """Return the last lines of a container's log."""

    async def record(self, session: SessionRef, notice: Notice) -> None:
        """Record a Kubernetes Event about the session."""


class KubernetesCluster:
    """``Cluster`` over the network.

    Parameters
    ----------
    client
        A configured client of kubernetes.aio.
    fence
        Raises when this process must not write any more (the Lease was lost).
    """

    def __init__(self, client: k8s.ApiClient, fence: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._fence = fence
        self._plurals = {k.kind: k for c in all_components() for k in (*c.KINDS, *c.SHARED)}

    async def apply(self, body: Body, *, create: bool) -> Body:
        """See ``Cluster.apply``."""
        path = self._path(body)
        if create and (there := await self._own(path, body)) and not names.controller(body):
            return there  # made for another session of the user a moment ago, and never changed
        query = [("fieldManager", names.MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        return await self._json("PATCH", path, query, body, "application/apply-patch+yaml")

    async def overwrite(self, body: Body) -> Body:
        """See ``Cluster.overwrite``."""
        query = [("fieldManager", names.MANAGER), ("fieldValidation", "Strict")]
        try:
            return await self._json("PATCH", self._path(body), query, body, "application/merge-patch+json")
        except Refused as error:
            if "metadata.uid" in str(error):  # another object has the name by now: the next pass will see it
                raise Unavailable(str(error)) from error
            raise

    async def delete(self, body: Body) -> None:
        """See ``Cluster.delete``."""
        options = {"preconditions": {"uid": body["metadata"]["uid"]}, "propagationPolicy": "Background"}
        await self._delete(self._path(body), options)

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

    async def read_log(self, session: SessionRef, wanted: LogRequest) -> str:
        """See ``Cluster.read_log``."""
        path = f"/api/v1/namespaces/{session.namespace}/pods/{wanted.pod}/log"
        query = [
            ("container", wanted.container),
            ("tailLines", str(wanted.lines)),
            ("limitBytes", str(MAX_LOG_BYTES)),
        ]
        return (await self._request("GET", path, query)).decode(errors="replace")

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
            "eventTime": _micro_now(),
            "type": notice.kind,
            "reason": notice.reason,
            "note": notice.message[:1000],
            "action": "Reconcile",
            "regarding": regarding,
            "reportingController": f"{GROUP}/{names.MANAGER}",
            "reportingInstance": names.MANAGER,
        }
        await self._json("POST", f"/apis/events.k8s.io/v1/namespaces/{session.namespace}/events", [], event)

    async def missing(self, kinds: Collection[Kind]) -> list[str]:
        """Return the kinds, as plural.group/version, that the API server does not know."""
        served: dict[str, set[str]] = {}
        for version in {k.api_version for k in kinds}:
            path = f"/apis/{version}" if "/" in version else f"/api/{version}"
            try:
                found = await self._json("GET", path, [])
            except Gone:
                found = {"resources": []}
            served[version] = {r["name"] for r in found["resources"]}
        return sorted(f"{k.plural}.{k.api_version}" for k in kinds if k.plural not in served[k.api_version])

    async def _own(self, path: str, body: Body) -> Body | None:
        # Apply would silently merge our fields into somebody else's object of that name. One read for each
        # creation is the price of never adopting; the watch sees only objects that carry our label.
        try:
            found = await self._json("GET", path, [])
        except Gone:
            return None
        if names.same_owner(found, body):
            return found
        raise NameConflict(_conflict(body))

    async def _replace_status(self, path: str, uid: str, status: Mapping[str, Any]) -> Body:
        # Whole, and only of this very object: one that came later under the same name has another status.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            return await self._json(
                "PATCH", f"{path}/status", [("fieldManager", names.MANAGER)], patch, "application/json-patch+json"
            )
        except Refused as error:
            # A failed test is a 422 that names nothing; one about the schema names the field.
            if str(error) == TEST_FAILED:
                raise Gone("another object has this name now") from error
            raise OurBug(str(error)) from error

    async def _delete(self, path: str, options: Body) -> None:
        try:
            await self._json("DELETE", path, [], options)
        except Gone:
            return

    async def _json(
        self, verb: str, path: str, query: list[tuple[str, str]], body: Any = None, content: str = "application/json"
    ) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self._request(verb, path, query, body, content))
        return found

    async def _request(
        self, verb: str, path: str, query: list[tuple[str, str]], body: Any = None, content: str = "application/json"
    ) -> bytes:
        if verb != "GET":
            self._fence()
        request = await self._client.param_serialize(
            verb, path, query_params=query, header_params={"Content-Type": content}, auth_settings=["BearerToken"]
        )
        verb, url, headers, _, _ = request
        try:
            response = await self._client.call_api(verb, url, headers, body, _request_timeout=TIMEOUT)
            data: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            REQUESTS.labels(verb, _kind_of(path), "error").inc()
            raise Unavailable(f"{verb} {path}: {type(error).__name__}: {error}") from error
        except ApiException as error:
            raise OurBug(f"{verb} {path}: {error}") from error
        REQUESTS.labels(verb, _kind_of(path), str(response.status)).inc()
        if response.status >= 400:
            raise error_of(response.status, data, response.headers.get("Retry-After"))
        return data

    def _path(self, body: Body) -> str:
        kind, metadata = self._plurals[body["kind"]], body["metadata"]
        root = "/api" if "/" not in kind.api_version else "/apis"
        return f"{root}/{kind.api_version}/namespaces/{metadata['namespace']}/{kind.plural}/{metadata['name']}"


def error_of(code: int, data: bytes, retry_after: str | None = None) -> ClusterError:
    """Return the error that an HTTP answer stands for; the only place that knows codes."""
    message = _message(data)
    if code in (404, 410):
        return Gone(message)
    if "field not declared in schema" in message or (code == 400 and "strict decoding" in message):
        return OurBug(message)  # the server says 500 to the first: kubernetes/kubernetes#139253
    if code == 403 and "cannot find RESTMapping" in message:
        return Unavailable(message)  # our CRDs are some seconds old, and an admission plugin has not heard of them yet
    if code == 429 or code >= 500 or code in (401, 408, 409):
        return Unavailable(f"{code}: {message}", float(retry_after) if retry_after and retry_after.isdigit() else None)
    if code in (403, 422):
        return Refused(message)
    return OurBug(f"{code}: {message}")


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace")[:500]


def _conflict(body: Body) -> str:
    kind, name = body["kind"], body["metadata"]["name"]
    if names.controller(body):
        return f"{kind} {name!r} exists and is not this session's: rename the session or delete it"
    user = body["metadata"]["annotations"][names.USER]
    return f"{kind} {name!r} exists, and this operator has not made it for user {user!r}: rename it or delete it"


def _session_path(session: SessionRef) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{session.namespace}/analysissessions/{session.name}"


def _kind_of(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[parts.index("namespaces") + 2] if "namespaces" in parts else parts[-1]


def _micro_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
