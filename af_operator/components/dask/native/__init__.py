"""The engine `Native`: a Deployment and a Service for the scheduler, and each worker a pod of the session's own.

Workers are those of ``_shared/worker_pods.py``; what is in a pod, and what of a scheduler that lives is kept, is here.
A scheduler is made once: while it runs no edit of the catalogue reaches it, and workers that come later have its image.
Objects, names and addresses are found by labels and names that users cannot take; ``templates/`` has their shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import lost as losses
from af_operator.components._shared import (
    placement,
    pod_reasons,
    pod_spec,
    pool_health,
    worker_pods,
)
from af_operator.components._shared.pod_reasons import STARTING, Reason
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.components.dask import groups as dask_groups
from af_operator.components.dask import programs
from af_operator.model import (
    DEPLOYMENT,
    POD,
    SERVICE,
    Body,
    Keep,
    Loan,
    Manifest,
    ObjectRef,
    PodPatch,
    Profile,
    Session,
    label_of,
)
from af_operator.observed import Observed, Settled
from af_operator.render import render

MAKER = worker_pods.MAKER
KINDS = (DEPLOYMENT, SERVICE, POD)
SCHEDULER = {names.ROLE: "scheduler"}


def has_objects(observed: Observed) -> bool:
    """Return whether the session has a scheduler or workers that we made, and that are not on their way out."""
    bodies = (body for kind in (DEPLOYMENT, POD) for body in observed.of(kind) if label_of(body, names.ROLE))
    of_dask = (body for body in bodies if label_of(body, names.COMPONENT) == dask_groups.NAME)
    # What a suspended session leaves for a while is not what it is resumed under.
    return any("deletionTimestamp" not in body["metadata"] for body in of_dask)


def groups(session: Session, observed: Settled) -> dict[str, WorkerGroup]:
    """Return the groups of workers that there are, by name."""
    return worker_pods.groups(session, dask_groups.NAME, observed)


def desired(
    session: Session, profile: Profile, observed: Settled, patch: PodPatch, resized: Sequence[Resized]
) -> Sequence[Manifest | Keep]:
    """Return the scheduler with its agent and address, and the workers: those that stay, and those that are missing."""
    scheduler = _scheduler(session, profile, observed)
    items = [programs.agent(session, observed, begun=isinstance(scheduler, Keep)), _service(session), scheduler]
    pod_spec_of = partial(_worker_pod, session, profile, observed, patch)
    for group in resized:
        items += worker_pods.planned(session, dask_groups.NAME, observed, group, pod_spec_of)
    return items


def refused(session: Session, pool: Pool, observed: Observed) -> Reason | None:
    """Return why the API server takes no more workers of a pool."""
    return pool_health.refusal(observed.refused.get(dask_groups.group_name(session, pool)))


def no_scheduler_pod(session: Session, observed: Observed) -> Reason:
    """Return why the scheduler has no pod."""
    live = observed.get(_scheduler_ref(session))
    if live is None:
        return Reason(STARTING, "the scheduler is not there yet")
    return pod_reasons.no_pod(live, "scheduler")


def has_lost_its_scheduler(session: Session, observed: Observed) -> bool:
    """Return whether the scheduler's Deployment is gone, or is another one than what the status says was ready."""
    return losses.is_another(session, observed.get(_scheduler_ref(session)), (dask_groups.NAME, "Dask"))


def loans(session: Session, observed: Observed) -> Sequence[Loan]:
    """Nothing that others make is referred to."""
    return ()


def deadline(observed: Settled) -> datetime | None:
    """Return when a pod that failed at once is to be replaced."""
    return worker_pods.deadline(dask_groups.NAME, observed)


def _worker_pod(session: Session, profile: Profile, observed: Settled, patch: PodPatch, pool: Pool) -> Body:
    place = placement.of(profile, pool.node_pool, pool.gpus_per_worker)
    container = programs.worker(session, profile, pool, patch, programs.WORKER_MODULE)
    own_name = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
    container["env"] = [{"name": "DASK_WORKER_NAME", "valueFrom": own_name}, *container.get("env", ())]
    # Dask must be the same on both sides: whoever comes after an edit of the catalogue has the scheduler's image.
    container["image"] = _image(session, observed) or container["image"]
    return pod_spec.with_sidecars(
        pod_spec.pod([container], programs.worker_volumes(profile, pool, patch), place), patch.sidecars
    )


def _image(session: Session, observed: Observed) -> str | None:
    template = (observed.get(_scheduler_ref(session)) or {}).get("spec", {}).get("template", {})
    containers = template.get("spec", {}).get("containers", ())
    return next((c.get("image") for c in containers if c["name"] == "scheduler"), None)


def _scheduler(session: Session, profile: Profile, observed: Observed) -> Manifest | Keep:
    live = observed.get(_scheduler_ref(session))
    if live is None:
        pod = programs.scheduler_pod(session, profile, observed)
    elif live.get("spec", {}).get("replicas") == 1:
        return Keep(_scheduler_ref(session))  # as it was begun: an edit of the catalogue stops no running session
    else:
        pod = live["spec"]["template"]["spec"]
    labels, name = names.labels(session, dask_groups.NAME) | SCHEDULER, names.dask_scheduler(session)
    return render(__name__, "scheduler", name=name, role=SCHEDULER, selector=_selector(session), labels=labels, pod=pod)


def _service(session: Session) -> Manifest:
    name, selector = names.dask_scheduler(session), _selector(session)
    return render(__name__, "service", name=name, role=SCHEDULER, selector=selector, **programs.PORTS)


def _selector(session: Session) -> dict[str, str]:
    # By labels that nobody else can set: who has an address like the scheduler's gets what is sent to it.
    return names.selector(session, dask_groups.NAME) | SCHEDULER


def _scheduler_ref(session: Session) -> ObjectRef:
    return DEPLOYMENT.ref(names.dask_scheduler(session))
