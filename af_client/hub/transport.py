"""The port to the API server for a program with an event loop (JupyterHub): one call, one stream.

The counterpart of ``af_client/transport.py``, with the same requests and the same errors, over ``af_kube``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from af_client.errors import ClientError, from_kube
from af_kube import connection
from af_kube.connection import Connection
from af_kube.errors import KubeError
from af_kube.request import Request


class AsyncTransport(connection.Transport, Protocol):
    """What the spawner asks of a connection to an API server; each method raises a ``ClientError``."""

    async def call(self, request: Request) -> dict[str, Any]:
        """Return the answer as JSON."""


class AsyncCluster:
    """A connection by the pod's service account, or else by the kubeconfig. Made on first use, in the running loop."""

    def __init__(self) -> None:
        self._connection = Connection()

    async def call(self, request: Request) -> dict[str, Any]:
        """See ``AsyncTransport``."""
        with _told():
            return await connection.call(self._connection, request)

    async def read(self, request: Request) -> bytes:
        """See ``Transport``."""
        with _told():
            return await self._connection.read(request)

    @asynccontextmanager
    async def lines(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        """See ``Transport``."""
        with _told():
            async with self._connection.lines(request) as found:
                yield found

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ClientError:
        raise
    except KubeError as error:
        raise from_kube(error) from error
