"""Leader election by a Lease, and the fence: whoever cannot prove that the Lease is his writes nothing.

The client library's own ``LeaseLock`` (kubernetes 37.0.2) cannot create a Lease (it passes a boolean where
its API wants a string), so the protocol of client-go's ``leaderelection`` stands here: a Lease is ours when we
could write our name into it with its resourceVersion as the precondition; another's is free when it has not
changed for its whole duration *by our clock*.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException

from af_operator.errors import Unavailable
from af_operator.settings import Settings

RETRY_SECONDS = 2.0
log = structlog.get_logger()


class Lease:
    """The operator's Lease: 15 s long, renewed every 2 s, given up after 10 s without a renewal."""

    def __init__(self, client: ApiClient, settings: Settings) -> None:
        self._api = CoordinationV1Api(client)
        self._name, self._namespace = settings.lease_name, settings.namespace
        self._identity, self._seconds = settings.identity, settings.lease_seconds
        self._renewed = float("-inf")
        self._seen: tuple[str | None, float] = (None, float("-inf"))

    @property
    def held(self) -> bool:
        """Whether the Lease is surely ours at this moment, by our own monotonic clock."""
        return time.monotonic() - self._renewed < self._seconds

    def fence(self) -> None:
        """Raise ``Unavailable`` unless the Lease is surely ours: a process that slept must not write as it wakes."""
        if not self.held:
            raise Unavailable("the lease is not ours (any more)")

    async def lead(self, started: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, call `started`, and return when the Lease could not be renewed in time."""
        while not await self._try():  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(RETRY_SECONDS)
        log.info("leading", lease=self._name)
        await started()
        while time.monotonic() - self._renewed < self._seconds * 2 / 3:
            await asyncio.sleep(RETRY_SECONDS)
            await self._try()
        log.error("the lease is lost: this process stops", lease=self._name)

    async def release(self) -> None:
        """Give the Lease up, so that the next one need not wait until it expires."""
        if not self.held:
            return
        self._renewed = float("-inf")
        await self._api.patch_namespaced_lease(self._name, self._namespace, {"spec": {"holderIdentity": None}})

    async def _try(self) -> bool:
        began = time.monotonic()
        try:
            # A request that hangs is a failed one, or a silent server would keep us leader for ever.
            async with asyncio.timeout(self._seconds / 3):
                mine = await self._acquire_or_renew()
        except (TimeoutError, aiohttp.ClientError, OSError, ApiException) as error:
            log.warning("the lease could not be had or renewed", error=f"{type(error).__name__}: {error}")
            return False
        if mine:
            self._renewed = began
        return mine

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await self._api.read_namespaced_lease(self._name, self._namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            await self._api.create_namespaced_lease(self._namespace, self._new())
            return True
        if not self._free(lease):
            return False
        now = datetime.now(UTC)
        if lease.spec.holder_identity != self._identity:
            lease.spec.lease_transitions = (lease.spec.lease_transitions or 0) + 1
            lease.spec.acquire_time = now
        lease.spec.holder_identity, lease.spec.renew_time = self._identity, now
        lease.spec.lease_duration_seconds = round(self._seconds)
        await self._api.replace_namespaced_lease(self._name, self._namespace, lease)
        return True

    def _free(self, lease: V1Lease) -> bool:
        if lease.spec.holder_identity in (None, "", self._identity):
            return True
        if lease.metadata.resource_version != self._seen[0]:
            self._seen = (lease.metadata.resource_version, time.monotonic())
        return time.monotonic() - self._seen[1] > (lease.spec.lease_duration_seconds or self._seconds)

    def _new(self) -> V1Lease:
        now = datetime.now(UTC)
        spec = V1LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=round(self._seconds),
            acquire_time=now,
            renew_time=now,
            lease_transitions=0,
        )
        return V1Lease(
            api_version="coordination.k8s.io/v1",
            kind="Lease",
            metadata=V1ObjectMeta(name=self._name, namespace=self._namespace),
            spec=spec,
        )
