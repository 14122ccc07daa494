"""Triton's gRPC service, as far as clients of models use it; what is not here gRPC itself answers with UNIMPLEMENTED.

It is a server of threads: one of coroutines costs half as much again for each request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

from af_inference import auth, triton_messages
from af_inference.asgi import as_problem
from af_inference.changes import check_changes
from af_inference.errors import Problem, Unauthorized
from af_inference.served import Served
from af_inference.server import Server
from af_inference.v2 import metadata

_SERVICE = "inference.GRPCInferenceService"
_OPEN = frozenset(f"/{_SERVICE}/{name}" for name in ("ServerLive", "ServerReady"))  # as health is over HTTP
_THREADS = 16  # so many may wait for slow models before quick ones wait too; each may hold a message
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
Handler = Callable[[Any], Any]


def start(server: Server) -> Any:
    """Serve gRPC, and return the ``grpc.Server``.

    Raises
    ------
    RuntimeError
        The port is taken.
    """
    threads = ThreadPoolExecutor(_THREADS, "grpc")
    found = grpc.server(
        threads,
        interceptors=[_Tokens(server)],
        options=_options(server.settings.limits.body),
        maximum_concurrent_rpcs=server.settings.limits.queue,  # more of them are told RESOURCE_EXHAUSTED
    )
    found.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, _methods(server))])
    found.add_insecure_port(f"{server.settings.host}:{server.settings.grpc}")
    found.start()
    return found


def _options(most: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
        # Long jobs keep one connection: without an end none would ever find a replica that came later.
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.max_connection_age_grace_ms", 300_000),
        # Clients may ask whether we live as often as each ten seconds, also between requests.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


class _Tokens(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets a call pass before its message is read, or not at all."""

    def __init__(self, server: Server) -> None:
        self._token = server.token

        def refuse(_: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, auth.WORDS)

        self._refused = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        if details.method in _OPEN:
            return continuation(details)
        sent = next((value for key, value in details.invocation_metadata if key == "authorization"), None)
        try:
            self._token.check(sent.encode() if isinstance(sent, str) else sent)
        except Unauthorized:
            return self._refused
        return continuation(details)


def _methods(server: Server) -> Mapping[str, Any]:
    asked: dict[str, Handler] = {**_about(server), **_of_models(server), **_of_repository(server)}
    found = {name: _method(name, _told(handler)) for name, handler in asked.items()}
    return {**found, "ModelInfer": _method("ModelInfer", _infer(server))}


def _method(name: str, handler: Callable[[Any, Any], Any]) -> Any:
    request, response = getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response")
    return grpc.unary_unary_rpc_method_handler(
        handler, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


def _told(handler: Handler) -> Callable[[Any, Any], Any]:
    def method(request: Any, context: Any) -> Any:
        try:
            return handler(request)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is told)
            return _abort(context, as_problem(error))

    return method


def _abort(context: Any, problem: Problem) -> Any:
    return context.abort(_CODES.get(problem.status, grpc.StatusCode.INTERNAL), str(problem))


def _infer(server: Server) -> Callable[[Any, Any], Any]:
    limits = server.settings.limits

    def method(request: Any, context: Any) -> Any:
        began, served, problem = time.perf_counter(), None, None
        try:
            served = server.registry.get_in_thread(request.model_name, request.model_version or None)
            feeds, outputs = triton_messages.feeds(request, limits), triton_messages.outputs(request)
            results = served.ask_in_thread(feeds, outputs, context.time_remaining())
            response = triton_messages.answer(served, request.id, results)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is told)
            problem = as_problem(error)
        server.metrics.observe("grpc", served, problem.status if problem else 200, time.perf_counter() - began)
        return _abort(context, problem) if problem else response

    return method


def _about(server: Server) -> dict[str, Handler]:
    def about(_: Any) -> Any:
        body = metadata.server(server)
        return pb.ServerMetadataResponse(name=body["name"], version=body["version"], extensions=body["extensions"])

    return {
        "ServerLive": lambda _: pb.ServerLiveResponse(live=True),
        "ServerReady": lambda _: pb.ServerReadyResponse(ready=server.ready),
        "ServerMetadata": about,
    }


def _of_models(server: Server) -> dict[str, Handler]:
    def served(request: Any) -> Served:
        return server.registry.get_in_thread(request.name, request.version or None)

    def ready(request: Any) -> Any:
        try:
            return pb.ModelReadyResponse(ready=bool(served(request)))
        except Problem:
            return pb.ModelReadyResponse(ready=False)

    def about(request: Any) -> Any:
        body = metadata.model(server, served(request))
        return json_format.ParseDict(body, pb.ModelMetadataResponse(), ignore_unknown_fields=True)

    def statistics(request: Any) -> Any:
        found = [served(request)] if request.name else server.registry.all_loaded()
        return json_format.ParseDict(metadata.statistics(found), pb.ModelStatisticsResponse())

    return {
        "ModelReady": ready,
        "ModelMetadata": about,
        "ModelConfig": lambda request: pb.ModelConfigResponse(config=served(request).config),
        "ModelStatistics": statistics,
    }


def _of_repository(server: Server) -> dict[str, Handler]:
    def index(request: Any) -> Any:
        body = {"models": metadata.index(server.registry, request.ready)}
        return json_format.ParseDict(body, pb.RepositoryIndexResponse())

    def load(request: Any) -> Any:
        check_changes(server.settings, request.parameters)
        server.registry.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    def unload(request: Any) -> Any:
        check_changes(server.settings, request.parameters)
        server.registry.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    return {"RepositoryIndex": index, "RepositoryModelLoad": load, "RepositoryModelUnload": unload}
