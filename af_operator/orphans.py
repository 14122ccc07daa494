"""What a session leaves that was deleted without its children: nobody else would ever take it away.

Kubernetes' garbage collector takes the children of a session that is gone. Where somebody has deleted it and orphaned
these (``--cascade=orphan``), it takes the owner out of each instead, and they run for ever. So one sweep for the whole
operator looks, in its stores alone, for children of sessions that there are not.

What is swept is ours without doubt: it has the session's label, which the operators alone can set, it was made by our
field manager, and nobody else owns it. The API server is asked once whether such a session is really gone. Claims of
volumes stay, for the operator has no right to delete them; they are told of in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice

import structlog
from prometheus_client import Counter

from af_operator import names, ownership
from af_operator.cluster import Cluster
from af_operator.errors import ClusterError, Gone
from af_operator.model import VOLUME_CLAIM, Body, SessionRef, label_of
from af_operator.world import Mark, World

AT_ONCE = 100
"""Objects that one sweep deletes, at most."""
MOST = timedelta(minutes=1)
"""Between two sweeps, at most."""
SWEPT = Counter("af_operator_orphans", "Objects deleted whose session was deleted without them")
log = structlog.get_logger()


class Sweep:
    """Looks for children without a session, again and again.

    Parameters
    ----------
    after
        How long they must have been without one: the garbage collector, and what we know of sessions, may be late.
    """

    def __init__(self, world: World, cluster: Cluster, clock: Callable[[], datetime], after: timedelta) -> None:
        self._world, self._cluster, self._clock = world, cluster, clock
        self._after = after
        self._since: dict[Mark, datetime] = {}
        self._gone: set[Mark] = set()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(min(MOST, self._after / 4).total_seconds())
            try:
                await self()
            except ClusterError as error:
                log.warning("orphans are left for the next sweep", error=str(error))

    async def __call__(self) -> None:
        """Delete what has been without its session for long enough, and no more than a few at a time."""
        now, ownerless = self._clock(), self._world.ownerless()
        self._since = {mark: self._since.get(mark, now) for mark in ownerless}
        self._gone &= ownerless
        if self._world.unseen():
            return  # then a session may only seem to be gone
        due = [mark for mark, since in self._since.items() if now - since >= self._after]
        for mark, body in islice(self._children(due), AT_ONCE):
            if await self._is_gone(mark, body):
                await self._delete(body)

    def _children(self, marks: list[Mark]) -> Iterator[tuple[Mark, Body]]:
        for mark in marks:
            for body in self._world.children_of(mark):
                if body["kind"] != VOLUME_CLAIM.kind and ownership.left_by(mark.uid, body):
                    yield mark, body

    async def _is_gone(self, mark: Mark, child: Body) -> bool:
        if mark in self._gone:
            return True
        # No longer than a label value may be, and of its characters: the name of a session is its label.
        ref = SessionRef(mark.namespace, label_of(child, names.SESSION_NAME) or "", mark.uid)
        try:
            await self._cluster.read_session(ref)
        except Gone:
            self._gone.add(mark)
            self._tell(mark, ref.name)
            return True
        log.error("a session that is there is not known here", namespace=mark.namespace, session=ref.name)
        return False

    def _tell(self, mark: Mark, name: str) -> None:
        claims = [b["metadata"]["name"] for b in self._world.children_of(mark) if b["kind"] == VOLUME_CLAIM.kind]
        about = {"namespace": mark.namespace, "session": name, "uid": mark.uid}
        log.warning("a session was deleted without its children: they go now", **about, claims_that_stay=claims)

    async def _delete(self, body: Body) -> None:
        await self._cluster.delete(body)
        self._world.deleted(body)
        SWEPT.inc()
        log.info("deleted an orphan", kind=body["kind"], child=body["metadata"]["name"])
