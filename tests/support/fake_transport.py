"""A scripted API server for the client's tests: sessions, their statuses in order, logs, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import urlencode

from af_client.errors import from_response
from af_client.transport import WebSocketAddress
from af_kube.request import Request

BASE = "/apis/analysisfacility.io/v1alpha1/namespaces/physics/analysissessions"
Script = list[Any]


def condition(kind: str, status: bool, reason: str = "Ok", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": str(status), "reason": reason, "message": message}


def status(phase: str, *conditions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"observedGeneration": 1, "phase": phase, "conditions": list(conditions), **more}


def missing(name: str, kind: str = "analysissessions.analysisfacility.io") -> Exception:
    details = {"name": name, "kind": kind.partition(".")[0]}
    return from_response(404, json.dumps({"message": f'{kind} "{name}" not found', "details": details}))


class FakeTransport:
    """`script`: what a session's watches see; a list in it is one connection, an exception breaks it.

    `logs`: pod to connections, each a list of lines or exceptions; the last connection repeats.
    """

    namespace = "physics"

    def __init__(self, script: Script | None = None, logs: dict[str, list[Script]] | None = None) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.script = script or []
        self.logs = logs or {}
        self.logs_before: dict[str, list[Script]] = {}
        self.requests: list[Request] = []
        self.tail = ""
        self.secrets: dict[str, dict[str, Any]] = {}
        self.api_url = "http://127.0.0.1:1"

    def add(self, name: str, found: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        meta = {"name": name, "namespace": "physics", "uid": f"uid-{name}", "generation": 1, "resourceVersion": "1"}
        spec = {"user": "alice", "mode": "Headless", "run": {"command": ["true"]}} | spec
        self.objects[name] = {"metadata": meta, "spec": spec} | ({"status": found} if found else {})
        return self.objects[name]

    def call(self, request: Request) -> dict[str, Any]:
        self.requests.append(request)
        name = request.path.rpartition("/")[2]
        if name == "selfsubjectreviews":
            return {"status": {"userInfo": {"username": "alice"}}}
        if "/configmaps/" in request.path:
            if not self.tail:
                raise missing(name, "configmaps")
            return {"data": {"log": self.tail}}
        if "/secrets/" in request.path:
            if name not in self.secrets:
                raise missing(name, "secrets")
            return {"data": self.secrets[name]}
        if name == "analysissessions":
            return self._create(request.body) if request.verb == "POST" else {"items": list(self.objects.values())}
        if name not in self.objects:
            raise missing(name)
        if request.verb == "DELETE":
            return self.objects.pop(name)
        if request.verb == "PATCH" and isinstance(request.body, list):
            self._json_patch(self.objects[name], request.body)
        elif request.verb == "PATCH":
            self.objects[name]["spec"] |= request.body["spec"]
        return deepcopy(self.objects[name])

    def _json_patch(self, body: dict[str, Any], patch: list[dict[str, Any]]) -> None:
        for step in patch:
            *path, last = (int(part) if part.isdigit() else part for part in step["path"].strip("/").split("/"))
            target: Any = body
            for part in path:
                target = target[part]
            if step["op"] == "replace":
                target[last] = step["value"]
            elif target[last] != step["value"]:
                raise from_response(422, "the server rejected our request due to an error in our request")

    def lines(self, request: Request) -> Iterator[bytes]:
        self.requests.append(request)
        if request.path.endswith("/log"):
            pod = request.path.split("/")[-2]
            connections = (self.logs_before if request.query.get("previous") else self.logs).get(pod)
            if connections is None:
                raise missing(pod, "pods")
            yield from (_or_raise(step).encode() for step in self._next(connections))
            return
        name = request.query["fieldSelector"].partition("=")[2]
        for step in self.script.pop(0) if self.script else []:
            self.objects[name]["status"] = _or_raise(step)
            yield json.dumps({"type": "MODIFIED", "object": self.objects[name]}).encode()

    def websocket(self, request: Request) -> WebSocketAddress:
        self.requests.append(request)
        return WebSocketAddress(
            f"{self.api_url}{request.path}?{urlencode(request.query)}", {"Authorization": "Bearer alice"}
        )

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["metadata"].get("name") or body["metadata"]["generateName"] + "abcde"
        if name in self.objects:
            text = json.dumps({"reason": "AlreadyExists", "message": "already exists", "details": {"name": name}})
            raise from_response(409, text)
        return deepcopy(self.add(name, **body["spec"]))

    @staticmethod
    def _next(connections: list[Script]) -> Script:
        return connections.pop(0) if len(connections) > 1 else connections[0]


def _or_raise(step: Any) -> Any:
    if isinstance(step, BaseException):
        raise step
    return step
