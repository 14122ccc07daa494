"""An API server in memory for the spawner's tests: sessions, profiles and Secrets, with versions and watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from functools import reduce
from typing import Any

from af_client.errors import Unreachable, from_response
from af_kube.errors import TEST_FAILED
from af_kube.request import Request

BASE = "/apis/analysisfacility.io/v1alpha1"
APPLY = "application/apply-patch+yaml"


def refusal(code: int, reason: str, message: str, **details: Any) -> Exception:
    return from_response(code, json.dumps({"reason": reason, "message": message, "details": details}))


def _into(part: Any, step: str) -> Any:
    return part[int(step)] if isinstance(part, list) else part[step]


class FakeApi:
    """`away`: nothing answers; `blind`: watches tell nothing; `refuse`: what a verb's next requests raise.

    `granted`: (user or group, profile) of all that may be used.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.refuse: dict[str, list[Exception]] = {}
        self.granted: set[tuple[str, str]] = set()
        self.away = self.blind = False
        self.version = 1
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []
        self._news = asyncio.Condition()

    @property
    def writes(self) -> list[str]:
        return [f"{r.verb} {r.path.rsplit('/', 2)[-2]}" for r in self.requests if r.verb != "GET"]

    async def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store an object as anybody else might."""
        before = self.objects.get(path)
        self.version += 1
        body = deepcopy(body)
        meta = body.setdefault("metadata", {})
        meta |= {"name": path.rsplit("/", 1)[1], "resourceVersion": str(self.version)}
        if "/namespaces/" in path:
            meta["namespace"] = path.split("/")[-3]
        meta.setdefault("uid", f"uid-{self.version}")
        meta.setdefault("creationTimestamp", f"2026-01-01T00:{self.version // 60:02d}:{self.version % 60:02d}Z")
        meta["generation"] = (before or {"metadata": {"generation": 0}})["metadata"]["generation"]
        meta["generation"] += before is None or before.get("spec") != body.get("spec")
        self.objects[path] = body
        return await self._tell("MODIFIED" if before else "ADDED", path, body)

    async def drop(self, path: str) -> None:
        self.version += 1
        body = self.objects.pop(path)
        body["metadata"]["resourceVersion"] = str(self.version)
        await self._tell("DELETED", path, body)

    async def say(self, path: str, phase: str, *conditions: dict[str, Any], **more: Any) -> None:
        """Write a status as the operator does."""
        generation = self.objects[path]["metadata"]["generation"]
        status = {"observedGeneration": generation, "phase": phase, "conditions": list(conditions)} | more
        await self.put(path, self.objects[path] | {"status": status})

    async def go_away(self, away: bool = True) -> None:
        self.away = away
        await self._tell("", "", {})

    async def _tell(self, kind: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._events.append((self.version, kind, path, deepcopy(body)))
        async with self._news:
            self._news.notify_all()
        return deepcopy(body)

    async def read(self, request: Request) -> bytes:
        return json.dumps(await self.call(request)).encode()

    async def call(self, request: Request) -> dict[str, Any]:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.away:
            raise Unreachable("connection refused")
        if waiting := self.refuse.get(request.verb):
            raise waiting.pop(0)
        path, (parent, name) = request.path, request.path.rsplit("/", 1)
        if name == "subjectaccessreviews":
            return self._review(request.body["spec"])
        if request.verb == "POST":
            path = f"{path}/{request.body['metadata']['name']}"
            if path in self.objects:
                raise refusal(409, "AlreadyExists", "exists", name=name)
        if request.verb == "POST" or request.content_type == APPLY:
            return await self.put(path, request.body)
        if parent in (BASE, f"{BASE}/namespaces/{parent.rsplit('/', 1)[1]}"):
            items = [deepcopy(b) for p, b in self.objects.items() if f"/{name}/" in p]
            metadata = {"resourceVersion": str(self.version)}
            return {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "List", "metadata": metadata, "items": items}
        if request.verb == "GET":
            self._judge_reading(path)
        if path not in self.objects:
            raise refusal(404, "NotFound", "not found", name=name, kind=parent.rsplit("/", 1)[1])
        if request.verb == "DELETE":
            self._judge_deletion(path)
            await self.drop(path)
        return (
            await self._patch(path, request.body) if request.verb == "PATCH" else deepcopy(self.objects.get(path, {}))
        )

    def _judge_reading(self, path: str) -> None:
        """Refuse a Secret that no Role of its namespace names; where there are no Roles, a test is not about them."""
        namespace, _, name = path.removeprefix("/api/v1/").rpartition("/secrets/")
        roles = [body for each, body in self.objects.items() if f"/{namespace}/roles/" in each]
        rules = [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]]
        if namespace and roles and not any(name in rule["resourceNames"] for rule in rules):
            raise refusal(403, "Forbidden", f'secrets "{name}" is forbidden: User "hub" cannot get resource "secrets"')

    def _judge_deletion(self, path: str) -> None:
        """Refuse what the policy on the Hub's account does: a Secret that is no session's by label and owner."""
        meta = self.objects[path]["metadata"]
        owners = [owner["uid"] for owner in meta.get("ownerReferences", [])]
        if "/secrets/" in path and meta.get("labels", {}).get("analysisfacility.io/session-uid") not in owners:
            raise refusal(
                403, "Forbidden", "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no session's"
            )

    def _review(self, spec: dict[str, Any]) -> dict[str, Any]:
        profile = spec["resourceAttributes"]["name"]
        allowed = {(who, profile) for who in (spec["user"], *spec["groups"])} & self.granted
        return {"status": {"allowed": bool(allowed)}}

    async def _patch(self, path: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
        body = deepcopy(self.objects[path])
        for step in steps:
            *way, last = step["path"].strip("/").split("/")
            try:
                part = reduce(_into, way, body)
                failed = step["op"] == "test" and _into(part, last) != step["value"]
            except LookupError:
                failed = True
            if failed:
                raise refusal(422, "Invalid", TEST_FAILED)
            if step["op"] != "test":
                part[last] = step["value"]
        return await self.put(path, body)

    @asynccontextmanager
    async def lines(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        self.requests.append(request)
        if self.away:
            raise Unreachable("connection refused")
        yield self._told(request)

    async def _told(self, request: Request) -> AsyncIterator[bytes]:
        seen, name = int(request.query["resourceVersion"]), request.path.rsplit("/", 1)[1]
        while not self.away:
            for version, kind, path, body in [] if self.blind else list(self._events):
                if version > seen and f"/{name}/" in path:
                    seen = version
                    yield json.dumps({"type": kind, "object": body}).encode()
            async with self._news:
                await self._news.wait()
        raise Unreachable("connection reset")
