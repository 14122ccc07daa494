"""Run: the headless program as a Job, created suspended and released once all that it needs is ready.

The Job, its source and its log are the record of the session: they stay until the session goes. Here are the objects;
``record`` knows how a run goes and how it ended, from its Job and its pod, and ``kept`` what is believed of that when
both are gone. ``templates/`` has the Job and the ConfigMaps of source and log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from af_operator import names
from af_operator.api.session import Run
from af_operator.components._shared import access, choices, missing_pods, placement, pod_spec
from af_operator.components._shared.defaults import demands, pools, question, registration
from af_operator.components.run import record as history
from af_operator.components.run import source, tries
from af_operator.components.run.kept import recorded
from af_operator.components.run.record import activity, finish, log_wanted, outdated, record, report
from af_operator.components.run.tries import JOB, NAME, Try, spec
from af_operator.model import (
    CONFIG_MAP,
    POD,
    ROLE,
    ROLE_BINDING,
    Audience,
    Body,
    Health,
    Keep,
    Kind,
    Lifetime,
    Loan,
    Manifest,
    PodPatch,
    Profile,
    Session,
    ref_of,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.render import render

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

TITLE = "Run"
KINDS: tuple[Kind, ...] = (JOB, CONFIG_MAP, ROLE, ROLE_BINDING)
WATCHED: tuple[Kind, ...] = (POD,)
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "record"

WORK, RESULTS, HOME = names.WORK_DIRECTORY, "/af/results", "/af/home"
SCRATCH = {"work": WORK, "results": RESULTS, "home": HOME, "tmp": pod_spec.TMP}
ONE_TRY: Body = {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
"""The Job controller tries nothing again: a Job that lost its pod says so for good, also when the pod is gone."""


def enabled(session: Session) -> bool:
    """Return whether the session has something to run."""
    return session.spec.run is not None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when image, size or node pool is not in the profile, or not for runs."""
    choices.image(session, profile)
    choices.size(profile, spec(session).size)
    placement.check("run.nodePool", spec(session).node_pool, profile)


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Return the source for workers, whatever computes in them: modules beside the program are imported there too."""
    origin = spec(session).source
    if audience == "user" or origin is None:
        return PodPatch()
    path = ":".join(filter(None, (source.PATH, pod_spec.variables(session).get("PYTHONPATH"))))
    # A ConfigMap of people's own may go once the run has begun: no later worker waits for it. Ours is waited for: a
    # worker without it would fail only when it computes.
    optional = {"optional": True} if origin.config_map else {}
    return PodPatch(
        env=tuple(pod_spec.env({"PYTHONPATH": path})),
        volumes=(source.volume(session, origin, **optional),),
        mounts=(source.MOUNT,),
    )


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep]:
    """Return the Job, its inline source, and once it has ended what is kept of it."""
    origin = spec(session).source
    items: list[Manifest | Keep] = []
    if origin and origin.files:
        items.append(source.planned(session, origin.files, observed))
    items += _job(session, profile, observed, terms)
    items += _missing_pod(session, observed)
    items += _record(session, observed)
    return items


def health(session: Session, observed: Settled) -> Health:
    """Return ready while the program runs."""
    missing = source.missing(session, observed)
    return Health(False, *missing) if missing else history.health(session, observed)


def loans(session: Session, profile: Profile, observed: Settled) -> Sequence[Loan]:
    """Return the ConfigMap that the source comes from, where it is none of the session's own."""
    return source.loans(session, observed)


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Return when the next try begins, or its pod is missing for too long."""
    following, job = tries.following(session, observed), tries.without_pod(session, observed)
    return following.begins if following else missing_pods.due_at(job["status"].get("startTime")) if job else None


def _missing_pod(session: Session, observed: Settled) -> Iterator[Manifest]:
    """Yield the pod that the Job controller does not make, to hear why."""
    job = tries.without_pod(session, observed)
    if job is not None:
        name, since = job["metadata"]["name"], job["status"].get("startTime")
        yield from missing_pods.tried(name, job, since, observed)


def _job(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Iterator[Manifest | Keep]:
    """Yield the latest Job: as it is where it has ended, or runs from an earlier template; else as it should be.

    One that has ended stays beside the one that follows, until that is there.
    Nothing where it has ended and is gone, or has not begun and is to be made anew.
    """
    live, tried = tries.current_job(session, observed), tries.current(session, observed)
    finished = observed.finished is not None
    if live is not None and tries.job_end(live):
        yield Keep(ref_of(live))
        following = tries.following(session, observed)
        if not following or finished or session.spec.suspend or observed.now < (following.begins or observed.now):
            return
        live, tried = None, following
    if live is None and finished:
        return  # it has run: making it anew would run it again
    stop = session.spec.suspend or finished or terms.outside
    released = live is not None and live.get("spec", {}).get("suspend") is False
    planned = _render_job(
        session,
        tried,
        _pod(session, profile, terms.patch("user") + _of_try(tried)),
        suspend=stop or (not released and bool(terms.waiting_for)),
    )
    if live is not None and _template(live) != _template(planned.body):
        # A Job's template cannot be edited. One that runs stays; one that does not is made anew: without
        # being planned it is deleted, and its end brings us back.
        if released and not stop:
            yield Keep(ref_of(live))
        return
    yield planned


def _template(job: Body) -> str | None:
    annotation: str | None = job["metadata"].get("annotations", {}).get(names.TEMPLATE_HASH)
    return annotation


def _render_job(session: Session, tried: Try, pod: Body, *, suspend: bool) -> Manifest:
    labels = names.labels(session, NAME)
    return render(
        __name__,
        "job",
        name=names.run_job(session, tried.number),
        template_hash=pod_spec.digest([labels, pod, ONE_TRY]),
        disruptions=str(tried.disruptions),
        policy=ONE_TRY,
        suspend=suspend,
        limited=tried.deadline is not None,
        deadline=tried.deadline,
        labels=labels,
        pod=pod,
    )


def _of_try(tried: Try) -> PodPatch:
    """Return what tells the runner that there may be results of an earlier try."""
    return PodPatch(env=tuple(pod_spec.env({"AF_TRY": str(tried.number)})) if tried.number > 1 else ())


def _pod(session: Session, profile: Profile, patch: PodPatch) -> dict[str, Any]:
    run = spec(session)
    scratch, mounts = pod_spec.scratch(choices.size(profile, run.size), SCRATCH)
    container = pod_spec.patched(_container(session, profile, run, mounts), patch)
    origin = [source.volume(session, run.source)] if run.source else []
    pod = pod_spec.pod([container], [*origin, *scratch, *patch.volumes], placement.of(profile, run.node_pool))
    return pod_spec.with_sidecars({**pod, "restartPolicy": "Never"}, patch.sidecars)


def _container(session: Session, profile: Profile, run: Run, mounts: list[Body]) -> Body:
    copy = ["--source", source.PATH] if run.source else []
    return pod_spec.container(
        names.RUN_CONTAINER,
        choices.image(session, profile),
        # The source is mounted read-only; af-run copies it, for programs write where they start.
        ["af-run", *copy, "--", *map(pod_spec.literal, run.command)],
        workingDir=WORK,
        env=_env(session, profile),
        resources=pod_spec.resources(choices.size(profile, run.size)),
        volumeMounts=[source.MOUNT, *mounts] if run.source else mounts,
    )


def _env(session: Session, profile: Profile) -> list[Body]:
    values = {
        "AF_SESSION": session.name,
        "AF_NAMESPACE": session.namespace,
        "AF_RESULTS": RESULTS,
        "HOME": HOME,
    }
    if profile.spec.results:
        values["AF_RESULTS_URL"] = names.results_url(session, profile.spec.results.url)
    return pod_spec.env(values | pod_spec.variables(session))


def _record(session: Session, observed: Settled) -> Iterator[Manifest | Keep]:
    ref = CONFIG_MAP.ref(names.run_log(session))
    end = finish(session, observed)
    kept = recorded(session, observed)
    if kept is not None and not outdated(session, observed, kept):
        yield Keep(ref)
    elif kept is not None or observed.log_tail is not None or (end and not log_wanted(session, observed)):
        log = kept.log if kept else observed.log_tail or ""
        yield render(__name__, "log", name=ref.name, log=log, record=record(session, observed))
    else:
        return
    yield from access.to_log(session, ref.name)
