"""Relay: a broker, and pools of workers that take messages from it. It stands in this folder alone.

Its spec is the session's variable RELAY, the pools as JSON: a component of ours has a field in ``api/session.py``, and
a field of the CRD is the one thing that a folder cannot bring along. A variable may be any text, whatever the CRD is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from af_operator.api.pools import Pool
from af_operator.components._shared import choices, placement, pod_spec, worker_pods
from af_operator.components._shared import pools as worker_pools
from af_operator.components._shared.budget import Demand
from af_operator.components._shared.defaults import finish, loans, log_wanted, registration, report
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.errors import InvalidSession
from af_operator.model import (
    POD,
    Audience,
    Body,
    Keep,
    Kind,
    Lifetime,
    Manifest,
    PodPatch,
    Profile,
    Session,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.views import Question
from tests.support.components.relay import broker, spec
from tests.support.components.relay.health import health
from tests.support.components.relay.spec import RelayAnswer, desired_groups

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

NAME = spec.NAME
TITLE = "Relay"
KINDS: tuple[Kind, ...] = (*broker.KINDS, POD)
WATCHED: tuple[Kind, ...] = ()
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "compute"


def enabled(session: Session) -> bool:
    """Return whether the session asks for a relay."""
    return spec.text(session) is not None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when the pools cannot be read, or do not fit the profile."""
    if not pools(session):
        raise InvalidSession("InvalidRelay", f"{spec.VARIABLE} is not a list of pools, as JSON")
    for pool in pools(session):
        worker_pools.check(f"relay pool {pool.name!r}", pool, profile)


def pools(session: Session) -> Sequence[Pool]:
    """Return the pools of workers that the spec asks for."""
    return spec.pools(session)


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Return where the relay is and the token for it, for the pods where programs start and for no others."""
    if audience == "worker":
        return PodPatch()
    return PodPatch(env=(*pod_spec.env({"RELAY_URL": broker.url(session)}), broker.token(session)))


def activity(session: Session, observed: Settled) -> datetime | None:
    """Return when a message last passed, as the broker says."""
    answer = spec.answer(observed)
    return datetime.fromtimestamp(answer.used, UTC) if answer and answer.used is not None else None


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Return when a pod that failed at once is to be replaced."""
    return worker_pods.deadline(NAME, observed)


def demands(session: Session, profile: Profile, observed: Settled) -> Sequence[Demand]:
    """Return what each group of workers asks of the one budget."""
    view = observed.agents.get(NAME)
    return list(worker_pools.demands(desired_groups(session), _live(session, observed), view))


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep]:
    """Return the broker with what it needs, and the workers: those that stay, and those that are missing."""
    items: list[Manifest | Keep] = list(broker.desired(session, profile, observed))
    for group in _resized(session, observed, terms):
        items += worker_pods.planned(
            session, NAME, observed, group, partial(_worker, session, profile, terms.patch("worker"))
        )
    return items


def question(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Question:
    """Return what to ask of the broker: who may go, how many are wanted, and what waits."""
    resized, view = _resized(session, observed, terms), observed.agents.get(NAME)
    asked = {"pools": worker_pools.asked(resized, profile), "queued": True}
    interval = worker_pools.CALM if worker_pools.is_calm(resized, view) else None
    return Question(
        f"{broker.url(session)}/v1/pools", asked, RelayAnswer, profile.spec.scaling.silence_seconds, interval
    )


def _live(session: Session, observed: Settled) -> Mapping[str, WorkerGroup]:
    return worker_pods.groups(session, NAME, observed)


def _resized(session: Session, observed: Settled, terms: Terms) -> list[Resized]:
    view = observed.agents.get(NAME)
    return worker_pools.resized(desired_groups(session), _live(session, observed), terms.workers, view)


def _worker(session: Session, profile: Profile, patch: PodPatch, pool: Pool) -> Body:
    container = pod_spec.container(
        "worker",
        choices.image(session, profile),
        ["python", "-m", "relay.worker"],
        env=pod_spec.env({"RELAY_URL": broker.url(session)}),
        resources=worker_pools.resources(pool, profile),
    )
    place = placement.of(profile, pool.node_pool, pool.gpus_per_worker)
    pod = pod_spec.pod([pod_spec.patched(container, patch)], patch.volumes, place)
    return pod_spec.with_sidecars(pod, patch.sidecars)
