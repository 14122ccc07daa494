"""From (Session, Profile, Observed, now) to a Plan: what to apply, what to delete. Pure: no clock, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from af_operator import names
from af_operator.api import API_VERSION, ProfileSpec
from af_operator.api.profile import Image, Size
from af_operator.components import Component, Item, _choices, all_components
from af_operator.errors import InvalidSession
from af_operator.model import (
    Body,
    Children,
    Discard,
    Finish,
    Keep,
    Manifest,
    ObjectRef,
    Observed,
    Plan,
    PodPatch,
    Profile,
    Session,
    grouped,
    ref_of,
)

NOTHING = ProfileSpec(images=[Image(name="none", image="none")], sizes=[Size(name="none", cpu="1", memory="1Mi")])
"""Stands for the catalogue when it is gone."""


def build(session: Session, profile: Profile | None, observed: Observed, now: datetime) -> Plan:
    """Return the plan for one session."""
    # Anybody can put a label on an object: one that is not ours is nothing that a component may use.
    observed = replace(observed, shared=tuple(b for b in observed.shared if names.is_shared(b, session.spec.user)))
    enabled = [c for c in all_components() if c.enabled(session)]
    try:
        return _plan(session, check(session, profile, enabled), observed, enabled, now)
    except InvalidSession as error:
        stays = _rejected(session, observed, enabled, error)
        profile = profile or Profile(session.spec.profile, NOTHING)
        end = _finish(session, profile, observed, enabled, now)
        if not stays.health or not (end or session.spec.suspend):
            return stays
    # What has to stop needs no catalogue for that, and nothing is made from it. An end stays what it was.
    with suppress(InvalidSession):
        stops = _plan(session, profile, observed, enabled, now)
        return stops if end else replace(stops, rejected=stays.rejected)
    return stays


def _plan(session: Session, profile: Profile, observed: Observed, enabled: list[Component], now: datetime) -> Plan:
    end = _finish(session, profile, observed, enabled, now)
    observed = replace(observed, finished=end)
    active = [c for c in enabled if _lives(c, session, end)]
    health = {c.NAME: c.health(session, observed) for c in enabled}
    waiting = tuple(c.NAME for c in active if c.LIFETIME != "record" and not health[c.NAME].ready)
    observed = replace(observed, waiting_for=waiting)
    planned = list(_desired(session, profile, observed, active))
    desired = tuple(stamp(session, c.NAME, m, observed) for c, m in planned if isinstance(m, Manifest))
    wanted = {m.ref for m in desired} | {k.ref for _, k in planned if isinstance(k, Keep)}
    ttl = session.spec.ttl_seconds_after_finished
    ttl = profile.spec.defaults.ttl_seconds_after_finished if ttl is None else ttl
    gone_at = end.time + timedelta(seconds=ttl) if end else None
    return Plan(
        desired=desired,
        apply=tuple(m for m in desired if _to_apply(m, observed)),
        discard=tuple(d.body for _, d in planned if isinstance(d, Discard)),
        delete=tuple(_surplus(session, observed, wanted)),
        active=frozenset(c.NAME for c in active),
        health=health,
        report=_report(session, observed, enabled),
        finished=end,
        source_wanted=any(m.from_source for m in desired),
        log_wanted=next((w for c in active if (w := c.log_wanted(session, observed))), None),
        question=next((q for c in active if (q := c.question(session, profile, observed))), None),
        expired=gone_at is not None and now >= gone_at,
        look_again=_earliest(
            now, gone_at, _lifetime_end(session, profile), *(c.deadline(session, observed) for c in active)
        ),
    )


def _rejected(session: Session, observed: Observed, enabled: list[Component], error: InvalidSession) -> Plan:
    # Nothing is created, and nothing that runs is taken away: a profile edited by mistake stops no session.
    rejected = (error.reason, error.message)
    if not any(ours(session, child, observed) for child in observed.children):
        return Plan(rejected=rejected)
    return Plan(
        rejected=rejected,
        active=frozenset(c.NAME for c in enabled),
        health={c.NAME: c.health(session, observed) for c in enabled},
        report=_report(session, observed, enabled),
    )


def check(session: Session, profile: Profile | None, enabled: Iterable[Component]) -> Profile:
    """Return the profile if the spec fits it.

    Raises
    ------
    InvalidSession
        With the reason, and what to write instead.
    """
    if profile is None:
        raise InvalidSession(
            "ProfileNotFound",
            f"there is no AnalysisProfile {session.spec.profile!r}: "
            "`kubectl get analysisprofiles` lists those that there are",
        )
    _choices.image(session, profile)
    longest, asked = profile.spec.limits.lifetime_seconds, session.spec.lifetime_seconds
    if longest is not None and asked is not None and asked > longest:
        raise InvalidSession(
            "LimitExceeded", f"lifetimeSeconds {asked} is over the limit of profile {profile.name!r}: at most {longest}"
        )
    for component in enabled:
        component.check(session, profile)
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
        metadata["ownerReferences"] = [_owner(session, observed.get(manifest.ref), observed)]
    metadata["annotations"] = metadata.get("annotations", {}) | annotations | {names.APPLIED_HASH: digest}
    return replace(manifest, body=body)


def needs_apply(desired: Body, live: Body | None) -> bool:
    """Return whether an apply would change anything: we want something else than last time, or it has drifted."""
    if live is None:
        return True
    if "deletionTimestamp" in live["metadata"]:
        return False  # its end brings us back, and then it is created anew
    return not _subset(desired, live) or bool(_added(desired, live))


def overwriting(desired: Body, live: Body) -> Body:
    """Return what sets this very object right by a merge patch, where an apply did not: lists as a whole."""
    wanted = {**desired, "metadata": desired["metadata"] | {"uid": live["metadata"]["uid"]}}
    added = _added(desired, live)
    return wanted | ({"data": desired["data"] | dict.fromkeys(added)} if added else {})


def ours(session: Session, body: Body, observed: Observed) -> bool:
    """Return whether we made this object, for this session, whose label it carries.

    Its owner is the session, or a child of the session: dask-kubernetes makes its DaskCluster the owner
    of worker groups. Annotations prove nothing: anybody can write them, and others copy ours.
    """
    return names.made_by_us(body) and _in_family(names.controller(body).get("uid"), session, observed)


def _added(desired: Body, live: Body) -> set[str]:
    """Return the keys that somebody has added to the data of a ConfigMap or Secret: it is a file more in a pod."""
    return set(live.get("data") or ()) - set(desired["data"]) if "data" in desired else set()


def _subset(want: Any, have: Any) -> bool:
    if want == have:
        return True
    if isinstance(want, dict) and isinstance(have, dict):
        return all(k in have and _subset(v, have[k]) for k, v in want.items())
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(map(_subset, want, have))
    return False


def _to_apply(desired: Manifest, observed: Observed) -> bool:
    if desired.shared:  # made once: a volume cannot be changed, and is not lost for an edit of the catalogue
        return not any(ref_of(body) == desired.ref for body in observed.shared)
    return needs_apply(desired.body, observed.get(desired.ref))


def _owner(session: Session, live: Body | None, observed: Observed) -> Body:
    owner = dict(names.controller(live)) if live else {}
    if owner.get("uid") != session.uid and _in_family(owner.get("uid"), session, observed):
        return owner
    return {
        "apiVersion": API_VERSION,
        "kind": "AnalysisSession",
        "name": session.name,
        "uid": session.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _in_family(uid: str | None, session: Session, observed: Observed) -> bool:
    return uid == session.uid or uid in observed.once(_uids_by_owner).get(session.uid, ())


def _uids_by_owner(children: Children) -> dict[str | None, frozenset[str]]:
    found = grouped(children, lambda child: names.controller(child).get("uid"))
    return {owner: frozenset(child["metadata"]["uid"] for child in theirs) for owner, theirs in found.items()}


def _surplus(session: Session, observed: Observed, wanted: set[ObjectRef]) -> Iterable[Body]:
    for child in observed.children:
        if ref_of(child) in wanted or "deletionTimestamp" in child["metadata"]:
            continue
        if ours(session, child, observed):
            yield child


def _lives(component: Component, session: Session, end: Finish | None) -> bool:
    if component.LIFETIME == "record":
        return True
    return end is None and not (component.LIFETIME == "compute" and session.spec.suspend)


def _desired(
    session: Session, profile: Profile, observed: Observed, active: list[Component]
) -> Iterable[tuple[Component, Item]]:
    fitting = [c for c in active if _fits(c, session, profile)]
    patches = {c.NAME: c.pod_patch(session, profile) for c in fitting}
    for component in active:
        if component in fitting or component.LIFETIME == "record":
            others = sum((p for name, p in patches.items() if name != component.NAME), PodPatch())
            for item in component.desired(session, profile, observed, others):
                yield component, item
        else:  # the session stops, and its cache is to stay
            mine = (c for c in observed.children if c["metadata"]["labels"].get(names.COMPONENT) == component.NAME)
            yield from ((component, Keep(ref_of(c))) for c in mine)


def _fits(component: Component, session: Session, profile: Profile) -> bool:
    try:
        component.check(session, profile)
    except InvalidSession:
        return False
    return True


def _finish(
    session: Session, profile: Profile, observed: Observed, enabled: list[Component], now: datetime
) -> Finish | None:
    for component in enabled:
        end = component.finish(session, observed)
        if end:
            return end
    deadline = _lifetime_end(session, profile)
    if deadline is None or now < deadline:
        return None
    seconds = int((deadline - session.created).total_seconds())
    return Finish("LifetimeExceeded", f"the session's lifetime of {seconds} s is over: create a new one", deadline)


def _lifetime_end(session: Session, profile: Profile) -> datetime | None:
    seconds = session.spec.lifetime_seconds or profile.spec.limits.lifetime_seconds
    return session.created + timedelta(seconds=seconds) if seconds else None


def _report(session: Session, observed: Observed, enabled: list[Component]) -> Body:
    found: dict[str, Any] = {}
    for component in enabled:
        found |= component.report(session, observed)
    return found


def _earliest(now: datetime, *times: datetime | None) -> datetime | None:
    return min((t for t in times if t is not None and t > now), default=None)
