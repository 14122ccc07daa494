"""One pass over one session: plan, apply, delete, one status. No branch per component."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

import structlog
from pydantic import ValidationError

from af_operator import drift, names, ownership, plan, references, registration, status
from af_operator.agents import Agents
from af_operator.cluster import Cluster
from af_operator.components import Components
from af_operator.errors import ClusterError, Gone, NameConflict, OurBug, Refused
from af_operator.hub import Hub
from af_operator.memory import Memory
from af_operator.model import (
    Body,
    Health,
    Key,
    LogRequest,
    Manifest,
    Notice,
    ObjectRef,
    Plan,
    Profile,
    Refusal,
    Session,
    SessionRef,
    grouped,
)
from af_operator.observed import Observed
from af_operator.views import Registration
from af_operator.world import World, with_text

BLIND_RETRY = timedelta(seconds=5)
"""What is not kept up to date is mended by a watch, which may have nothing to tell when it is back."""
BATCH = 32
"""Objects that are alike and made at the same time, at most: others have their turn among them."""
SLOW_START = (1, 2, 4, 8, 16)
"""How many of these at a time at first."""
QUIET = timedelta(seconds=8)
"""While pods come up, counts and reasons change many times: one write tells of all that changed within this time.
What `status.urgent` names is written at once."""

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """What a plan is made of."""

    session: Session
    profile: Profile | None
    observed: Observed
    now: datetime


@dataclass(frozen=True)
class Ports:
    """Everything outside of the process that passes speak with; they wait for the first alone."""

    cluster: Cluster
    hub: Hub
    agents: Agents


class Reconciler:
    """Passes over sessions.

    Parameters
    ----------
    components
        What sessions are made of.
    world
        Snapshots; never the API.
    ports
        The API server, JupyterHub, and the agents inside sessions.
    clock
        The only clock; everything below gets `now` as a value.
    """

    def __init__(self, components: Components, world: World, ports: Ports, clock: Callable[[], datetime]) -> None:
        self._components = components
        self._world = world
        self._cluster, self._hub, self._agents = ports.cluster, ports.hub, ports.agents
        self._clock = clock
        self._memory = Memory()
        self._status_waits_since: dict[Key, datetime] = {}
        self._nonces: dict[Key, str] = {}

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
            await self._tell_unreadable(key, error)
            return None
        if session is None:
            self._memory.forget(key)
            self._status_waits_since.pop(key, None)
            self._nonces.pop(key, None)
            self._agents.forget(key)
            return None
        try:
            profile, now = self._world.profile(session.spec.profile), self._clock()
            look_again = await self._pass(Given(session, profile, self._observe(session, now), now))
        except Gone:
            log.info("the session went away during its pass")
            look_again = None
        self._nonces.pop(key, None)
        return look_again

    def _observe(self, session: Session, now: datetime) -> Observed:
        hub = self._hub.view()
        return replace(
            self._world.observed(session),
            hub=hub,
            namesake=self._world.namesake(session) if hub else None,
            agents=self._agents.views(session),
            read=self._memory.read(session.key, now),
            refused=self._memory.refused(session.key, now),
            promised=self._memory.promised(session.key),
            # Drawn here: a plan is a function of what it is given. The same until a pass comes to its end, for what one
            # that failed has made goes by names that follow from it.
            nonce=self._nonces.setdefault(session.key, secrets.token_hex(32)),
        )

    async def tell_broken(self, key: Key, error: Exception) -> None:
        """Say in the session's status that passes over it fail again and again."""
        body = self._world.session_body(key) if key.namespace else None
        if body is None:
            return
        desired = status.broken(body, error, self._clock())
        if desired != body.get("status"):
            ref = SessionRef(key.namespace, key.name, body["metadata"]["uid"])
            self._world.wrote(await self._cluster.write_status(ref, desired))

    async def _pass(self, given: Given) -> datetime | None:
        todo = self._plan(given)
        if todo.changes_the_world and (unseen := self._world.unseen()):
            log.warning("nothing is made or deleted until the world is seen again", unseen=unseen)
            return given.now + BLIND_RETRY
        if todo.expired:
            await self._cluster.delete_session(given.session.ref)
            return None
        if complete := await self._read(given, todo):
            given, todo = complete, self._plan(complete)
        self._memory.believe(given.session.key, given.observed.read, todo, given.now)
        # Before anything is waited for: another session's pass may come between, and count what is not made yet.
        self._memory.promise(given.session.key, todo.promised)
        self._agents.ask(given.session.ref, todo.questions)
        refusals = await self._carry_out(given, todo)
        return await self._tell(given, todo, refusals)

    def _plan(self, given: Given) -> Plan:
        return plan.build(self._components, given.session, given.profile, given.observed, given.now)

    async def _read(self, given: Given, todo: Plan) -> Given | None:
        """Return what is given with what is in no store, if the plan wants any of that: a log, the text of files."""
        session, observed = given.session, given.observed
        if todo.log_wanted:
            observed = replace(observed, log_tail=await self._read_log(session, todo.log_wanted))
        if todo.unread:
            observed = replace(observed, read={**observed.read, **await self._look_at(session, todo.unread)})
        if not todo.source_wanted:
            self._world.text_is_kept(session)
        elif session.trimmed:
            session = with_text(session, await self._cluster.read_session(session.ref))
        is_more = session is not given.session or observed is not given.observed
        promised = self._memory.promised(session.key)  # others may have planned while this one waited
        return replace(given, session=session, observed=replace(observed, promised=promised)) if is_more else None

    async def _look_at(self, session: Session, refs: Collection[ObjectRef]) -> dict[ObjectRef, Body | None]:
        bodies = await _all(self._cluster.read_metadata(session.namespace, ref) for ref in refs)
        return dict(zip(refs, bodies, strict=True))

    async def _carry_out(self, given: Given, todo: Plan) -> list[Refusal]:
        await self._delete_all(todo.discard)
        refusals = await self._apply_all(given, todo)
        await self._delete_all(todo.delete)
        return refusals

    async def _tell(self, given: Given, todo: Plan, refusals: list[Refusal]) -> datetime | None:
        """Tell JupyterHub and the session's status of what was planned and refused; return when to look again."""
        session, now = given.session, given.now
        decided = registration.decide(session, todo, given.observed)
        self._register(decided)
        told = replace(todo, registration=decided, health=self._health(given, todo))
        if todo.room and not todo.room.true:
            self._memory.let_go(session.key)
        due = await self._write_status(session, told, refusals, now)
        return min((t for t in (todo.look_again, self._memory.next_retry(session.key, now), due) if t), default=None)

    def _health(self, given: Given, todo: Plan) -> Mapping[str, Health]:
        """Return how components are, after what was refused in this pass: of a batch that is its pool's to tell."""
        batches = self._memory.refused(given.session.key, given.now)
        if batches == given.observed.refused:
            return todo.health
        return self._plan(replace(given, observed=replace(given.observed, refused=batches))).health

    def _register(self, decided: Registration | None) -> None:
        if decided and decided.wanted:
            self._hub.start(decided.server)
        elif decided and decided.outdated:
            self._hub.look()

    async def _delete_all(self, bodies: Iterable[Body]) -> None:
        await _all(self._delete(body) for body in bodies)

    async def _delete(self, body: Body) -> None:
        await self._cluster.delete(body)
        self._world.deleted(body)
        log.info("deleted a child", kind=body["kind"], child=body["metadata"]["name"])

    async def _apply_all(self, given: Given, todo: Plan) -> list[Refusal]:
        """Apply all at once but for what refers to others; what refers to something refused is not made."""
        session, observed, now = given.session, given.observed, given.now
        manifests, refused = list(todo.apply), dict[ObjectRef, Refusal]()
        live = {m.ref for m in manifests if observed.get(m.ref)}
        for wave in references.waves(manifests):
            not_to_be_had = refused.keys() | todo.held
            held_back = references.held_back(manifests, not_to_be_had, live) if not_to_be_had else {}
            for ref in (m.ref for m in wave if m.ref in held_back):
                log.info(
                    "a child waits for one that is refused", kind=ref.kind, child=ref.name, refused=held_back[ref].name
                )
            refusals = await self._apply_wave(session, [m for m in wave if m.ref not in held_back], observed, now)
            refused |= {refusal.ref: refusal for refusal in refusals}
        return list(refused.values())

    async def _apply_wave(
        self, session: Session, wave: Collection[Manifest], observed: Observed, now: datetime
    ) -> list[Refusal]:
        unbatched = [self._apply(session, m, observed, now) for m in wave if not m.batch]
        batches = grouped((m for m in wave if m.batch), lambda m: m.batch)
        batches_made = (self._make_batch(session, batch, observed, now) for batch in batches.values())
        refusals, _ = await asyncio.gather(_all(unbatched), _all(batches_made))
        return [refusal for refusal in refusals if refusal]

    async def _make_batch(self, session: Session, batch: Sequence[Manifest], observed: Observed, now: datetime) -> None:
        """Make what is alike, one at first and then ever more at a time: a quota that is full is asked few times."""
        rest, refused = iter(batch), list[tuple[Manifest, Refusal]]()

        async def make(manifests: Iterable[Manifest]) -> None:
            for manifest in manifests:
                if refused:
                    return
                if refusal := await self._make(session, manifest, observed):
                    refused.append((manifest, refusal))

        for at_once in SLOW_START:
            await _all(make([manifest]) for manifest in islice(rest, at_once))
        # From here on none waits for the slowest of those beside it: they share what is left.
        await _all(make(rest) for _ in range(BATCH))
        # Only once all of them are back: what is refused of one is not undone by those that were made beside it.
        if refused:
            self._memory.refuse(session.key, *refused[0], now)
        else:
            self._memory.take(session.key, batch[0])

    async def _apply(self, session: Session, manifest: Manifest, observed: Observed, now: datetime) -> Refusal | None:
        """Make one object what it should be, unless that was refused a short while ago."""
        if earlier := self._memory.refusal_of(session.key, manifest, now):
            return earlier
        refusal = await self._make(session, manifest, observed)
        if refusal:
            self._memory.refuse(session.key, manifest, refusal, now)
        else:
            self._memory.take(session.key, manifest)
        return refusal

    async def _make(self, session: Session, manifest: Manifest, observed: Observed) -> Refusal | None:
        if manifest.tried:
            return await self._try_out(session, manifest)
        live = observed.get(manifest.ref)
        try:
            self._world.wrote(await self._put(session, manifest, live, observed))
        except (Refused, NameConflict, OurBug) as error:
            return _refusal(manifest, error)
        log.info("applied a child", kind=manifest.ref.kind, child=manifest.ref.name, created=live is None)
        return None

    async def _try_out(self, session: Session, manifest: Manifest) -> Refusal | None:
        if not self._memory.is_to_try(session.key, manifest, self._clock()):
            return None
        try:
            await self._cluster.try_out(manifest.body)
        except (Refused, OurBug) as error:
            return _refusal(manifest, error)
        return None

    async def _put(self, session: Session, manifest: Manifest, live: Body | None, observed: Observed) -> Body:
        if live is None:
            live = await self._cluster.create(manifest.body)
            if manifest.shared or manifest.kept or not drift.needs_apply(manifest.body, live):
                return live
        elif not ownership.of_session(session, live, observed):
            raise NameConflict(f"{manifest.ref.kind} {manifest.ref.name!r} was not made by this operator: delete it")
        return await self._set_right(manifest.body, live)

    async def _set_right(self, body: Body, live: Body) -> Body:
        with_uid = {**body, "metadata": body["metadata"] | {"uid": live["metadata"]["uid"]}}
        with suppress(Refused):
            live = await self._cluster.apply(with_uid)
            if not drift.needs_apply(body, live):
                return live
        # Somebody has added to a list of ours, a port or a variable: an apply keeps that, or is refused for it.
        return await self._cluster.overwrite(drift.overwriting(body, live))

    async def _write_status(
        self, session: Session, todo: Plan, refusals: list[Refusal], now: datetime
    ) -> datetime | None:
        desired = status.compute(session, todo, refusals, now)
        if desired == session.status:
            self._status_waits_since.pop(session.key, None)
            return None
        due = self._status_waits_since.setdefault(session.key, now) + QUIET
        if now < due and not status.urgent(session.status, desired):
            return due
        self._world.wrote(await self._cluster.write_status(session.ref, desired))
        self._status_waits_since.pop(session.key, None)
        for event in status.events(session.status, desired):
            await self._record(session, event)
        return None

    async def _record(self, session: Session, event: Notice) -> None:
        try:
            await self._cluster.record(session.ref, event)
        except ClusterError as error:
            # In a namespace that is being deleted, or under a quota: no reason to go through the pass again.
            log.warning("an Event could not be recorded", reason=event.reason, error=str(error))

    async def _read_log(self, session: Session, request: LogRequest) -> str:
        try:
            return await self._cluster.read_log(session.ref, request)
        except (Gone, Refused, OurBug) as error:
            # The container never started, or its pod is gone: that is what the log says then.
            return f"(no log: {error})"

    async def _tell_unreadable(self, key: Key, error: ValidationError) -> None:
        body = self._world.session_body(key)
        if body is None:
            return
        message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        desired = status.unreadable(body, message, self._clock())
        if desired != body.get("status"):
            log.error("a stored session does not fit the schema", error=message)
            ref = SessionRef(key.namespace, key.name, body["metadata"]["uid"])
            self._world.wrote(await self._cluster.write_status(ref, desired))


async def _all(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Return what all of them return; where one fails, only when none is under way any more."""
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    failed = next((each for each in results if isinstance(each, BaseException)), None)
    if failed is not None:
        raise failed
    return [each for each in results if not isinstance(each, BaseException)]


def _refusal(manifest: Manifest, error: Exception) -> Refusal:
    component, ref = manifest.body["metadata"]["labels"][names.COMPONENT], manifest.ref
    reason = "InternalError" if isinstance(error, OurBug) else type(error).__name__
    log_refusal = log.error if isinstance(error, OurBug) else log.warning
    log_refusal("a child was refused", kind=ref.kind, child=ref.name, reason=reason, error=str(error))
    return Refusal(ref, component, reason, str(error))
