"""One start of a JupyterHub server: its session is created, resumed or adopted, and awaited."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from af_client.errors import ClientError, Forbidden, NameTaken, NotFound
from af_client.hub import names
from af_client.hub.errors import NotStarted, from_client
from af_client.hub.progress import CLUSTER_UNSEEN, never_fits, waiting_for
from af_client.hub.sessions import HubSessions, NameConflict, NotSuspended, Ref
from af_client.model import Condition, Session

LOG = logging.getLogger(__name__)
ATTEMPTS = 4
NAMES = 6
"""So many names are tried for a session, beyond those that can be foreseen random ones: a quota or a policy may refuse
under any name."""
LATE_SECONDS = 3.0
"""We say ourselves why a start takes too long, before JupyterHub's own time-out, which would count as a crash."""
LOOK_SECONDS = 5.0
MIN_TOKEN = 8
"""JupyterHub takes no shorter one."""


class SeenLate(ClientError):
    """There is a session for this server; the watch did not know it yet."""


@dataclass(frozen=True)
class Order:
    """What is to be started.

    Parameters
    ----------
    namespace, spec
        Of a new session; asked only if one is needed.
    environment
        What its server needs of the Hub; asked only if the server is to begin anew.
    seconds
        JupyterHub's time-out of a start.
    only_adopt
        Whether this is the operator, which asks for a session that runs already to be shown.
    """

    user: str
    server: str
    namespace: Callable[[], str]
    spec: Callable[[], Awaitable[dict[str, Any]]]
    environment: Callable[[], Mapping[str, str]]
    seconds: float
    only_adopt: bool = False


