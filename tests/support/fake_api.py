"""An API server in memory for the spawner's tests: sessions, profiles and Secrets, with versions and watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from copy import deepcopy
from typing import Any

from af_client.errors import Expired, Unreachable, from_response
from af_client.transport import Request

BASE = "/apis/analysisfacility.io/v1alpha1"


def refusal(code: int, reason: str, message: str, **details: Any) -> Exception:
    return from_response(code, json.dumps({"reason": reason, "message": message, "details": details}))


class FakeApi:
    """`away` makes every request fail and breaks the watches; `refuse` maps a verb to an exception, once each."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.refuse: dict[str, list[Exception]] = {}
        self.away = self.expire = False
        self.version = 1
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []
        self._news = asyncio.Condition()

    @property
    def writes(self) -> list[str]:
        return [f"{r.verb} {r.path.rsplit('/', 2)[-2]}" for r in self.requests if r.verb != "GET"]

    async def put(self, path: str, body: dict[str, Any], kind: str = "MODIFIED") -> dict[str, Any]:
        """Store an object as anybody else might, and tell the watches; bumps generation when the spec changes."""
        self.version += 1
        meta, before = body.setdefault("metadata", {}), self.objects.get(path)
        meta |= {"name": path.rsplit("/", 1)[1], "resourceVersion": str(self.version)}
        if "/namespaces/" in path:
            meta["namespace"] = path.split("/namespaces/")[1].split("/", maxsplit=1)[0]
        meta.setdefault("uid", f"uid-{self.version}")
        meta.setdefault("creationTimestamp", f"2026-01-01T00:00:{self.version % 60:02d}Z")
        changed = before is None or before.get("spec") != body.get("spec")
        meta["generation"] = (before["metadata"]["generation"] if before else 0) + changed
        self.objects[path] = deepcopy(body)
        await self._tell("ADDED" if before is None else kind, path, body)
        return deepcopy(body)

    async def drop(self, path: str) -> None:
        self.version += 1
        body = self.objects.pop(path)
        await self._tell(
            "DELETED", path, body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        )

    async def say(self, path: str, phase: str, *conditions: dict[str, Any], **more: Any) -> None:
        """Write a status as the operator does."""
        body = deepcopy(self.objects[path])
        body["status"] = {"observedGeneration": body["metadata"]["generation"], "phase": phase}
        body["status"] |= {"conditions": list(conditions)} | more
        await self.put(path, body)

    async def go_away(self, away: bool = True) -> None:
        self.away = away
        await self._tell("", "", {})

    async def _tell(self, kind: str, path: str, body: dict[str, Any]) -> None:
        self._events.append((self.version, kind, path, deepcopy(body)))
        async with self._news:
            self._news.notify_all()

    async def call(self, request: Request) -> dict[str, Any]:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.away:
            raise Unreachable("connection refused")
        if waiting := self.refuse.get(request.verb):
            raise waiting.pop(0)
        path, (collection, name) = request.path, request.path.rsplit("/", 1)
        if request.verb == "POST":
            path = f"{path}/{request.body['metadata']['name']}"
            if path in self.objects:
                raise refusal(409, "AlreadyExists", "exists", name=name)
            return await self.put(path, deepcopy(dict(request.body)))
        if request.verb == "GET" and name in ("analysissessions", "analysisprofiles"):
            items = [deepcopy(b) for p, b in self.objects.items() if f"/{name}/" in p]
            return {"metadata": {"resourceVersion": str(self.version)}, "items": items}
        if path not in self.objects and request.content_type != "application/apply-patch+yaml":
            raise refusal(404, "NotFound", "not found", name=name, kind=collection.rsplit("/", 1)[1])
        if request.verb == "DELETE":
            await self.drop(path)
        return await self._patch(path, request) if request.verb == "PATCH" else deepcopy(self.objects.get(path, {}))

    async def _patch(self, path: str, request: Request) -> dict[str, Any]:
        if request.content_type == "application/apply-patch+yaml":
            return await self.put(path, deepcopy(dict(request.body)))
        body = deepcopy(self.objects[path])
        for step in request.body:
            *_, part, field = step["path"].split("/")
            if step["op"] == "test" and body[part].get(field) != step["value"]:
                raise refusal(422, "Invalid", "the server rejected our request due to an error in our request")
            body[part][field] = step["value"]
        return await self.put(path, body)

    async def lines(self, request: Request) -> AsyncGenerator[bytes]:
        self.requests.append(request)
        seen, name = int(request.query["resourceVersion"]), request.path.rsplit("/", 1)[1]
        while not self.away:
            if self.expire:
                self.expire = False
                raise Expired("too old")
            for version, kind, _, body in [e for e in self._events if e[0] > seen and f"/{name}/" in e[2]]:
                seen = version
                yield json.dumps({"type": kind, "object": body}).encode()
            async with self._news:
                await self._news.wait()
        raise Unreachable("connection reset")
