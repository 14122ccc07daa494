"""Spark: a standalone master, a Spark Connect server, and pools of workers on the node pools that Dask uses.

`SparkSession.builder.getOrCreate()` without arguments finds it, by Connect; `SparkContext()`, or `spark-submit`, drives
it from a notebook or a run. What a session asks for is in `spec`, the configuration in `conf`, the containers and
objects in `programs` (their shape in ``templates/``), who the workers are in `workers`, how all that is in `health`.
`agent` is a program of its own, which runs beside the master: it knows what each worker holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import pod_reasons, pod_spec, worker_pods
from af_operator.components._shared import pools as worker_pools
from af_operator.components._shared.budget import Demand
from af_operator.components._shared.defaults import finish, loans, log_wanted, registration, report
from af_operator.components.spark import conf, programs, spec, workers
from af_operator.components.spark.health import health
from af_operator.components.spark.spec import NAME, TITLE, check
from af_operator.model import POD, Audience, Body, Keep, Kind, Lifetime, Manifest, PodPatch, Profile, Session
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

KINDS: tuple[Kind, ...] = (*programs.KINDS, POD)
WATCHED: tuple[Kind, ...] = ()
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "compute"


def enabled(session: Session) -> bool:
    """Return whether the session asks for Spark."""
    return session.spec.spark is not None


def pools(session: Session) -> Sequence[Pool]:
    """Return the pools of workers that the spec asks for."""
    return spec.spec(session).pools


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Return what `SparkSession.builder.getOrCreate()` connects by, also in what Dask's workers run.

    Who may drive Spark itself, and submit what runs in its workers, is only the user's own program: it alone gets the
    configuration, which has the secret for that.
    """
    connect = names.spark_url(session, "sc", names.SPARK_CONNECT_PORT)
    # As a header of its own, not as the `token` of such a URL: with one the client insists on TLS.
    remote = {"name": "SPARK_REMOTE", "value": f"{connect}/;authorization=Bearer%20$(AF_SPARK_TOKEN)"}
    connecting: tuple[Body, ...] = (conf.token(session, "AF_SPARK_TOKEN"), remote)
    if audience == "worker":
        return PodPatch(env=connecting)
    addresses = {
        "AF_SPARK_AGENT": names.spark_url(session, "http", names.SPARK_AGENT_PORT),
        "AF_SPARK_UI": names.spark_url(session, "http", names.SPARK_UI_PORT),
    }
    return PodPatch(
        env=(*connecting, *conf.env(), *pod_spec.env(addresses)),
        volumes=(conf.volume(session, conf.DEFAULTS, conf.LOGGING, conf.ENVIRONMENT),),
        mounts=(conf.MOUNT,),
    )


def demands(session: Session, profile: Profile, observed: Settled) -> Sequence[Demand]:
    """Return what each group of workers asks of the one budget."""
    live = workers.groups(session, observed)
    return list(worker_pools.demands(spec.desired_groups(session), live, spec.agent_view(observed)))


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep]:
    """Return master and Connect server with what they need, and the workers: who stays, and who is missing."""
    items = list(programs.desired(session, profile, observed))
    worker = partial(programs.worker, session, profile, terms.patch("worker"))
    for group in workers.resized(session, observed, terms):
        items += worker_pods.planned(session, NAME, observed, group, worker)
    return items


def question(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Question | None:
    """Return what to ask of the agent; nothing before any pod of Spark has run."""
    if not any(map(pod_reasons.runs, observed.pods(NAME))):
        return None
    resized, view = workers.resized(session, observed, terms), spec.agent_view(observed)
    url = f"{names.spark_url(session, 'http', names.SPARK_AGENT_PORT)}/af/v1/pools"
    asked = worker_pools.question(url, resized, profile, view, spec.SparkAnswer)
    return replace(asked, token=conf.asked_with(session, observed))


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Return when a pod that failed at once is to be replaced."""
    return worker_pods.deadline(NAME, observed)


def activity(session: Session, observed: Settled) -> datetime | None:
    """Return when a task last ran, as the agent says."""
    answer = spec.answer(observed)
    return datetime.fromtimestamp(answer.active, UTC) if answer and answer.active is not None else None
