"""``/json`` and ``/proto``, on bare ASGI: what most requests are."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from af_inference.asgi import App, Receive, Scope, Send, as_problem, read_body, reply, reply_problem
from af_inference.errors import Problem
from af_inference.served import Served
from af_inference.server import Server
from af_inference.tfaas import rows
from af_inference.tfaas.model import Models

# What upstream's server says of its answers: its headers come too late, so Go looks at the bytes.
PLAIN = b"text/plain; charset=utf-8"
OCTETS = b"application/octet-stream"

Answer = Callable[[bytes], Awaitable[tuple[Served, bytes]]]


def json(server: Server, models: Models) -> App:
    """Return the app that answers rows in JSON."""

    async def answer(body: bytes) -> tuple[Served, bytes]:
        asked = rows.from_json(body)
        model = await models.get(asked.model)
        array, one = rows.feed(asked, model.single.input)
        return model.served, rows.to_json(await model.answer(array), one)

    return _app(server, answer, rows.JSON_BYTES, PLAIN)


def proto(server: Server, models: Models) -> App:
    """Return the app that answers one row in a protobuf message."""

    async def answer(body: bytes) -> tuple[Served, bytes]:
        asked = rows.from_proto(body)
        model = await models.get(asked.model)
        array, _ = rows.feed(asked, model.single.input)
        return model.served, rows.to_proto(await model.answer(array))

    return _app(server, answer, rows.PROTO_BYTES, OCTETS)


def _app(server: Server, answer: Answer, most: int, content_type: bytes) -> App:
    most = min(most, server.settings.limits.body)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began, served, status = time.perf_counter(), None, 200
        try:
            served, body = await answer(await read_body(scope, receive, most))
            await reply(send, body, content_type)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is told)
            problem: Problem = as_problem(error)
            status = problem.status
            await reply_problem(send, problem)
        server.metrics.observe("tfaas", served, status, time.perf_counter() - began)

    return app
