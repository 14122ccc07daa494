"""One pass over one profile: what is free in its pools, what the network is like, and one write if that changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from af_operator import capacity, enforcement, reach
from af_operator.cluster import Cluster
from af_operator.enforcement import Finding
from af_operator.errors import Gone
from af_operator.model import Body, Key, Profile
from af_operator.world import World

QUIET = timedelta(seconds=5)
"""A pool's workers come and go in numbers: at most one write to a profile within this time."""

log = structlog.get_logger()


class ProfilePass:
    """Passes over profiles.

    Parameters
    ----------
    world
        Snapshots; never the API.
    cluster
        The port that writes.
    network
        Returns what was found out about the cluster's network; None: nothing could be read yet.
    clock
        The only clock.
    """

    def __init__(
        self, world: World, cluster: Cluster, network: Callable[[], Finding | None], clock: Callable[[], datetime]
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._network = network
        self._clock = clock
        self._written_at: dict[str, datetime] = {}

    async def __call__(self, key: Key) -> datetime | None:
        """Write the profile's status if it changed; return when to look again.

        Raises
        ------
        ClusterError
            ``Unavailable`` above all: the caller tries again with backoff.
        """
        try:
            profile = self._world.profile(key.name)
        except ValidationError:
            return None  # its sessions say so
        body = self._world.profile_body(key.name)
        if profile is None or body is None:
            self._written_at.pop(key.name, None)
            return None
        requests = filter(None, map(capacity.parse_pod, self._world.gpu_pods()))
        told: Body = body.get("status", {})
        desired = capacity.status(profile.spec, self._world.all_nodes(), requests) | self._conditions(profile, told)
        if desired == told:
            return None
        due = self._written_at.get(key.name, datetime.min.replace(tzinfo=self._clock().tzinfo)) + QUIET
        if self._clock() < due:
            return due
        try:
            self._world.wrote(await self._cluster.write_profile_status(key.name, body["metadata"]["uid"], desired))
        except Gone:
            log.info("the profile went away during its pass")
            return None
        self._written_at[key.name] = self._clock()
        return None

    def _conditions(self, profile: Profile, told: Body) -> dict[str, Any]:
        finding, before, now = self._network(), told.get("conditions", []), self._clock()
        kept = [each for each in before if each["type"] == enforcement.CONDITION]
        conditions = kept if finding is None else [enforcement.condition(finding, before, now)]
        if network := self._world.network:
            found = reach.findings(profile.spec, network, self._world.all_nodes())
            conditions.append(reach.condition(found, before, now))
        return {"conditions": conditions} if conditions else {}

    async def tell_broken(self, key: Key, error: Exception) -> None:
        """No condition of a profile is about its passes: the log and the metrics say it."""