class Start:
    """A start on its way; `session` is None until it is known."""

    def __init__(self, sessions: HubSessions, order: Order) -> None:
        self.ref: Ref | None = None
        self.began = time.monotonic()
        self.adopted = False
        """Whether the server runs with an environment that is older than this start."""
        self._sessions = sessions
        self._order = order
        self._made: Ref | None = None
        self._spec: dict[str, Any] | None = None
        """Of a session that could not be under its name."""
        self._left: set[str] = set()
        """Names under which something of another is, or is going."""

    @property
    def session(self) -> Session | None:
        """The session as it is now."""
        return self._sessions.get(self.ref) if self.ref else None

    async def until_ready(self) -> Ref:
        """Return the session when its server can be opened.

        Raises
        ------
        NotStarted
            It cannot, or not in time.
        """
        try:
            for _ in range(NAMES):
                with suppress(NameConflict):
                    return await self._under_this_name()
            return await self._under_this_name()
        except NameConflict as error:
            raise _without_name(f"no name was free for your session: {error}") from error
        except ClientError as error:
            await self._clean_up()
            namespace = self.ref.namespace if self.ref else self._order.namespace()
            raise from_client(error, namespace) from error

    async def _under_this_name(self) -> Ref:
        try:
            ref = await self._bring_up()
            await self._wait(ref)
        except NameConflict as error:
            await self._leave_name(error)
            raise
        return ref

    async def _leave_name(self, conflict: NameConflict) -> None:
        """Delete a session that cannot be under its name; the next one has another, and the same spec."""
        session = self.session
        if session is None:
            return  # not even made, or deleted by somebody else
        ref = Ref.of(session.body)
        if not self._helps_another_name(session, conflict):
            if self._made == ref:
                await self._sessions.delete(ref)  # so that nothing is left to trip over
            raise _without_name(f"session {session.name} cannot run: {conflict}")
        LOG.warning("session %s/%s cannot be under its name: %s", ref.namespace, ref.name, conflict)
        self._spec = dict(session.body["spec"])
        self._left.add(session.name)
        await self._sessions.delete(ref)

    def _helps_another_name(self, session: Session, conflict: NameConflict) -> bool:
        """Return whether a session can give way to one of another name: not with models in it, which go with it."""
        made_here = names.made_here(session.name, self._order.user, self._order.server)
        ref = Ref.of(session.body)
        uploads = ref != self._made and (session.body["spec"].get("inference") or {}).get("upload")
        # Not where it is the name of the user's home that is taken.
        return made_here and not uploads and f" {session.name}" in str(conflict) and not self._order.only_adopt

    async def _clean_up(self) -> None:
        """Delete a session that never began: the next start would find it, and ask for no choices."""
        session = self.session
        if session is not None and session.suspended and self._made == self.ref:
            with suppress(ClientError):  # the error that brought us here is the one to tell
                await self._sessions.delete(Ref.of(session.body))

    async def token(self) -> str:
        """Return the token with which an adopted server speaks to the Hub."""
        ref = self._known()
        try:
            token = await self._granted_token(ref)
        except ClientError as error:
            raise from_client(error, ref.namespace) from error
        if token is None or len(token) < MIN_TOKEN:
            raise NotStarted(
                f"session {ref.name} runs without a token for JupyterHub",
                "suspend it from where you have started it, then start it here; if that does not help, ask your "
                "facility's admin whether the operator knows this JupyterHub",
                reason="no-token",
            )
        return token

    async def _granted_token(self, ref: Ref) -> str | None:
        """Return the token once the session's Role lets JupyterHub read it: an operator gives that with the server."""
        while True:
            try:
                return await self._sessions.token(ref)
            except Forbidden:
                left = self._seconds_left()
                if left <= 0:
                    raise
                await self._sessions.changed(min(left, LOOK_SECONDS))

    def _seconds_left(self) -> float:
        return self.began + self._order.seconds - LATE_SECONDS - time.monotonic()

    async def _bring_up(self) -> Ref:
        self._check_name()
        if not await self._sessions.ready(10):
            raise self._sessions.failure or ClientError("no answer within 10 s")
        if self._order.only_adopt:
            await self._must_run()
        for _ in range(ATTEMPTS):
            session = self._sessions.find(self._order.user, self._order.server)
            try:
                await self._attempt(session)
            except NotFound:
                if session is None:
                    raise  # the namespace is missing
                self._sessions.lost(Ref.of(session.body))  # deleted a moment ago
            except NotSuspended:
                await self._sessions.changed(1)
            except SeenLate:
                LOG.info("%s:%s has a session that the watch had not told of", self._order.user, self._order.server)
            else:
                return self._known()
        raise NotStarted("the session changes all the time", "try again in a moment", reason="conflict")

    async def _must_run(self) -> None:
        """Refuse to create or to resume; the session may be news to the watch yet."""
        deadline = time.monotonic() + LOOK_SECONDS
        while True:
            session = self._sessions.find(self._order.user, self._order.server)
            if session is not None and not session.suspended and not session.ended:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotStarted(
                    f"no session of user {self._order.user!r} for server {self._order.server!r} runs in the "
                    "namespaces that this JupyterHub watches",
                    "add the session's namespace to c.AnalysisSessionSpawner.namespaces",
                    reason="no-session",
                    status_code=409,
                )
            await self._sessions.changed(left)

    def _check_name(self) -> None:
        name = self._order.server
        if not names.SERVER_NAME.fullmatch(name) or len(name) > names.MAX_SERVER_NAME:
            raise NotStarted(
                f"a server cannot be called {name[: names.MAX_SERVER_NAME]!r}",
                "use letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, "
                f"at most {names.MAX_SERVER_NAME} of them",
                reason="bad-name",
            )

    async def _attempt(self, session: Session | None) -> None:
        if session is not None and session.ended:
            await self._make_room(session)
            session = None
        if session is None:
            session = await self._create()
            self._made = Ref.of(session.body)
        self.ref = Ref.of(session.body)
        self.adopted = not session.suspended
        if session.suspended:
            # Before it runs, never while: a running server has what its Secret says.
            await self._sessions.write_environment(self.ref, self._order.environment())
            await self._sessions.resume(self.ref)
        else:
            LOG.info("session %s/%s runs already: adopting it", session.namespace, session.name)

    async def _make_room(self, ended: Session) -> None:
        """Delete a session that has ended, if it was made here; who made another may want to read how that ended."""
        self._left.add(ended.name)  # also what is deleted has it for a moment, and its children for some more
        if names.made_here(ended.name, self._order.user, self._order.server):
            await self._sessions.delete(Ref.of(ended.body))

    async def _create(self) -> Session:
        namespace = self._order.namespace()
        if not self._sessions.watches(namespace):
            raise NotStarted(
                f"JupyterHub does not watch namespace {namespace!r}",
                "ask your facility's admin to add it to c.AnalysisSessionSpawner.namespaces",
                reason="no-namespace",
                status_code=503,
            )
        spec = self._spec or await self._order.spec()
        spec["notebook"]["serverName"] = self._order.server
        # Suspended, so that its server does not start before its environment is there.
        spec |= {"user": self._order.user, "suspend": True}
        for name in self._names():
            try:
                return await self._sessions.create(namespace, name, spec)
            except NameTaken:
                await self._must_be_anothers(namespace, name)
        raise NameConflict("sessions of others have all names that were tried")

    def _names(self) -> Iterator[str]:
        foreseen = names.session_names(self._order.user, self._order.server)
        yield from (name for name in foreseen if name not in self._left)
        for _ in range(NAMES):
            yield names.another(self._order.user, self._order.server)

    async def _must_be_anothers(self, namespace: str, name: str) -> None:
        """Never make a second session for a server, not even when the answer to a first request was lost."""
        body = (await self._sessions.read(namespace, name)).body
        server = self._order.user, self._order.server
        if (body["spec"].get("user"), names.server_name(body)) == server:
            raise SeenLate(f"session {name} is there already")
        LOG.info("there is another session called %s/%s", namespace, name)

    async def _wait(self, ref: Ref) -> None:
        while True:
            session = self._sessions.get(ref)
            if session is None:  # the watch forgets nothing while it is blind
                raise NotStarted(f"session {ref.name} was deleted meanwhile", "start again", reason="deleted")
            await self._raise_if_over(session, ref)
            ready = session.condition("Ready")
            if ready and ready.status:
                return
            left = self._seconds_left()
            if left <= 0:
                raise self._late(session)
            await self._sessions.changed(min(left, LOOK_SECONDS))

    async def _raise_if_over(self, session: Session, ref: Ref) -> None:
        accepted = session.condition("Accepted")
        if accepted and accepted.status is False:
            if self._made == ref:
                await self._sessions.delete(ref)  # so that nothing is left to trip over
            raise NotStarted(accepted.message, "choose again", reason=accepted.reason)
        if self._made == ref and (lacking := never_fits(session)):
            await self._sessions.delete(ref)
            raise NotStarted(lacking, "choose less", reason="never-fits")
        if session.ended:
            why = waiting_for(session)
            raise NotStarted(f"the session has ended: {why}", "start again", reason="ended")
        if session.suspended:
            raise NotStarted("the session was suspended meanwhile", "start again", reason="suspended")
        if conflict := self._conflict(session):
            raise NameConflict(conflict.message)

    def _conflict(self, session: Session) -> Condition | None:
        """Return the condition that says that a name is taken; of what runs already only if nobody can be in it."""
        taken = (c for c in session.conditions if c.status is False and c.reason == "NameConflict")
        return next((c for c in taken if c.type == "NotebookReady" or not self.adopted), None)

    def _late(self, session: Session) -> NotStarted:
        why = waiting_for(session) if self._sessions.fresh else CLUSTER_UNSEEN
        # A default server cannot be deleted.
        give_up = "delete the server" if self._order.server else "press Start once more, then Stop,"
        return NotStarted(
            f"the server is not ready after {self._order.seconds:g} s: {why}",
            f"start again in some minutes: until then it goes on by itself, and is found; {give_up} to give up",
            reason="late",
            status_code=503,
        )

    def _known(self) -> Ref:
        assert self.ref is not None  # noqa: S101 - set by _attempt
        return self.ref


def _without_name(why: str) -> NotStarted:
    next_step = "try again in a moment; if this stays so, tell your facility's admin, who can free the name"
    return NotStarted(why, next_step, reason="name-conflict", status_code=409)
