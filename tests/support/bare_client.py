"""The least that a client of the API server can be: aiohttp and JSON. What the operator does is compared with it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from aiohttp import ClientSession, TCPConnector

from local_cluster.control_plane import CLIENT, ControlPlane

Body = dict[str, Any]
PAGE = 500
AT_ONCE = 50


class BareClient:
    """One user's connections to a control plane.

    Parameters
    ----------
    at_once
        Requests that are under way at the same time, at most.
    """

    def __init__(self, plane: ControlPlane, user: str = CLIENT, at_once: int = AT_ONCE) -> None:
        self._plane, self._user, self._at_once = plane, user, at_once

    async def __aenter__(self) -> BareClient:
        tls = ssl.create_default_context(cafile=str(self._plane.authority))
        headers = {"Authorization": f"Bearer {self._plane.token(self._user)}"}
        self._http = ClientSession(
            self._plane.server, connector=TCPConnector(ssl=tls, limit=self._at_once), headers=headers
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def create_all(self, bodies: Iterable[Body]) -> None:
        """Create objects; each must be new."""
        left = iter(bodies)

        async def some() -> None:
            for body in left:
                await self.request("POST", collection(body), body)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(some())

    async def list_all(self, paths: Iterable[str]) -> list[list[Body]]:
        """List collections, all at the same time, page by page; return the objects of each."""
        return await asyncio.gather(*map(self._pages, paths))

    async def request(self, verb: str, path: str, body: Body | None = None) -> Body:
        """Return the answer; raises if it is no success."""
        async with self._http.request(verb, path, json=body) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise AssertionError(f"{verb} {path}: {answer.status} {text.decode()}")
            found: Body = json.loads(text)
            return found

    async def _pages(self, path: str) -> list[Body]:
        found: list[Body] = []
        more = ""
        while True:
            page = await self.request("GET", f"{path}?limit={PAGE}{more}")
            found += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return found
            more = f"&continue={token}"


def collection(body: Body) -> str:
    """Return the path under which an object is created."""
    plural = f"{body['kind'].lower()}s".replace("policys", "policies")
    return kind_path(body["apiVersion"], plural, body["metadata"].get("namespace"))


def kind_path(api_version: str, plural: str, namespace: str | None = None) -> str:
    """Return the path of all objects of a kind, everywhere or in one namespace."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
