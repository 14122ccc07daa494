"""What there is, and away with it: ``/models``, ``/params``, ``/delete``, ``/status``."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from af_inference.errors import Forbidden, Invalid, NotFound
from af_inference.repository import Artifact
from af_inference.responses import Json
from af_inference.server import Server
from af_inference.settings import MIB
from af_inference.tfaas import fields, params

BEGAN = time.monotonic()
FORM = MIB


def routes(server: Server) -> list[Route]:
    """Return them all."""

    async def models(_: Request) -> Response:
        found = await asyncio.to_thread(_models, server)
        return _plain(orjson.dumps(found or None) + b"\n")

    async def of_model(request: Request) -> Response:
        return _plain(await asyncio.to_thread(_params, server, request.path_params["name"]))

    async def set_params(_: Request) -> Response:
        raise HTTPException(405, "a model's params.json comes with its upload, and no model is every client's")

    async def delete(request: Request) -> Response:
        form = await fields.read(request.scope, request.receive, FORM)
        return await _delete(server, form.values.get("model", ""), request)

    async def delete_named(request: Request) -> Response:
        return await _delete(server, request.path_params["name"], request)

    async def status(_: Request) -> Response:
        return Json(await asyncio.to_thread(_status))

    return [
        Route("/models", models),
        Route("/params/{name}", of_model),
        Route("/params", set_params, methods=["GET", "POST"]),
        Route("/delete", delete, methods=["DELETE"]),
        Route("/delete/{name}", delete_named, methods=["DELETE"]),
        Route("/status", status),
    ]


def _plain(body: bytes) -> Response:
    # Upstream says its type too late; what Go then sees in the bytes is text.
    return Response(body, media_type="text/plain")


def _models(server: Server) -> list[dict[str, Any]]:
    return [params.read(name, _artifact(server, name)) for name in server.registry.source.names()]


def _params(server: Server, name: str) -> bytes:
    if name not in (names := server.registry.source.names()):
        raise NotFound(f"there is no model {name[:63]!r}; there are: {', '.join(names[:20]) or 'none'}")
    return params.text(name, _artifact(server, name))


def _artifact(server: Server, name: str) -> Artifact | None:
    """Return where the highest version lies; None for a model of a backend."""
    try:
        return server.repository.find(name)
    except NotFound:
        return None


async def _delete(server: Server, name: str, request: Request) -> Response:
    """Delete a model, or one version of it; one that is not there is as good as deleted."""
    if not server.settings.upload:
        raise Forbidden("models of this session are those of its spec: its profile allows no deletion")
    if not name:
        raise Invalid("no model is named: DELETE /delete/{name}, or a form with the field model")
    await asyncio.to_thread(_delete_now, server, name, request.query_params.get("version"))
    return Response(media_type="text/plain")


def _delete_now(server: Server, name: str, version: str | None) -> None:
    try:
        server.repository.delete(name, version)
    except NotFound:
        return
    server.registry.refresh()


def _status() -> dict[str, Any]:
    """Return what upstream's server tells of itself, as far as Linux says it; its clients take it as a sign of life."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    load = dict(zip(("load1", "load5", "load15"), os.getloadavg(), strict=True))
    return {
        "NGo": threading.active_count(),
        "Memory": {"Virtual": _memory(memory, "Mem"), "Swap": _memory(memory, "Swap")},
        "Load": load,
        "Uptime": time.monotonic() - BEGAN,
    }


def _memory(said: dict[str, str], kind: str) -> dict[str, float]:
    total, free = (int(said[f"{kind}{part}"].split()[0]) * 1024 for part in ("Total", "Free"))
    return {
        "total": total,
        "free": free,
        "used": total - free,
        "usedPercent": 100 * (1 - free / total) if total else 0.0,
    }
