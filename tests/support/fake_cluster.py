"""An API server for one test: the port's verbs over a dict. What needs more belongs on the real cluster."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from af_operator import names, ownership
from af_operator.errors import ClusterError, Gone, NameConflict, Unavailable
from af_operator.model import Body, LogRequest, Notice, ObjectRef, SessionRef

ObjectKey = tuple[str, str, str]


def key_of(body: Body) -> ObjectKey:
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


class FakeCluster:
    """Stores what is applied; every write is counted and leaves a watch event in ``events``."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.writes: list[tuple[str, ObjectKey]] = []
        self.reads: list[ObjectRef] = []
        self.notices: list[Notice] = []
        self.logs: dict[str, str] = {}
        self.errors: dict[str, ClusterError] = {}
        self._serial = itertools.count(1)

    def store(self, body: Body) -> dict[str, Any]:
        """Put an object in as somebody else would (not counted)."""
        return self._put("ADDED", copy.deepcopy(dict(body)))

    async def create(self, body: Body) -> Body:
        key = key_of(body)
        self._fail(body["kind"])
        live = self.objects.get(key)
        if live is None:
            self.writes.append(("create", key))
            return copy.deepcopy(self._put("ADDED", _managed(body, "Update")))
        if not ownership.same_owner(live, body):
            raise NameConflict(f"{key} exists and is not this session's")
        return copy.deepcopy(live)

    async def try_out(self, body: Body) -> None:
        self._fail("try_out")

    async def apply(self, body: Body) -> Body:
        key, live = key_of(body), self._this_very(body)
        self._fail(body["kind"])
        self.writes.append(("apply", key))
        merged = _managed(_merge(live, copy.deepcopy(dict(body))), "Apply")
        return copy.deepcopy(live if merged == live else self._put("MODIFIED", merged))

    async def overwrite(self, body: Body) -> Body:
        return await self.apply(body)

    async def delete(self, body: Body) -> None:
        key = key_of(body)
        self._fail("delete")
        live = self.objects.get(key)
        if live is None:
            return
        if live["metadata"]["uid"] != body["metadata"]["uid"]:
            raise Unavailable("409: the uid in the precondition does not match")
        if live["kind"] == "Secret" and live["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Unavailable("409: the resourceVersion in the precondition does not match")
        self.writes.append(("delete", key))
        self.events.append(("DELETED", self.objects.pop(key)))

    async def delete_session(self, session: SessionRef) -> None:
        body = self.objects.get(("AnalysisSession", session.namespace, session.name))
        if body is not None:
            await self.delete({**body, "metadata": {**body["metadata"], "uid": session.uid}})

    async def write_status(self, session: SessionRef, status: Mapping[str, Any]) -> Body:
        return self._status(("AnalysisSession", session.namespace, session.name), session.uid, status)

    async def write_profile_status(self, name: str, uid: str, status: Mapping[str, Any]) -> Body:
        return self._status(("AnalysisProfile", "", name), uid, status)

    def _status(self, key: ObjectKey, uid: str, status: Mapping[str, Any]) -> Body:
        self._fail("status")
        if key not in self.objects or self.objects[key]["metadata"]["uid"] != uid:
            raise Gone("no such object")
        self.writes.append(("status", key))
        return copy.deepcopy(self._put("MODIFIED", {**self.objects[key], "status": copy.deepcopy(dict(status))}))

    async def read_session(self, session: SessionRef) -> Body:
        body = self.objects.get(("AnalysisSession", session.namespace, session.name))
        if body is None or body["metadata"]["uid"] != session.uid:
            raise Gone("no such session")
        return copy.deepcopy(body)

    async def read_metadata(self, namespace: str, ref: ObjectRef) -> Body | None:
        body = self.objects.get((ref.kind, namespace, ref.name))
        self.reads.append(ref)
        return {"metadata": copy.deepcopy(body["metadata"])} if body else None

    async def read_log(self, session: SessionRef, request: LogRequest) -> str:
        if request.pod not in self.logs:
            raise Gone(f"no pod {request.pod}")
        return "\n".join(self.logs[request.pod].splitlines()[-request.lines :])

    async def record(self, session: SessionRef, notice: Notice) -> None:
        self._fail("record")
        self.notices.append(notice)

    def _put(self, event: str, body: dict[str, Any]) -> dict[str, Any]:
        serial = str(next(self._serial))
        metadata = {"uid": f"uid-{serial}", **body["metadata"], "resourceVersion": serial}
        stored = self.objects[key_of(body)] = {**body, "metadata": metadata}
        self.events.append((event, copy.deepcopy(stored)))
        return stored

    def _this_very(self, body: Body) -> dict[str, Any]:
        live = self.objects.get(key_of(body))
        if live is None or live["metadata"]["uid"] != body["metadata"]["uid"]:
            raise Unavailable("409: the uid in the precondition does not match")
        return live

    def _fail(self, what: str) -> None:
        if what in self.errors:
            raise self.errors[what]


def _managed(body: Body, operation: str) -> dict[str, Any]:
    entries = [{"manager": names.MANAGER, "operation": operation}]
    return {**body, "metadata": {**body["metadata"], "managedFields": entries}}


def _merge(live: Mapping[str, Any], want: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch: what is null goes."""
    both = {k: isinstance(v, dict) and isinstance(live.get(k), dict) for k, v in want.items()}
    merged = {k: _merge(live[k], v) if both[k] else v for k, v in want.items()}
    return {k: v for k, v in {**live, **merged}.items() if v is not None}
