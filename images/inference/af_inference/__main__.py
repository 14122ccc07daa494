"""Serve the models of a session: HTTP and gRPC from one process, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator

import uvicorn

from af_inference import log, settings, triton
from af_inference.app import application
from af_inference.server import Server
from af_inference.settings import InvalidSettings

_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 12  # for each protocol, one after the other: a pod has 30


class Http(uvicorn.Server):
    """An HTTP server that ends well on a signal; uvicorn's own raises it again, and the pod would seem to fail."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end what is served, after the requests that are being answered."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def end(self) -> None:
        """Serve no more, after the requests that are being answered."""
        self.should_exit = True


def main() -> None:
    """Run the server."""
    log.set_up()
    try:
        server = Server.of(settings.load())
    except (InvalidSettings, OSError) as error:
        sys.exit(f"af_inference: {error}")
    http = Http(_config(server))
    server.start(http.end)
    found = server.settings
    log.info("serving", http=found.http, grpc=found.grpc, provider=server.registry.source.provider)
    calls = triton.start(server)
    http.run()
    server.stop()
    calls.stop(_GRACE_SECONDS).wait()
    if server.given_up:
        # The last line of the log, by which the session says why.
        sys.exit(f"af_inference: {server.reasons}")


def _config(server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        application(server),
        host=server.settings.host,
        port=server.settings.http,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
