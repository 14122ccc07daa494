"""The SDK: sessions as a Python user handles them. ``af`` is built on it and on nothing else.

>>> sessions = Sessions(namespace="physics")
>>> session = sessions.create({"metadata": {"generateName": "zmumu-"}, "spec": {...}})
>>> session = sessions.wait(session.name, timeout=600)
>>> session.run.exit_code
0
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from af_client.errors import (
    GROUP,
    BadInput,
    ClientError,
    Expired,
    Forbidden,
    NotFound,
    TimedOut,
    Unavailable,
    Unreachable,
    from_response,
)
from af_client.forward import Say
from af_client.model import API_VERSION, KIND, PLURAL, Session
from af_client.models import Models
from af_client.open_dask import DASK, OpenDask
from af_client.opening import MODELS, OpenModels, OpenNotebook, openable
from af_client.pools import find
from af_client.results import RemoteResults
from af_client.storage import StoredFile
from af_client.transport import Cluster, Transport
from af_kube.request import Request
from af_names import RUN_CONTAINER, run_log

WATCH_SECONDS = 240
RECONNECT_SECONDS = 1.0
SETTLE_SECONDS = 3.0
YEAR = 365 * 86_400.0
REQUEST = f"{GROUP}/request"
"""Annotation of a session: which request has made it, so that who lost the answer knows their own."""
LOOKS_SECONDS = (0.5, 1.0, 2.0)
"""Pauses between the looks for a session whose creation has not been answered."""


class Deleted(NotFound):
    """The watched session was deleted."""


class Sessions:
    """The sessions of one namespace.

    Parameters
    ----------
    namespace
        The context's namespace if left out.
    context
        Context of the kubeconfig; its current one if left out.
    transport
        A connection that is there already.
    """

    def __init__(
        self, namespace: str | None = None, context: str | None = None, transport: Transport | None = None
    ) -> None:
        self._api = transport or Cluster(context)
        self.namespace = namespace or self._api.namespace

    def create(self, body: Mapping[str, Any]) -> Session:
        """Create a session; ``spec.user`` is filled in where it is missing, and a ``generateName`` is made a name here.

        Where the answer is lost, the session is looked for.

        Raises
        ------
        NameTaken, Invalid, Forbidden, KindNotInstalled
            As the API server says.
        Unreachable, Unavailable
            It may have been made: the message has its name.
        """
        spec = dict(body.get("spec") or {})
        spec["user"] = spec.get("user") or self.whoami()
        whole = named({**body, "apiVersion": API_VERSION, "kind": KIND, "spec": spec})
        meta = whole["metadata"]
        marks = {**(meta.get("annotations") or {}), REQUEST: secrets.token_hex(8)}
        return self._create({**whole, "metadata": {**meta, "namespace": self.namespace, "annotations": marks}})

    def _create(self, body: Mapping[str, Any]) -> Session:
        try:
            # Without it the server drops unknown fields and only warns.
            return Session.parse(self._api.call(Request("POST", self._path(), {"fieldValidation": "Strict"}, body)))
        except (Unreachable, Unavailable) as error:
            return self._made(body["metadata"], error)

    def _made(self, meta: Mapping[str, Any], error: ClientError) -> Session:
        """Return the session whose creation was not answered, if there is one."""
        name, request = meta.get("name", ""), meta["annotations"][REQUEST]
        for pause in (*LOOKS_SECONDS, None):
            try:
                found = self.get(name)
            except NotFound:
                raise error from None
            except (Unreachable, Unavailable):
                if pause is None:
                    break
                time.sleep(pause)
                continue
            if found.body["metadata"].get("annotations", {}).get(REQUEST) != request:
                raise error
            return found
        raise type(error)(f"{error}; session {name} may have been made: `af delete {name}`") from error

    def get(self, name: str) -> Session:
        """Return a session."""
        return Session.parse(self._api.call(Request("GET", self._path(name))))

    def list(self, all_namespaces: bool = False) -> list[Session]:
        """Return the sessions of the namespace, or of all, by name."""
        path = f"/apis/{API_VERSION}/{PLURAL}" if all_namespaces else self._path()
        items = self._api.call(Request("GET", path)).get("items", [])
        return sorted((Session.parse(item) for item in items), key=lambda s: (s.namespace, s.name))

    def suspend(self, name: str) -> Session:
        """Let the compute go; the session stays."""
        return self._patch(name, {"spec": {"suspend": True}})

    def resume(self, name: str) -> Session:
        """Bring the compute back."""
        return self._patch(name, {"spec": {"suspend": False}})

    def scale(self, name: str, pool: str, least: int, most: int | None = None) -> Session:
        """Give a pool another number of workers: exactly `least`, or between both, as its tasks ask.

        The session goes on computing meanwhile; workers go without losing results.

        Parameters
        ----------
        pool
            ``cpu``, or ``dask/cpu`` where several components have one of that name; ``inference`` for the replicas of
            the model service.

        Raises
        ------
        BadInput
            It has no such pool, or several; or replicas are asked to be elastic.
        """
        patch = find(self.get(name), pool).patch(least, most)
        return self._patch(name, patch, "application/json-patch+json")

    def live_for(self, name: str, seconds: int | None) -> Session:
        """Let a session end so many seconds after its creation, or when its profile says so."""
        return self._patch(name, {"spec": {"lifetimeSeconds": seconds}})

    def delete(self, name: str, uid: str | None = None) -> None:
        """Delete a session (only the one of this uid) and, by garbage collection, everything that it made.

        Raises
        ------
        NotFound
            It is gone.
        """
        only = {"preconditions": {"uid": uid}} if uid else None
        self._api.call(Request("DELETE", self._path(name), body=only))

    def whoami(self) -> str:
        """Return who is asking, as the API server knows them."""
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            return str(self._api.call(Request("POST", path, body=body))["status"]["userInfo"]["username"])
        except (Forbidden, NotFound, KeyError) as error:
            raise BadInput("the API server does not say who you are: write spec.user into the session") from error

    def watch(self, name: str, timeout: float | None = None) -> Iterator[Session]:
        """Yield the session now and at every change; goes on after broken connections.

        Raises
        ------
        Deleted
            It is gone, or another one has its name.
        TimedOut
            After `timeout` seconds.
        """
        deadline = time.monotonic() + (timeout if timeout is not None else YEAR)
        session = self.get(name)
        uid = session.uid
        yield session
        while (left := deadline - time.monotonic()) > 0:
            began = time.monotonic()
            try:
                yield from self._changes(session, left)
                # A server that ends every watch at once (it is starting, or full) must not be asked without a pause.
                time.sleep(max(0.0, min(RECONNECT_SECONDS, left) - (time.monotonic() - began)))
                session = self._again(name)
            except (Expired, Unreachable, Unavailable):
                time.sleep(min(RECONNECT_SECONDS, left))
                with suppress(Unreachable, Unavailable):
                    session = self._again(name)
            if session.uid != uid:
                raise Deleted(f"session {name} was deleted, and another one has its name")
            yield session
        raise TimedOut(f"session {name} is not there after {timeout:g} s: `af status {name}` says what it waits for")

    def wait(self, name: str, timeout: float | None = None) -> Session:
        """Return the session once it has ended; one that is interactive, once it is ready.

        Raises
        ------
        TimedOut
            After `timeout` seconds.
        Deleted
            It was deleted meanwhile.
        """
        arrived = next(session for session in self.watch(name, timeout) if session.arrived)
        if arrived.settled:
            return arrived
        with suppress(TimedOut):
            return next(session for session in self.watch(name, SETTLE_SECONDS) if session.settled)
        return arrived

    def logs(
        self,
        pod: str,
        *,
        container: str = RUN_CONTAINER,
        follow: bool = False,
        since: str = "",
        tail: int | None = None,
    ) -> Iterator[str]:
        """Yield the lines of a pod's container, each with its time stamp before the first blank.

        Parameters
        ----------
        since
            A time stamp of an earlier line: only later lines are asked for, in whole seconds.
        """
        query = {"follow": "true"} if follow else {}
        query |= {"sinceTime": since} if since else {}
        query |= {"tailLines": str(tail)} if tail is not None else {}
        return self._log(pod, container, query)

    def logs_before(self, pod: str, container: str, tail: int) -> Iterator[str]:
        """Yield the last lines, with their time stamps, of a pod's container before it was begun again."""
        return self._log(pod, container, {"previous": "true", "tailLines": str(tail)})

    def _log(self, pod: str, container: str, query: Mapping[str, str]) -> Iterator[str]:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        seconds = 3600 if "follow" in query else 60
        request = Request("GET", path, {"container": container, "timestamps": "true", **query}, read_seconds=seconds)
        return (line.decode("utf-8", "replace") for line in self._api.lines(request))

    def log_tail(self, session: Session) -> str:
        """Return the last lines of a finished run's log, which outlive its pod (a right that its user has)."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/{run_log(session.name)}"
        return str(self._api.call(Request("GET", path)).get("data", {}).get("log", ""))

    def results(self, name: str) -> RemoteResults:
        """Return what a run left at the storage.

        Raises
        ------
        ResultsError
            It has left nothing (yet).
        """
        return RemoteResults.of(self.get(name))

    def download(self, name: str, target: Path) -> Sequence[StoredFile]:
        """Fetch all results into a directory, checked."""
        return self.results(name).download(target)

    def open(self, name: str, port: int = 0, timeout: float | None = None, say: Say = lambda _: None) -> OpenNotebook:
        """Return the session's notebook at a port of this machine, once it is ready; for ``with``.

        >>> with sessions.open("lab") as notebook:
        ...     requests.get(notebook.url + "api/status", headers={"Authorization": f"token {notebook.token}"})

        Parameters
        ----------
        port
            0 for a free one.
        say
            Called with what goes wrong while the notebook is open.

        Raises
        ------
        BadInput
            The session has no notebook, or the port is taken.
        NotReady
            It is suspended, or has ended.
        Forbidden
            It is somebody else's.
        TimedOut
            The notebook is not ready after `timeout` seconds.
        """
        ready = next(session for session in self.watch(name, timeout) if openable(session))
        return OpenNotebook(self._api, ready, port, say)

    @contextmanager
    def models(self, name: str, timeout: float | None = None, say: Say = lambda _: None) -> Iterator[Models]:
        """Yield the models of a session, through a port of this machine, once the service is ready; for ``with``.

        >>> with sessions.models("lab") as models:
        ...     models.predict("topjet", features)

        Raises
        ------
        BadInput
            The session has no model service.
        NotReady
            It is suspended, or has ended.
        Forbidden
            It is somebody else's.
        TimedOut
            The service is not ready after `timeout` seconds.
        """
        ready = next(session for session in self.watch(name, timeout) if openable(session, MODELS))
        with OpenModels(self._api, ready, say=say) as opened:
            yield opened.models

    def dask(self, name: str, port: int = 0, timeout: float | None = None, say: Say = lambda _: None) -> OpenDask:
        """Return a session's Dask at ports of this machine, once it is ready; for ``with``.

        >>> with sessions.dask("lab") as dask, dask.client() as client:
        ...     client.submit(sum, [1, 2, 3]).result()

        Parameters
        ----------
        port
            Of the scheduler; 0 for a free one.
        say
            Called with what goes wrong meanwhile.

        Raises
        ------
        BadInput
            The session has no Dask, or the port is taken.
        NotReady
            It is suspended, has ended, or was begun before its Dask had certificates.
        Forbidden
            It is somebody else's.
        TimedOut
            Dask is not ready after `timeout` seconds.
        """
        ready = next(session for session in self.watch(name, timeout) if openable(session, DASK))
        return OpenDask(self._api, ready, port, say)

    def _path(self, name: str = "") -> str:
        base = f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURAL}"
        return f"{base}/{name}" if name else base

    def _patch(self, name: str, patch: Any, kind: str = "application/merge-patch+json") -> Session:
        return Session.parse(self._api.call(Request("PATCH", self._path(name), body=patch, content_type=kind)))

    def _again(self, name: str) -> Session:
        try:
            return self.get(name)
        except NotFound as error:
            raise Deleted(f"session {name} was deleted") from error

    def _changes(self, session: Session, left: float) -> Iterator[Session]:
        seconds = max(1, min(WATCH_SECONDS, int(left)))
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={session.name}",
            "resourceVersion": session.body["metadata"]["resourceVersion"],
            "timeoutSeconds": str(seconds),
        }
        for line in self._api.lines(Request("GET", self._path(), query, read_seconds=seconds + 10)):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise from_response(int(event["object"].get("code", 500)), json.dumps(event["object"]))
            if event["type"] == "DELETED" or event["object"]["metadata"].get("uid", "") != session.uid:
                raise Deleted(f"session {session.name} was deleted")
            yield Session.parse(event["object"])


def named(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with a name of its own where it has a ``generateName``: so it is known before it is sent."""
    meta = dict(body.get("metadata") or {})
    prefix = meta.pop("generateName", None)
    if prefix and not meta.get("name"):
        meta["name"] = prefix + _letters()
    return {**body, "metadata": meta}


def _letters() -> str:
    return "".join(
        secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5)
    )  # the API server's: no words come of it
