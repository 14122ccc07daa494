"""Leader election by a Lease, and the fence: whoever cannot prove that the Lease is his writes nothing.

The protocol is that of client-go's ``leaderelection``: a Lease is ours when we could write our name into it with its
resourceVersion as the precondition; another's is free when it has not changed for its whole duration *by our clock*.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from af_kube.connection import Transport, call
from af_kube.errors import HttpError, KubeError
from af_kube.request import MERGE_PATCH, Request
from af_operator.cluster import micro_now
from af_operator.errors import Unavailable
from af_operator.settings import Settings

RETRY_SECONDS = 2.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
log = structlog.get_logger()


class Lease:
    """The operator's Lease: 15 s long, renewed every 2 s, given up after 10 s without a renewal."""

    def __init__(self, api: Transport, settings: Settings) -> None:
        self._api = api
        self._name, self._namespace = settings.lease_name, settings.namespace
        self._identity, self._seconds = settings.identity, settings.lease_seconds
        self._renewed = float("-inf")
        self._observed: tuple[str | None, float] = (None, float("-inf"))

    @property
    def held(self) -> bool:
        """Whether the Lease is surely ours at this moment, by our own monotonic clock."""
        return self._remaining() > 0

    def fence(self) -> float:
        """Return the seconds in which the Lease is surely ours: no request may take longer.

        Raises
        ------
        Unavailable
            It is not ours: a process that slept must not write as it wakes.
        """
        remaining = self._remaining()
        if remaining <= 0:
            raise Unavailable("the lease is not ours (any more)")
        return remaining

    async def lead(self, started: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, call `started`, and return when the Lease could not be renewed in time."""
        while not await self._try_to_hold():  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(RETRY_SECONDS)
        log.info("leading", lease=self._name)
        await started()
        while time.monotonic() - self._renewed < self._seconds * 2 / 3:
            await asyncio.sleep(min(RETRY_SECONDS, self._seconds / 5))
            await self._try_to_hold()
        log.error("the lease is lost: this process stops", lease=self._name)

    async def release(self) -> None:
        """Give the Lease up, so that the next one need not wait until it expires. Raises nothing: it will expire."""
        if not self.held:
            return
        seconds, self._renewed = min(5.0, self._remaining()), float("-inf")
        released = {"spec": {"holderIdentity": None}}
        try:
            await call(self._api, Request("PATCH", self._path, {}, released, MERGE_PATCH, read_seconds=seconds))
        except KubeError as error:
            log.warning("the lease could not be given up", error=str(error))

    def _remaining(self) -> float:
        return self._seconds - (time.monotonic() - self._renewed)

    async def _try_to_hold(self) -> bool:
        began = time.monotonic()
        try:
            # A request that hangs is a failed one, or a silent server would keep us leader for ever.
            async with asyncio.timeout(self._seconds / 3):
                acquired = await self._acquire_or_renew()
        except (TimeoutError, KubeError) as error:
            log.warning("the lease could not be had or renewed", error=f"{type(error).__name__}: {error}")
            return False
        if acquired:
            self._renewed = began
        return acquired

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await call(self._api, Request("GET", self._path))
        except HttpError as error:
            if error.status != 404:
                raise
            await call(self._api, Request("POST", LEASES.format(namespace=self._namespace), body=self._new()))
            return True
        if not self._free(lease):
            return False
        await call(self._api, Request("PUT", self._path, body=self._renewal(lease)))
        return True

    def _free(self, lease: dict[str, Any]) -> bool:
        spec, version = lease["spec"], lease["metadata"]["resourceVersion"]
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        if version != self._observed[0]:
            self._observed = (version, time.monotonic())
        return time.monotonic() - self._observed[1] > (spec.get("leaseDurationSeconds") or self._seconds)

    def _renewal(self, lease: dict[str, Any]) -> dict[str, Any]:
        spec = lease["spec"] | {"renewTime": micro_now(), "leaseDurationSeconds": round(self._seconds)}
        if spec.get("holderIdentity") != self._identity:
            spec |= {"leaseTransitions": (spec.get("leaseTransitions") or 0) + 1, "acquireTime": spec["renewTime"]}
        return lease | {"spec": spec | {"holderIdentity": self._identity}}

    def _new(self) -> dict[str, Any]:
        now = micro_now()
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._seconds),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        metadata = {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    @property
    def _path(self) -> str:
        return f"{LEASES.format(namespace=self._namespace)}/{self._name}"
