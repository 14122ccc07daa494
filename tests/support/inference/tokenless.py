"""A proxy of gRPC that adds the token: what is behind it seems to be an engine that asks for none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tests.support.inference.serving import TOKEN, free_port


class _Forward(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Sends each call on as it came, byte by byte, or refuses all."""

    def __init__(self, channel: Any, refuse: grpc.StatusCode | None) -> None:
        self._channel, self._refuse = channel, refuse

    def service(self, details: Any) -> Any:
        method = self._channel.unary_unary(details.method)

        def call(request: bytes, context: Any) -> Any:
            if self._refuse:
                return context.abort(self._refuse, "refused")
            return _answered(method, request, context)

        return grpc.unary_unary_rpc_method_handler(call)


def _answered(method: Callable[..., Any], request: bytes, context: Any) -> Any:
    try:
        return method(request, metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=30)
    except grpc.RpcError as error:
        found: Any = error
        return context.abort(found.code(), found.details())


@contextlib.contextmanager
def tokenless(port: int, own: int | None = None, refuse: grpc.StatusCode | None = None) -> Iterator[int]:
    """Serve what a port serves on another one, without a token; or refuse every call with a code."""
    own = own or free_port()
    server = grpc.server(ThreadPoolExecutor(8))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        server.add_generic_rpc_handlers([_Forward(channel, refuse)])
        server.add_insecure_port(f"127.0.0.1:{own}")
        server.start()
        yield own
        server.stop(None).wait()
