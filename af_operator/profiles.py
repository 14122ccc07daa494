"""One pass over one profile: what is free in its node pools, and one write if that changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from af_operator import capacity
from af_operator.cluster import Cluster
from af_operator.errors import Gone
from af_operator.model import Key
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
    clock
        The only clock.
    """

    def __init__(self, world: World, cluster: Cluster, clock: Callable[[], datetime]) -> None:
        self._world = world
        self._cluster = cluster
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
        desired = capacity.status(profile.spec, self._world.all_nodes(), requests)
        if desired == body.get("status", {}):
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

    async def tell_broken(self, key: Key, error: Exception) -> None:
        """A profile has no conditions: the log and the metrics say it."""
