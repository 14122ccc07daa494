"""``POST /v2/models/{name}[/versions/{version}]/infer``, on bare ASGI."""

from __future__ import annotations

import time

from af_inference.asgi import (
    JSON,
    App,
    Headers,
    Receive,
    Scope,
    Send,
    as_problem,
    header,
    inflate,
    read_body,
    reply,
    reply_problem,
)
from af_inference.served import Served
from af_inference.server import Server
from af_inference.v2 import wire

_OCTETS = b"application/octet-stream"


def infer(server: Server, path: str) -> App | None:
    """Return the app that answers a path, if it is one of this route's."""
    asked = _asked(path)
    if asked is None:
        return None
    name, version = asked

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        began, served, status = time.perf_counter(), None, 200
        try:
            served = await server.registry.get(name, version)
            body, headers = await _infer(server, served, scope, receive)
            await reply(send, body, _OCTETS if headers else JSON, headers=headers)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is told)
            problem = as_problem(error)
            status = problem.status
            await reply_problem(send, problem)
        server.metrics.observe("v2", served, status, time.perf_counter() - began)

    return answer


def _asked(path: str) -> tuple[str, str | None] | None:
    parts = path.split("/")
    if parts[-1] != "infer" or parts[:3] != ["", "v2", "models"]:
        return None
    if len(parts) == 5:
        return parts[3], None
    return (parts[3], parts[5]) if len(parts) == 7 and parts[4] == "versions" else None


async def _infer(server: Server, served: Served, scope: Scope, receive: Receive) -> tuple[bytes, Headers]:
    limits = server.settings.limits
    body = await read_body(scope, receive, limits.body)
    if (encoding := header(scope, b"content-encoding")) not in (None, b"identity"):
        body = inflate(body, encoding or b"", limits.inflated)
    request = wire.parse(body, header(scope, wire.HEADER_LENGTH), limits)
    results = await served.ask(request.feeds, tuple(request.outputs))
    body, length = wire.encode(served, request, results)
    return body, [] if length is None else [(wire.HEADER_LENGTH, b"%d" % length)]
