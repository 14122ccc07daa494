"""From (Session, Profile, Observed, now) to a Plan: what to apply, what to delete. Pure: no clock, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, get_args

from af_operator import drift, names, ownership, pods_told, quota, room, status
from af_operator.api import ProfileSpec
from af_operator.api.network import ProfileNetwork
from af_operator.api.profile import Image, Size
from af_operator.components import Component, Components, Item
from af_operator.components._shared import budget, choices, untrusted
from af_operator.errors import InvalidSession
from af_operator.model import (
    Audience,
    Body,
    Discard,
    Finish,
    Health,
    Keep,
    Kind,
    LogRequest,
    Manifest,
    ObjectRef,
    Plan,
    PodPatch,
    Profile,
    Session,
    ref_of,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.views import ACTIVITY_STEP, Question, activity_at

NOTHING = ProfileSpec(
    images=[Image(name="none", image="none")],
    sizes=[Size(name="none", cpu="1", memory="1Mi")],
    network=ProfileNetwork(egress="Closed"),
)
"""Stands for the catalogue when it is gone."""
DELETED = "Deleted"
"""How a session ends that is being deleted, whatever holds it."""
Enabled = Sequence[Component]


def build(components: Components, session: Session, profile: Profile | None, observed: Observed, now: datetime) -> Plan:
    """Return the plan for one session."""
    # Anybody can put a label on an object: one that is not ours is nothing that a component may use.
    observed = replace(observed, shared=tuple(b for b in observed.shared if ownership.of_user(b, session.spec.user)))
    enabled = [c for c in components if c.enabled(session)]
    try:
        return _plan(session, check(session, profile, enabled), observed, enabled, now)
    except InvalidSession as error:
        catalogue = profile or Profile(session.spec.profile, NOTHING)
        settled = _settled(session, catalogue, observed, enabled, now)
        rejected = _plan_rejected(session, settled, enabled, error)
        if not rejected.health or not (settled.finished or session.spec.suspend):
            return rejected
    # What has to stop needs no catalogue for that, and nothing is made from it. An end stays what it was.
    with suppress(InvalidSession):
        stopping = _plan(session, catalogue, observed, enabled, now)
        return stopping if settled.finished else replace(stopping, rejected=rejected.rejected)
    return rejected


def _plan(session: Session, profile: Profile, observed: Observed, enabled: Enabled, now: datetime) -> Plan:
    settled = _settled(session, profile, observed, enabled, now)
    end, active = settled.finished, [c for c in enabled if _is_active(c, session, settled.finished)]
    loans = [] if session.deleting else [loan for c in active for loan in c.loans(session, profile, settled)]
    facts = _facts(session, settled, enabled)
    terms = _terms(session, profile, settled, active, _waiting(active, facts))
    items = list(_desired(session, profile, settled, active, terms))
    place = room.decide(session, settled, _health_of(active, facts), _lack(session, settled, active, items))
    if place.outside:
        active = [c for c in active if c.LIFETIME == "record"]
        items = list(_desired(session, profile, settled, active, {n: t.without_room() for n, t in terms.items()}))
    manifests = ((c, m) for c, m in items if isinstance(m, Manifest) and _has_a_place(m, session, settled))
    desired = tuple(stamp(session, c.NAME, m, settled) for c, m in manifests)
    planned_refs = {m.ref for m in desired} | {k.ref for _, k in items if isinstance(k, Keep)}
    ttl = session.spec.ttl_seconds_after_finished
    ttl = profile.spec.defaults.ttl_seconds_after_finished if ttl is None else ttl
    gone_at = end.time + timedelta(seconds=ttl) if end and not session.deleting else None
    deadlines = (c.deadline(session, settled) for c in active)
    return replace(
        facts,
        desired=desired,
        apply=tuple(m for m in desired if _to_apply(m, settled)),
        discard=tuple(d.body for _, d in items if isinstance(d, Discard)),
        delete=tuple(_unplanned(session, settled, planned_refs, {k for c in enabled for k in c.KEPT})),
        active=frozenset(c.NAME for c in active),
        finished=end,
        room=place.condition,
        promised=place.promised,
        source_wanted=any(m.from_source for m in desired),
        lent=frozenset(loan.ref for loan in loans),
        unread=tuple(loan.ref for loan in loans if loan.unread),
        held=frozenset(loan.ref for loan in loans if loan.unread or not loan.fits),
        log_wanted=None if session.deleting else _log_wanted(session, settled, active),
        questions=_questions(session, profile, settled, active, terms),
        expired=gone_at is not None and now >= gone_at,
        look_again=_earliest(now, gone_at, _lifetime_end(session, profile), place.look_again, *deadlines),
    )


def _health_of(active: Enabled, facts: Plan) -> dict[str, Health]:
    return {c.NAME: facts.health[c.NAME] for c in active if c.NAME in facts.health}


def _lack(session: Session, observed: Settled, active: Enabled, items: Iterable[tuple[Component, Item]]) -> room.Lack:
    """Return what the namespace's quotas have no room for, of what the session needs at its minimum."""
    stops = session.spec.suspend or session.deleting or observed.finished
    if not observed.quotas or stops or room.was_complete(session, observed):
        return room.Lack()
    least = {quota.Place(c.NAME, "worker", pool.name): pool.workers.min for c in active for pool in c.pools(session)}
    planned = [item.body for _, item in items if isinstance(item, Manifest) and not item.tried]
    kept = [body for _, item in items if isinstance(item, Keep) and (body := observed.get(item.ref))]
    wanted = [*((body, observed.get(ref_of(body)) is not None) for body in planned), *((body, True) for body in kept)]
    need = quota.need(wanted, observed.pods(), least)
    return room.Lack(
        quota.exceeded(observed.quotas, need.missing, observed.promised),
        quota.exceeded(observed.quotas, need.whole, None),
        need.missing,
    )


