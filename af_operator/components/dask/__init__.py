"""Dask: one scheduler, and pools of workers that `Client()` without arguments finds.

Two engines make the pods: `native`, our own, and `dask_kubernetes`, the operator of that name; `engine` says which one
a session is under. What both have in common is here: the spec (`groups`), the containers (`programs`), what they know
each other by (`secret`), the program inside the scheduler that knows what each worker holds (`scheduler_agent`), what
keeps strangers from their pages (`af_guard`), and how all that is (`health`, `lost`). ``templates/`` has the
Secret, and the ConfigMap of agent and guard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import access, choices, placement, pod_reasons, pod_spec
from af_operator.components._shared import pools as worker_pools
from af_operator.components._shared.budget import Demand
from af_operator.components._shared.defaults import finish, log_wanted, registration, report
from af_operator.components.dask import dask_kubernetes, engine, groups, native, programs, secret
from af_operator.components.dask.health import health
from af_operator.components.dask.lost import is_scheduler
from af_operator.model import (
    CONFIG_MAP,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    Audience,
    Discard,
    Keep,
    Kind,
    Lifetime,
    Loan,
    Manifest,
    PodPatch,
    Profile,
    Session,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.views import Question

__all__ = [
    "KEPT",
    "KINDS",
    "LIFETIME",
    "NAME",
    "SHARED",
    "TITLE",
    "WATCHED",
    "activity",
    "check",
    "deadline",
    "demands",
    "desired",
    "enabled",
    "finish",
    "health",
    "loans",
    "log_wanted",
    "pod_patch",
    "pools",
    "question",
    "registration",
    "report",
]

NAME = groups.NAME
TITLE = "Dask"
KINDS: tuple[Kind, ...] = tuple(sorted({CONFIG_MAP, SECRET, ROLE, ROLE_BINDING, *native.KINDS, *dask_kubernetes.KINDS}))
# Beside our own those that dask-kubernetes makes: under that engine they say whether a scheduler was lost.
WATCHED: tuple[Kind, ...] = (POD, SERVICE)
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "compute"


def enabled(session: Session) -> bool:
    """Return whether the session asks for Dask."""
    return session.spec.dask is not None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when the scheduler or a pool does not fit the profile."""
    scheduler = groups.spec(session).scheduler
    choices.size(profile, scheduler.size if scheduler else None)
    placement.check("dask.scheduler.nodePool", scheduler.node_pool if scheduler else None, profile)
    for pool in pools(session):
        worker_pools.check(f"dask pool {pool.name!r}", pool, profile)


def pools(session: Session) -> Sequence[Pool]:
    """Return the pools of workers that the spec asks for."""
    return groups.spec(session).pools


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Return what `Client()` without arguments connects to, and Dask's configuration, where programs start."""
    if audience == "worker":
        return PodPatch()
    address = {secret.ADDRESS: secret.address(session, observed)}
    return PodPatch(env=tuple(pod_spec.env(address | programs.config(session)))) + secret.patch(session, observed)


def loans(session: Session, profile: Profile, observed: Settled) -> Sequence[Loan]:
    """Return what others make for the session's engine."""
    return engine.of_session(observed, profile).loans(session, observed)


def demands(session: Session, profile: Profile, observed: Settled) -> Sequence[Demand]:
    """Return what each group of workers asks of the one budget."""
    live = engine.of_session(observed, profile).groups(session, observed)
    return list(worker_pools.demands(groups.desired(session), live, groups.agent_view(observed)))


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep | Discard]:
    """Return what Dask's programs know each other by, and scheduler and workers as the session's engine makes them."""
    session_engine = engine.of_session(observed, profile)
    resized = groups.resized(session, session_engine.groups(session, observed), observed, terms)
    patch = programs.worker_patch(session, observed) + terms.patch("worker")
    made = session_engine.desired(session, profile, observed, patch, resized)
    return [*secret.planned(session, observed), *_access(session, observed), *made]


def question(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Question | None:
    """Return what to ask of the agent in the scheduler; nothing before any pod of Dask has run."""
    if not any(map(pod_reasons.runs, observed.pods(NAME))):
        return None
    live = engine.of_session(observed, profile).groups(session, observed)
    resized = groups.resized(session, live, observed, terms)
    asked = groups.question(session, profile, resized, groups.agent_view(observed))
    return replace(asked, token=secret.token(session, observed))


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Return when to look again though nothing may happen."""
    return (engine.begun(observed) or engine.NATIVE).deadline(observed)


def activity(session: Session, observed: Settled) -> datetime | None:
    """Return when the scheduler last had something to compute, as its agent says."""
    view = groups.agent_view(observed)
    answer = view.answer if view else None
    active = answer.active if isinstance(answer, groups.DaskAnswer) else None
    return datetime.fromtimestamp(active, UTC) if active is not None else None


def _access(session: Session, observed: Observed) -> Iterator[Manifest | Keep]:
    """Yield the user's right to certificates and scheduler: once its pod is there, for only then it has a name."""
    name = names.dask_scheduler(session)
    pods = [pod for pod in observed.pods(NAME) if is_scheduler(pod) and pod_reasons.runs(pod)]
    if pods and secret.is_encrypted(observed):
        newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        yield from access.of_user(session, name, newest["metadata"]["name"])
    elif secret.is_encrypted(observed):
        yield from (Keep(kind.ref(name)) for kind in (ROLE, ROLE_BINDING) if observed.get(kind.ref(name)))
