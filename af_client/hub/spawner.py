"""JupyterHub's spawner: a server of the Hub is an ``AnalysisSession``.

``c.JupyterHub.spawner_class = "af_client.spawner.AnalysisSessionSpawner"``. It creates, watches, suspends and deletes
sessions, and writes one Secret for each; pods, volumes and services are the operator's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from jupyterhub.spawner import Spawner
from traitlets import Bool, Callable, List, TraitError, Unicode, Union, default, validate

from af_client.errors import ClientError, NotFound
from af_client.hub import names, options_form
from af_client.hub.choices import BadOption
from af_client.hub.errors import LinkShown, NotStarted, bad_option, from_client
from af_client.hub.offers import Offer
from af_client.hub.progress import CLUSTER_UNSEEN, OPERATOR_AWAY, percent, sentences
from af_client.hub.sessions import HubSessions, Ref
from af_client.hub.start import Order, Start
from af_client.hub.transport import AsyncCluster, AsyncTransport
from af_client.model import Session
from af_kube.store import Change
from af_names import NOTEBOOK_PORT, notebook_url

OPERATOR_SECONDS = 10.0
"""So long an operator that runs may take to look at a session."""
FAILED = 1


class AnalysisSessionSpawner(Spawner):
    """Starts, finds, suspends and deletes the session of one server of one user."""

    namespace_template = Union(
        [Unicode(), Callable()],
        default_value="{username}",
        help="Namespace of a new session: text with {username} and {group} (the first of the user's groups, by name), "
        "made safe; or a function of the spawner that returns the namespace. The namespaces must exist.",
    ).tag(config=True)
    namespaces = List(
        Unicode(),
        help="Namespaces whose sessions are shown; every namespace if empty, which needs the right to list and watch "
        "sessions in the whole cluster.",
    ).tag(config=True)
    profiles = List(Unicode(), help="Profiles that are offered; all if empty.").tag(config=True)
    limit_profiles = Bool(
        help="Whether a user is offered only profiles that they may `use`, by the name and groups that they have here.",
    ).tag(config=True)
    default_profile = Unicode("default", help="Profile of who does not choose.").tag(config=True)

    operator_service = Unicode(
        "af-operator",
        help="The JupyterHub service as which the operator asks for servers of sessions that run already. What it asks "
        "for is shown, and never created or resumed.",
    ).tag(config=True)

    _shared: ClassVar[dict[tuple[str, ...], HubSessions]] = {}
    _starting = False
    _up = False
    _ref: Ref | None = None
    _start: Start | None = None
    _task: asyncio.Task[Any] | None = None
    _oauth_scopes: tuple[str, ...] = ()

    @validate("namespace_template")
    def _check_namespace_template(self, proposal: Any) -> Any:
        if not callable(proposal.value):
            try:
                names.namespace(proposal.value, "alice", "physics")
            except (KeyError, ValueError, IndexError) as error:
                raise TraitError(f"{proposal.value!r}: only {{username}} and {{group}} can be used in it") from error
        return proposal.value

    @default("ip")
    def _default_ip(self) -> str:
        return "0.0.0.0"  # noqa: S104 - of the pod

    @default("port")
    def _default_port(self) -> int:
        return NOTEBOOK_PORT

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return 600

    @default("env_keep")
    def _default_env_keep(self) -> list[str]:
        return []  # the Hub's PATH is not the image's

    @default("options_form")
    def _default_options_form(self) -> Any:
        return AnalysisSessionSpawner.form

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return self.from_form

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        return AnalysisSessionSpawner.check_options

    @property
    def sessions(self) -> HubSessions:
        """The sessions of the whole Hub: one watch for all servers."""
        key = tuple(sorted(self.namespaces))
        if key not in self._shared:
            self._shared[key] = HubSessions(self.transport(), self.namespaces)
        return self._shared[key]

    @staticmethod
    def transport() -> AsyncTransport:
        """Return a new connection to the API server."""
        return AsyncCluster()

    # The form, links, and the REST API.

    async def offers(self) -> list[Offer]:
        """Return the profiles that are offered, by name, the default one first."""
        profiles = self.sessions.profiles
        if not await profiles.ready() and not profiles.objects:
            raise from_client(profiles.failure or ClientError("no answer within 5 s"), "")
        found = [Offer.parse(body) for body in profiles.objects]
        found = [offer for offer in found if not self.profiles or offer.profile in self.profiles]
        found = await self._usable(found) if self.limit_profiles else found
        return sorted(found, key=lambda offer: (offer.profile != self.default_profile, offer.profile))

    async def _usable(self, offers: list[Offer]) -> list[Offer]:
        user, groups, namespace = self.user.name, self._groups(), self.namespace()
        asked = (self.sessions.may_use(offer.profile, user, groups, namespace) for offer in offers)
        try:
            answers = await asyncio.gather(*asked)
        except ClientError as error:
            raise from_client(error, namespace) from error
        return [offer for offer, allowed in zip(offers, answers, strict=True) if allowed]

    async def form(self) -> str:
        """Return the form; for a server that exists, what it is."""
        await self.sessions.ready()
        session = self._find()
        if session is not None and not session.ended:
            return options_form.render_existing(session)
        offers = await self.offers()
        return options_form.render(offers, self._default_of(offers), self._prefilled(offers))

    async def from_form(self, fields: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the options that a form's fields stand for."""
        offers = await self.offers()
        try:
            return options_form.from_fields(fields, offers, self._default_of(offers))
        except BadOption as error:
            raise bad_option(str(error)) from error

    async def options_from_query(self, query_data: Mapping[str, list[str]]) -> dict[str, Any]:
        """Never start a server by a link alone: what it says is checked, and stands in the form.

        Raises
        ------
        NotStarted
            A choice that is not offered.
        LinkShown
            Always else: JupyterHub then shows the form.
        """
        options = await self.from_form(query_data)
        await self.check_options(options)
        raise LinkShown("the link's choices are shown in the form; nothing was started")

    async def check_options(self, options: Any) -> None:
        """Refuse options that cannot be had, before anything is started."""
        await self.sessions.ready()
        session = self._find()
        exists = session is not None and not session.ended
        # What exists comes back as it was, whatever the profile offers by now; the operator chooses nothing.
        if not exists and not self._asked_by_operator():
            await self._spec(options)

    async def _spec(self, options: Any) -> dict[str, Any]:
        offers = await self.offers()
        try:
            return options_form.spec(options, offers, self._default_of(offers))
        except BadOption as error:
            raise bad_option(str(error)) from error

    def _default_of(self, offers: list[Offer]) -> str:
        return offers[0].profile if offers else self.default_profile

    def _prefilled(self, offers: list[Offer]) -> Mapping[str, Any]:
        arguments = self.handler.request.query_arguments if self.handler else {}
        fields = {
            name.removeprefix("opt-"): [value.decode("utf-8", "replace") for value in values]
            for name, values in arguments.items()
            if name not in ("next", "display_name")
        }
        if fields and not all(name.startswith("_") for name in fields):
            try:
                return options_form.from_fields(fields, offers, self._default_of(offers))
            except BadOption:
                return {}  # the page says why
        return self._last_chosen()

    def _last_chosen(self) -> Mapping[str, Any]:
        """Return what was chosen for this server, or else for the one that this user has used last."""
        others = sorted(self.user.orm_user.orm_spawners.values(), key=lambda each: each.last_activity or datetime.min)
        found = (each.user_options for each in [self.orm_spawner, *reversed(others)] if each is not None)
        return next((options for options in found if isinstance(options, Mapping) and options), {})

    # The life of a server.

    async def start(self) -> str:
        """Create, resume or adopt the session; return the server's address when it is ready."""
        order = Order(
            self.user.name,
            self.name,
            self.namespace,
            self._chosen_spec,
            self._environment,
            self.start_timeout,
            only_adopt=self._asked_by_operator(),
        )
        self._up, self._start, self._task = False, Start(self.sessions, order), asyncio.current_task()
        self._starting = True
        try:
            self._oauth_scopes = tuple(await self._get_oauth_client_allowed_scopes())
            self._ref = ref = await self._start.until_ready()
            if self._start.adopted:
                self.api_token = await self._start.token()  # which JupyterHub takes over
            return notebook_url(ref.name, ref.namespace)
        finally:
            self._ref, self._starting = self._start.ref or self._ref, False

    def _asked_by_operator(self) -> bool:
        asking: Any = getattr(self.handler, "current_user", None)
        return getattr(asking, "kind", "") == "service" and bool(asking.name == self.operator_service)

    async def _chosen_spec(self) -> dict[str, Any]:
        return await self._spec(self.user_options)

    def _environment(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.get_env().items()}

    async def stop(self, now: bool = False) -> None:
        """Suspend the session. Not one whose start went wrong: it may be late, and is found again when it is ready."""
        if not self._meant():
            self.log.info("%s: its session is left as it is", self._log_name)
            return
        if self._starting and self._task is not None:
            # JupyterHub only stops listening to a start that is interrupted: it would resume what we suspend.
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._ref is None:
            return
        try:
            await self.sessions.suspend(self._ref)
        except NotFound:
            self.sessions.lost(self._ref)
        except ClientError as error:
            raise from_client(error, self._ref.namespace) from error

    def _meant(self) -> bool:
        """Whether somebody wants the server stopped, and not JupyterHub, which could not reach it."""
        if self.user.name in getattr(self.authenticator, "blocked_users", ()):
            return True
        # A start that fails by itself stops its server before JupyterHub has forgotten it.
        interrupted = self._start is not None and self._spawn_future is None
        return (self._up or interrupted) and not (self._waiting_for_response or self._proxy_pending)

    async def delete_forever(self) -> None:
        """Delete the session: the server was removed from JupyterHub."""
        await self.sessions.ready()
        session = self._find()
        if session is not None:
            try:
                await self.sessions.delete(Ref.of(session.body))
            except ClientError as error:
                raise from_client(error, session.namespace) from error
        self._ref = None

    async def poll(self) -> int | None:
        """Return None while the server runs, starts or cannot be seen; else an exit code. Costs no request."""
        if self._starting:
            return None
        if self._ref is None:
            return 0
        if not await self.sessions.ready():
            return None  # what cannot be seen is not gone
        session = self.sessions.get(self._ref)
        if session is None or session.suspended:
            return 0
        return FAILED if session.ended else None

    async def poll_and_notify(self) -> int | None:
        """See ``Spawner.poll_and_notify``; without it, who stops in the very moment of the start is never noticed."""
        if not self._callbacks:
            return None
        status: int | None = await super().poll_and_notify()
        return status

    def start_polling(self) -> None:
        """Called when a server is up: after its start, and when JupyterHub has found it again."""
        super().start_polling()
        self._up = True
        self.sessions.listen(self._changed)
        if self._oauth_scopes and self.orm_spawner.oauth_client is not None:
            # JupyterHub forgets them when a server has brought its own token.
            self.orm_spawner.oauth_client.allowed_scopes = list(self._oauth_scopes)

    def stop_polling(self) -> None:
        """Called when a server is stopped, or has been seen stopped."""
        super().stop_polling()
        self.sessions.ignore(self._changed)

    def _changed(self, change: Change) -> None:
        if self._ref is not None and change.key == self._ref.key:
            task = asyncio.get_running_loop().create_task(self.poll_and_notify())
            _TASKS.add(task)
            task.add_done_callback(_TASKS.discard)

    def get_state(self) -> dict[str, Any]:
        """Return what finds the session again after a restart of JupyterHub."""
        state: dict[str, Any] = super().get_state()
        if self._ref is not None:
            state |= {"namespace": self._ref.namespace, "name": self._ref.name, "uid": self._ref.uid}
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        super().load_state(state)
        if {"namespace", "name", "uid"} <= state.keys():
            self._ref = Ref(state["namespace"], state["name"], state["uid"])

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the session says, as it says it; JupyterHub's page escapes it."""
        told: set[str] = set()
        done = 0
        # Who looks early sees JupyterHub prepare the start first: there is nothing to say of it yet.
        while self._starting or self._spawn_pending:
            start = self._start if self._starting else None
            session = start.session if start else None
            done = max(done, percent(session) if session else 0)
            for line in self._lines(start, session) if start else ():
                if line not in told:
                    told.add(line)
                    yield {"progress": done, "message": line}
            if session is not None:
                await self.sessions.changed(1.0)
            else:
                await asyncio.sleep(0.2)

    def _lines(self, start: Start, session: Session | None) -> list[str]:
        if not self.sessions.fresh:
            return [CLUSTER_UNSEEN]
        lines = sentences(session, adopted=start.adopted) if session else []
        answered = session is None or session.phase
        if not answered and time.monotonic() - start.began > OPERATOR_SECONDS:
            lines.append(OPERATOR_AWAY)
        return lines

    async def rename(self, old_name: str, new_name: str) -> None:
        """Refuse where there is a session: the name is part of its server's address."""
        await self.sessions.ready()
        if self._find() is not None:
            raise NotStarted(
                f"server {old_name!r} cannot be renamed: its name is part of its session's address",
                "start a server with the new name, and delete this one; home stays",
                reason="rename",
                status_code=409,
            )

    # Names.

    def namespace(self) -> str:
        """Return the namespace of a new session."""
        if callable(self.namespace_template):
            return str(self.namespace_template(self))
        groups = self._groups()
        if "{group}" in self.namespace_template and not groups:
            raise NotStarted(
                f"you ({self.user.name}) are in no group, and the namespace of a session here is its user's group",
                "ask your facility's admin to put you into a group",
                reason="no-group",
                status_code=403,
            )
        return names.namespace(self.namespace_template, self.user.name, groups[0] if groups else "")

    def _groups(self) -> list[str]:
        return sorted(group.name for group in self.user.groups)

    def _find(self) -> Session | None:
        return self.sessions.find(self.user.name, self.name)


_TASKS: set[asyncio.Task[Any]] = set()
"""The event loop itself does not keep them."""
