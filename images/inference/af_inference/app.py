"""One ASGI application of all protocols: the token first, then hot routes by their path alone, then Starlette's."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from af_inference import openapi, tfaas, v2
from af_inference.asgi import App, Receive, Scope, Send, header, reply_problem
from af_inference.errors import Failed, NotFound, Problem, TooMany
from af_inference.responses import Json, problem_response
from af_inference.server import Server

_SMALL_BYTES = 2**16
TO_FILES = frozenset({"/upload"})  # what comes there is held by no memory, and has bounds of its own
OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})  # a kubelet has no token


class Front:
    """The application.

    Parameters
    ----------
    hot
        Applications on bare ASGI, by their exact path, for POST; each answers its own errors.
    rest
        All other routes.
    """

    def __init__(self, server: Server, hot: Mapping[str, App], rest: App) -> None:
        self._server, self._base, self._hot, self._rest = server, server.settings.base, hot, rest
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            app = self._app(scope)
            size = self._size(scope)
        except Problem as problem:
            await reply_problem(send, problem)
            return
        self._bodies += size
        try:
            await app(scope, receive, send)
        finally:
            self._bodies -= size

    def _app(self, scope: Scope) -> App:
        """Return what answers, which sees a path without the base, and has not to ask for a token."""
        path = scope["path"]
        if self._base:
            path = scope["path"] = _below(path, self._base)
        if path not in OPEN:
            self._server.token.check(header(scope, b"authorization"))
        if scope["method"] != "POST":
            return self._rest
        return self._hot.get(path) or v2.infer(self._server, path) or self._rest

    def _size(self, scope: Scope) -> int:
        """Return what a body may take, if there is room for it; one without a length may take all that a body can."""
        length, limits = header(scope, b"content-length"), self._server.settings.limits
        if (length is None and header(scope, b"transfer-encoding") is None) or scope["path"] in TO_FILES:
            return 0
        size = limits.body if length is None else min(int(length), limits.body)
        if size <= _SMALL_BYTES:
            return 0
        if self._bodies + size > limits.bodies:
            raise TooMany("too much is being answered at a time: ask again later, or with fewer rows at a time")
        return size


def application(server: Server) -> Front:
    """Return the application of a server. A folder says its own routes, and is added here and nowhere else."""
    hot = tfaas.hot(server)
    routes: list[Route] = [*v2.routes(server), *tfaas.routes(server, hot), _metrics(server), _document(server)]
    handlers = {Problem: _problem, HTTPException: _http_error, Exception: _error}
    rest = Starlette(routes=routes, exception_handlers=handlers)
    rest.router.redirect_slashes = False  # upstream's TFaaS knows no path with a slash at its end
    return Front(server, hot, rest)


def _below(path: str, base: str) -> str:
    if not path.startswith(base + "/"):
        raise NotFound(f"all routes begin with {base}/")
    return path[len(base) :]


def _metrics(server: Server) -> Route:
    async def metrics(_: Request) -> Response:
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Route("/metrics", metrics)


def _document(server: Server) -> Route:
    document = Json(openapi.document(server.settings.base))

    async def described(_: Request) -> Response:
        return document

    return Route("/openapi.json", described)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  (for this class it is registered)
    return problem_response(error)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (for this class it is registered)
    problem = NotFound("there is no such route") if error.status_code == 404 else Problem(error.detail)
    return problem_response(problem, error.status_code)


async def _error(_: Request, __: Exception) -> Response:
    return problem_response(Failed("this is an error of the server: its log says more"))
