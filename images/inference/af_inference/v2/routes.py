"""The routes of the protocol that are not hot: health, metadata, statistics, the repository."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from af_inference import model_config
from af_inference.asgi import read_body
from af_inference.changes import check_changes
from af_inference.errors import Invalid, Unavailable
from af_inference.responses import Json
from af_inference.served import Served
from af_inference.server import Server
from af_inference.v2 import metadata
from af_inference.v2.wire import json_object

Endpoint = Callable[[Request], Awaitable[Response]]
_SMALL_BODY = 2**16


def routes(server: Server) -> list[Route]:
    """Return them all."""
    return [*_health(server), *_models(server), *_repository(server)]


def _health(server: Server) -> list[Route]:
    async def live(_: Request) -> Response:
        return Response()

    async def ready(_: Request) -> Response:
        if not server.ready:  # which models these are is for those who have the token
            raise Unavailable("not every model of the session has answered yet: POST /v2/repository/index says why")
        return Response()

    async def about(_: Request) -> Response:
        return Json(metadata.server(server))

    return [Route("/v2/health/live", live), Route("/v2/health/ready", ready), Route("/v2", about), Route("/v2/", about)]


def _models(server: Server) -> list[Route]:
    def of_model(body: Callable[[Served], Any]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            served = await server.registry.get(request.path_params["name"], request.path_params.get("version"))
            return Json(body(served))

        return endpoint

    async def all_statistics(_: Request) -> Response:
        return Json(metadata.statistics(server.registry.all_loaded()))

    parts = {
        "": of_model(lambda served: metadata.model(server, served)),
        "/ready": of_model(lambda _: {}),
        "/config": of_model(lambda served: model_config.body(served.config)),
        "/stats": of_model(lambda served: metadata.statistics([served])),
    }
    stems = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    named = [Route(stem + part, endpoint) for stem in stems for part, endpoint in parts.items()]
    return [Route("/v2/models/stats", all_statistics), *named]


def _repository(server: Server) -> list[Route]:
    async def index(request: Request) -> Response:
        only_ready = (await _parameters(request)).get("ready") is True
        return Json(await asyncio.to_thread(metadata.index, server.registry, only_ready))

    async def load(request: Request) -> Response:
        await _allowed(request)
        await asyncio.to_thread(server.registry.load, request.path_params["name"])
        return Json({})

    async def unload(request: Request) -> Response:
        await _allowed(request)
        await asyncio.to_thread(server.registry.unload, request.path_params["name"])
        return Json({})

    async def _allowed(request: Request) -> None:
        check_changes(server.settings, (await _parameters(request)).get("parameters", {}))

    stem = "/v2/repository/models/{name}"
    return [
        Route("/v2/repository/index", index, methods=["POST"]),
        Route(f"{stem}/load", load, methods=["POST"]),
        Route(f"{stem}/unload", unload, methods=["POST"]),
    ]


async def _parameters(request: Request) -> dict[str, Any]:
    body = await read_body(request.scope, request.receive, _SMALL_BODY)
    found = json_object(body or b"{}")
    if not isinstance(found.get("parameters", {}), dict):
        raise Invalid("the body must be a JSON object")
    return found
