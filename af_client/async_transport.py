"""The port to the API server for a program with an event loop (JupyterHub): one call, one stream.

The counterpart of ``transport.py``, with the same requests and the same errors.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import client, config

from af_client.errors import NoCluster, Unreachable, from_response
from af_client.transport import Request

CLOSING_SECONDS = 0.25
"""In which aiohttp ends its connections, in the background: nobody tells when it is done."""


class AsyncTransport(Protocol):
    """What the spawner asks of a connection to an API server."""

    async def call(self, request: Request) -> dict[str, Any]:
        """Return the answer; raise a ``ClientError``."""

    def lines(self, request: Request) -> AsyncGenerator[bytes]:
        """Yield the answer line by line, as it comes; raise a ``ClientError``."""


class AsyncCluster:
    """A connection by the pod's service account, or else by the kubeconfig. Made on first use, in the running loop."""

    def __init__(self) -> None:
        self._client: Any = None

    async def call(self, request: Request) -> dict[str, Any]:
        """Return the answer."""
        try:
            response = await self._send(request)
            found = json.loads(await response.read() or b"{}")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        return found if isinstance(found, dict) else {}

    async def lines(self, request: Request) -> AsyncGenerator[bytes]:
        """Yield the answer line by line, as it comes."""
        try:
            response = (await self._send(request)).response
            try:
                async for line in response.content:
                    yield line
            finally:
                response.close()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None
            await asyncio.sleep(CLOSING_SECONDS)

    async def _send(self, request: Request) -> Any:
        api = await self._connected()
        verb, url, headers, _, _ = await api.param_serialize(
            request.verb,
            request.path,
            query_params=list(request.query.items()),
            header_params={"Accept": "application/json", "Content-Type": request.content_type},
            auth_settings=["BearerToken"],
        )
        response = await api.call_api(verb, url, headers, request.body, _request_timeout=request.read_seconds)
        if response.status >= 400:
            raise from_response(response.status, (await response.read()).decode("utf-8", "replace"))
        return response

    async def _connected(self) -> Any:
        if self._client is None:
            settings = client.Configuration()
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                try:
                    # The client reads the variable once, when it is imported.
                    await config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
                except (config.ConfigException, OSError) as error:
                    raise NoCluster(f"neither a service account nor a kubeconfig that works: {error}") from error
            self._client = client.ApiClient(settings)
        return self._client


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(f"the API server does not answer: {type(error).__name__}: {error}")
