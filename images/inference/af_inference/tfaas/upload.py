"""``/upload``: a model comes."""

from __future__ import annotations

import time
from urllib.parse import parse_qs

from af_inference.asgi import App, Receive, Scope, Send, as_problem, reply, reply_problem
from af_inference.server import Server
from af_inference.tfaas.predict import PLAIN
from af_inference.uploads import Uploads


def app(server: Server) -> App:
    """Return the app that takes models; like upstream's it answers with nothing, once the model serves."""
    uploads = Uploads(server)

    async def upload(scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 200
        try:
            version = parse_qs(scope["query_string"].decode("latin-1")).get("version")
            artifact = await uploads.take(scope, receive, version[0] if version else None)
            await reply(send, b"", PLAIN, headers=[(b"x-model-version", artifact.version.encode())])
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is told)
            problem = as_problem(error)
            status = problem.status
            await reply_problem(send, problem)
        server.metrics.observe("tfaas", None, status, time.perf_counter() - began)

    return upload
