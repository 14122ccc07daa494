"""One pass over one session: plan, apply, delete, one status. No branch per component."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from af_operator import names, plan, registration, status
from af_operator.cluster import Cluster
from af_operator.errors import ClusterError, Gone, NameConflict, OurBug, Refused
from af_operator.hub import Hub
from af_operator.model import (
    Body,
    Key,
    LogRequest,
    Manifest,
    Notice,
    ObjectRef,
    Observed,
    Plan,
    Profile,
    Refusal,
    Registration,
    Session,
    SessionRef,
)
from af_operator.schedulers import Schedulers
from af_operator.world import World

REFUSED_RETRY = timedelta(seconds=30)
"""A quota that is freed sends us no event."""
DELETIONS = 10
"""Requests of one pass at the same time."""
QUIET = timedelta(seconds=8)
"""While pods come up, counts and reasons change many times: one write tells of all that changed within this time.
What `status.urgent` names is written at once."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Remembered:
    """What was refused, and until when asking again would only cost requests."""

    refusal: Refusal
    applied_hash: str
    until: datetime


class Reconciler:
    """Passes over sessions.

    Parameters
    ----------
    world
        Snapshots; never the API.
    cluster
        The port that writes.
    hub
        The port to JupyterHub; no pass waits for it.
    schedulers
        The port to the sessions' Dask schedulers; no pass waits for them.
    clock
        The only clock; everything below gets `now` as a value.
    """

    def __init__(
        self, world: World, cluster: Cluster, hub: Hub, schedulers: Schedulers, clock: Callable[[], datetime]
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._hub = hub
        self._schedulers = schedulers
        self._clock = clock
        self._refused: dict[Key, dict[ObjectRef, Remembered]] = {}
        self._untold: dict[Key, datetime] = {}

    async def __call__(self, key: Key) -> datetime | None:
        """Make the world like the session says, as far as one pass can; return when to look again.

        Raises
        ------
        ClusterError
            ``Unavailable`` above all: the caller tries again with backoff.
        """
        try:
            session = self._world.session(key)
        except ValidationError as error:
            await self._say_unreadable(key, error)
            return None
        if session is None or session.deleting:
            self._refused.pop(key, None)
            self._untold.pop(key, None)
            self._schedulers.forget(key)
            return None
        try:
            return await self._pass(session, self._world.profile(session.spec.profile), self._observe(session))
        except Gone:
            log.info("the session went away during its pass")
            return None

    def _observe(self, session: Session) -> Observed:
        hub = self._hub.view()
        namesake = self._world.namesake(session) if hub else None
        scheduler = self._schedulers.view(session)
        # Drawn here: a plan is a function of what it is given.
        nonce = secrets.token_hex(32)
        return replace(self._world.observed(session), hub=hub, namesake=namesake, scheduler=scheduler, nonce=nonce)

    async def _pass(self, session: Session, profile: Profile | None, observed: Observed) -> datetime | None:
        now = self._clock()
        todo = plan.build(session, profile, observed, now)
        if todo.expired:
            await self._cluster.delete_session(session.ref)
            return None
        if todo.log_wanted:
            observed = replace(observed, log_tail=await self._read_log(session, todo.log_wanted))
            todo = plan.build(session, profile, observed, now)
        todo = replace(todo, registration=registration.decide(session, todo, observed))
        self._schedulers.ask(session.ref, todo.question)
        refusals = await self._carry_out(session, todo, now)
        self._register(todo.registration)
        held = await self._write_status(session, todo, refusals, now)
        again = now + REFUSED_RETRY if refusals else None
        return min((t for t in (todo.look_again, again, held) if t), default=None)

    def _register(self, found: Registration | None) -> None:
        if found and found.wanted:
            self._hub.start(found.server)
        elif found and found.outdated:
            self._hub.look()

    async def _carry_out(self, session: Session, todo: Plan, now: datetime) -> list[Refusal]:
        await self._delete_all(todo.discard)
        refusals = []
        for manifest in todo.apply:
            refusal = await self._apply(session, manifest, now)
            if refusal:
                refusals.append(refusal)
        await self._delete_all(todo.delete)
        return refusals

    async def _delete_all(self, bodies: Iterable[Body]) -> None:
        # Several at once: a pool that shrinks by a hundred workers has a hundred of them to delete.
        at_once = asyncio.Semaphore(DELETIONS)
        await asyncio.gather(*(self._delete(body, at_once) for body in bodies))

    async def _delete(self, body: Body, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            await self._cluster.delete(body)
        self._world.deleted(body)
        log.info("deleted a child", kind=body["kind"], child=body["metadata"]["name"])

    async def _apply(self, session: Session, manifest: Manifest, now: datetime) -> Refusal | None:
        refused = self._refused.setdefault(session.key, {})
        digest = manifest.body["metadata"]["annotations"][names.APPLIED_HASH]
        before = refused.get(manifest.ref)
        if before and before.applied_hash == digest and now < before.until:
            return before.refusal
        live = self._world.observed(session).get(manifest.ref)
        try:
            self._world.wrote(await self._put(manifest, live))
        except (Refused, NameConflict, OurBug) as error:
            return self._remember(session, manifest, error, now)
        refused.pop(manifest.ref, None)
        log.info("applied a child", kind=manifest.ref.kind, child=manifest.ref.name, created=live is None)
        return None

    async def _put(self, manifest: Manifest, live: Body | None) -> Body:
        if live is None:
            return await self._cluster.apply(manifest.body, create=True)
        with suppress(Refused):
            stored = await self._cluster.apply(manifest.body, create=False)
            if not plan.needs_apply(manifest.body, stored):
                return stored
        # Somebody has added to a list of ours, a port or a variable: an apply keeps that, or is refused for it.
        metadata = manifest.body["metadata"] | {"uid": live["metadata"]["uid"]}
        return await self._cluster.overwrite({**manifest.body, "metadata": metadata})

    def _remember(self, session: Session, manifest: Manifest, error: Exception, now: datetime) -> Refusal:
        component = manifest.body["metadata"]["labels"][names.COMPONENT]
        reason = "InternalError" if isinstance(error, OurBug) else type(error).__name__
        refusal = Refusal(manifest.ref, component, reason, str(error))
        digest = manifest.body["metadata"]["annotations"][names.APPLIED_HASH]
        self._refused[session.key][manifest.ref] = Remembered(refusal, digest, now + REFUSED_RETRY)
        say = log.error if isinstance(error, OurBug) else log.warning
        say("a child was refused", kind=manifest.ref.kind, child=manifest.ref.name, reason=reason, error=str(error))
        return refusal

    async def _write_status(
        self, session: Session, todo: Plan, refusals: list[Refusal], now: datetime
    ) -> datetime | None:
        wanted = status.compute(session, todo, refusals, now)
        if wanted == session.status:
            self._untold.pop(session.key, None)
            return None
        due = self._untold.setdefault(session.key, now) + QUIET
        if now < due and not status.urgent(session.status, wanted):
            return due
        self._world.wrote(await self._cluster.write_status(session.ref, wanted))
        self._untold.pop(session.key, None)
        for event in status.events(session.status, wanted):
            await self._record(session, event)
        return None

    async def _record(self, session: Session, event: Notice) -> None:
        try:
            await self._cluster.record(session.ref, event)
        except ClusterError as error:
            # In a namespace that is being deleted, or under a quota: no reason to go through the pass again.
            log.warning("an Event could not be recorded", reason=event.reason, error=str(error))

    async def _read_log(self, session: Session, wanted: LogRequest) -> str:
        try:
            return await self._cluster.read_log(session.ref, wanted)
        except (Gone, Refused, OurBug) as error:
            # The container never started, or its pod is gone: that is what the log says then.
            return f"(no log: {error})"

    async def _say_unreadable(self, key: Key, error: ValidationError) -> None:
        body = self._world.session_body(key)
        if body is None:
            return
        message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        wanted = status.unreadable(body, message, self._clock())
        if wanted != body.get("status"):
            log.error("a stored session does not fit the schema", error=message)
            ref = SessionRef(key.namespace, key.name, body["metadata"]["uid"])
            self._world.wrote(await self._cluster.write_status(ref, wanted))