def _has_a_place(manifest: Manifest, session: Session, observed: Observed) -> bool:
    # What is made for a session that goes would be the garbage collector's, or nobody's: what is there is stopped.
    return not session.deleting or (not manifest.shared and observed.get(manifest.ref) is not None)


def _log_wanted(session: Session, observed: Settled, active: Enabled) -> LogRequest | None:
    return next((wanted for c in active if (wanted := c.log_wanted(session, observed))), None)


def _settled(session: Session, profile: Profile, observed: Observed, enabled: Enabled, now: datetime) -> Settled:
    return Settled.at(now, observed, _finish(session, profile, observed, enabled, now))


def _facts(session: Session, observed: Settled, enabled: Enabled) -> Plan:
    """Return the part of a plan that only tells how things are."""
    report: dict[str, Any] = {}
    for component in enabled:
        report |= component.report(session, observed)
    servers = ((c.NAME, c.registration(session, observed)) for c in enabled)
    told = ((c.NAME, _health(c, session, observed)) for c in enabled)
    return Plan(
        titles={c.NAME: c.TITLE for c in enabled},
        health={name: health for name, health in told if health},
        report=report,
        server=next(((name, server) for name, server in servers if server), None),
        last_activity=_last_activity(session, observed, enabled),
    )


def _health(component: Component, session: Session, observed: Settled) -> Health | None:
    health = component.health(session, observed)
    if health is None:
        return None
    pods = pods_told.with_logs(component.NAME, observed.pods(component.NAME))
    return replace(health, details={**health.details, "pods": pods}) if pods else health


def _plan_rejected(session: Session, observed: Settled, enabled: Enabled, error: InvalidSession) -> Plan:
    # Nothing is created, and nothing that runs is taken away: a profile edited by mistake stops no session.
    rejected = (error.reason, error.message)
    if not any(ownership.of_session(session, child, observed) for child in observed.children):
        return Plan(rejected=rejected, last_activity=_last_activity(session, observed, enabled))
    active = frozenset(c.NAME for c in enabled)
    return replace(_facts(session, observed, enabled), rejected=rejected, active=active)


def _waiting(active: Enabled, facts: Plan) -> tuple[str, ...]:
    return tuple(c.NAME for c in active if c.LIFETIME != "record" and not _is_ready(facts, c.NAME))


def _is_ready(facts: Plan, component: str) -> bool:
    health = facts.health.get(component)
    return health is None or health.ready


def _terms(
    session: Session, profile: Profile, observed: Settled, active: Enabled, waiting: tuple[str, ...]
) -> Mapping[str, Terms]:
    """Return what each component may build on: the patches of the others, and its share of the budget."""
    fitting = [c for c in active if _fits(c, session, profile)]
    shares = budget.shares(profile, {c.NAME: c.demands(session, profile, observed) for c in fitting})
    patches = {
        audience: {c.NAME: c.pod_patch(session, profile, observed, audience) for c in fitting}
        for audience in get_args(Audience)
    }
    return {
        c.NAME: Terms(
            waiting,
            {
                audience: sum((p for name, p in by_component.items() if name != c.NAME), PodPatch())
                for audience, by_component in patches.items()
            },
            shares.get(c.NAME, {}),
        )
        for c in active
        if c in fitting or c.LIFETIME == "record"
    }


def _questions(
    session: Session, profile: Profile, observed: Settled, active: Enabled, terms: Mapping[str, Terms]
) -> dict[str, Question]:
    asking = [c for c in active if c.NAME in terms]
    asked = {c.NAME: c.question(session, profile, observed, terms[c.NAME]) for c in asking}
    return {name: question for name, question in asked.items() if question}


def _last_activity(session: Session, observed: Settled, enabled: Enabled) -> datetime | None:
    """Return when the session was last used: the newest that any component knows, or that the status says already.

    What was told once stays told, also while JupyterHub or an agent is away. Those that tell of it are the user's own
    programs: none of them tells of a time to come, or before there was a session; and to fewer minutes than they like,
    for each change is a write.
    """
    # Who tells of it in steps says when the step began, which may be before the session did.
    earliest = session.created - ACTIVITY_STEP
    reported = (c.activity(session, observed) for c in enabled)
    believed = [activity_at(time) for time in reported if time and earliest < time <= observed.now]
    recorded = untrusted.time_of(session.status.get("lastActivity"))
    return max((max(time, session.created) for time in [*believed, recorded] if time), default=None)


def check(session: Session, profile: Profile | None, enabled: Enabled) -> Profile:
    """Return the profile if the spec fits it.

    Raises
    ------
    InvalidSession
        With the reason, and what to write instead.
    """
    if profile is None:
        raise InvalidSession(
            "ProfileNotFound",
            f"there is no AnalysisProfile {session.spec.profile!r}: choose one of those that the cluster has",
        )
    choices.image(session, profile)
    limit, requested = profile.spec.limits.lifetime_seconds, session.spec.lifetime_seconds
    if limit is not None and requested is not None and requested > limit:
        raise InvalidSession(
            "LimitExceeded",
            f"lifetimeSeconds {requested} is over the limit of profile {profile.name!r}: at most {limit}",
        )
    for component in enabled:
        component.check(session, profile)
    budget.check(profile, {component.NAME: component.pools(session) for component in enabled})
    return profile


def stamp(session: Session, component: str, manifest: Manifest, observed: Observed) -> Manifest:
    """Return the manifest with namespace, labels, owner, and the hash of all that."""
    metadata = dict(manifest.body.get("metadata", {}))
    labels = names.shared_labels if manifest.shared else names.labels
    metadata["namespace"] = session.namespace
    metadata["labels"] = metadata.get("labels", {}) | labels(session, component)
    body = {**manifest.body, "metadata": metadata}
    # Without the owner: dask-kubernetes makes its DaskCluster the owner of groups, which is no change of ours.
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    annotations = {names.USER: session.spec.user} if manifest.shared else {}
    if not manifest.shared:
        metadata["ownerReferences"] = [ownership.reference(session, observed.get(manifest.ref), observed)]
    metadata["annotations"] = metadata.get("annotations", {}) | annotations | {names.APPLIED_HASH: digest}
    return replace(manifest, body=body)


def _to_apply(desired: Manifest, observed: Observed) -> bool:
    if desired.shared:  # made once: a volume cannot be changed, and is not lost for an edit of the catalogue
        return not any(ref_of(body) == desired.ref for body in observed.shared)
    if desired.kept:
        return observed.get(desired.ref) is None
    return drift.needs_apply(desired.body, observed.get(desired.ref))


def _unplanned(
    session: Session, observed: Observed, planned_refs: set[ObjectRef], kept: Collection[Kind]
) -> Iterable[Body]:
    kept_kinds = {kind[:2] for kind in kept}
    for child in observed.children:
        ref = ref_of(child)
        if ref in planned_refs or ref[:2] in kept_kinds or "deletionTimestamp" in child["metadata"]:
            continue
        if ownership.of_session(session, child, observed):
            yield child


def _is_active(component: Component, session: Session, end: Finish | None) -> bool:
    if component.LIFETIME == "record":
        return True
    return end is None and not (component.LIFETIME == "compute" and session.spec.suspend)


def _desired(
    session: Session, profile: Profile, observed: Settled, active: Enabled, terms: Mapping[str, Terms]
) -> Iterable[tuple[Component, Item]]:
    for component in active:
        if component.NAME in terms:
            for item in component.desired(session, profile, observed, terms[component.NAME]):
                yield component, item
        else:  # the session stops, and its cache is to stay
            children = (c for c in observed.children if c["metadata"]["labels"].get(names.COMPONENT) == component.NAME)
            yield from ((component, Keep(ref_of(c))) for c in children)


def _fits(component: Component, session: Session, profile: Profile) -> bool:
    try:
        component.check(session, profile)
    except InvalidSession:
        return False
    return True


def _finish(session: Session, profile: Profile, observed: Observed, enabled: Enabled, now: datetime) -> Finish | None:
    ends = (component.finish(session, observed) for component in enabled)
    end = next((each for each in ends if each), None)
    if end and end.reason != DELETED:
        return end
    return _deletion(session) or _end_of_lifetime(session, profile, now)


def _deletion(session: Session) -> Finish | None:
    return Finish(DELETED, status.deletion(session), session.deleted) if session.deleted else None


def _end_of_lifetime(session: Session, profile: Profile, now: datetime) -> Finish | None:
    deadline = _lifetime_end(session, profile)
    if deadline is None or now < deadline:
        return None
    seconds = int((deadline - session.created).total_seconds())
    return Finish("LifetimeExceeded", f"the session's lifetime of {seconds} s is over: create a new one", deadline)


def _lifetime_end(session: Session, profile: Profile) -> datetime | None:
    seconds = session.spec.lifetime_seconds or profile.spec.limits.lifetime_seconds
    return session.created + timedelta(seconds=seconds) if seconds else None


def _earliest(now: datetime, *times: datetime | None) -> datetime | None:
    return min((t for t in times if t is not None and t > now), default=None)
