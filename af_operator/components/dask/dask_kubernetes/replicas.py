"""How many workers each DaskWorkerGroup has, and what it is to be told. Pure.

The Dask operator makes a Deployment for each worker, and looks at nothing but a rise of ``replicas``: told a lower
number, it asks the scheduler for any n workers, whatever group they are of. So it is never told a lower number before
the workers are gone, nor before it has made all that it was told of last. They are retired by the agent in the
scheduler, who knows what each of them holds; then their Deployments are deleted here; and ``replicas`` follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from af_operator import names, ownership
from af_operator.api.pools import Pool
from af_operator.components._shared import pod_reasons, pod_spec, untrusted
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.components.dask import groups as dask_groups
from af_operator.model import DEPLOYMENT, POD, Body, Kind, Session, age_of, grouped, label_of
from af_operator.observed import Children, Observed

GROUP = Kind("kubernetes.dask.org/v1", "DaskWorkerGroup", "daskworkergroups")
WORKER_GROUP = "dask.org/workergroup-name"
HANDLED = "kopf.zalando.org/last-handled-configuration"
"""Annotation in which kopf, and so the Dask operator, keeps what of an object it has acted upon."""
MAX_HANDLED = 262_144
"""All annotations of an object together have no more characters."""


@dataclass(frozen=True)
class GroupScale:
    """One DaskWorkerGroup, as it is and as it should be.

    Attributes
    ----------
    live
        The object, if it is there.
    to_delete
        Workers whose Deployments may be deleted now.
    making
        The Dask operator has not acted upon its number yet. Told a lower one meanwhile, it would remove a worker of
        its own choice as soon as it has made the new ones.
    missing
        It has acted upon its number, and yet there are fewer: somebody deleted them. By itself it does not look again.
    """

    resized: Resized
    live: Body | None
    to_delete: tuple[Body, ...]
    making: bool = False
    missing: bool = False

    @property
    def pool(self) -> Pool | None:
        """The pool that it stands for; None for one that is on its way out."""
        return self.resized.pool

    @property
    def workers(self) -> tuple[Body, ...]:
        """Deployments of its workers, oldest first."""
        return self.resized.group.workers

    def replicas(self, spec_replicas: int) -> int:
        """Return the number to tell the Dask operator once `to_delete` are deleted; before that it was `spec_replicas`.

        At a change of the number it makes as many workers as are missing, and at no other time: each that is deleted
        is told at once, or raising the number again to what it was would make none.
        """
        if self.pool is None or self.making:
            return spec_replicas
        if self.to_delete:
            return min(spec_replicas, len(self.workers) - len(self.to_delete))
        return spec_replicas if self.resized.surplus > 0 else self.resized.target


def groups(session: Session, observed: Observed) -> dict[str, WorkerGroup]:
    """Return the groups that there are, by name; of a desired one also what is left of an earlier one of its name."""
    live = {g["metadata"]["name"]: g for g in observed.of(GROUP) if names.POOL in g["metadata"].get("labels", {})}
    leftover = [name for name in dask_groups.desired(session) if name not in live and _deployments(name, observed)]
    return {name: _group(name, live.get(name), observed) for name in (*live, *leftover)}


def scale_of(resized: Resized, observed: Observed) -> GroupScale:
    """Return how a group is to be scaled, and what the Dask operator is told of that."""
    live = observed.get(GROUP.ref(resized.group.name))
    making = missing = False
    if resized.pool and live:
        spec_replicas, handled = replicas_of(live), _handled(live)
        making = len(resized.group.workers) < spec_replicas if handled is None else handled != spec_replicas
        fewer = len(_deployments(resized.group.name, observed)) < resized.target
        missing = handled == spec_replicas == resized.target and fewer
    to_delete = () if live is None or making else tuple(_made_by(live, resized.to_delete))
    return GroupScale(resized, live, to_delete, making, missing)


def replicas_of(group: Body) -> int:
    """Return the number that a group asks the Dask operator for."""
    number: int = _worker_of(group).get("replicas", 1)  # the CRD's default
    return number


def pod_of(group: Body) -> Body | None:
    """Return the pod spec of a group's workers; None where somebody has removed it, which the CRD lets them."""
    return _worker_of(group).get("spec")


def _group(name: str, live: Body | None, observed: Observed) -> WorkerGroup:
    workers = [d for d in _deployments(name, observed) if "deletionTimestamp" not in d["metadata"]]
    pods = observed.once(_pods_by_group).get(name, ())
    return WorkerGroup(
        name,
        (label_of(live or workers[0], names.POOL) if live or workers else None) or "",
        tuple(workers),
        tuple(pods),
        expected=max(len(workers), replicas_of(live) if live else 0),
        gpus=sum(pod_spec.gpus((pod_of(live) if live else None) or {}).values()),
        never_ran=frozenset(w["metadata"]["name"] for w in workers if _never_ran(w, observed)),
    )


def _made_by(live: Body, workers: Iterable[Body]) -> Iterable[Body]:
    """Yield what this very group has made: nobody in whose place the Dask operator is about to make another."""
    return (w for w in workers if ownership.controller(w).get("uid") == live["metadata"]["uid"])


def _never_ran(worker: Body, observed: Observed) -> bool:
    """Return whether a worker finds no quota or no node: its scheduler will never hear of it, and cannot retire it."""
    pods = observed.once(_pods_by_deployment).get(worker["metadata"]["name"])
    if not pods:
        return pod_reasons.deployment_refused(worker) is not None
    return all(pod_reasons.never_started(pod) for pod in pods)


def _worker_of(group: Body) -> Body:
    worker: Body = group.get("spec", {}).get("worker", {})
    return worker


def _handled(live: Body) -> int | None:
    """Return the number that the Dask operator acted upon last; None when it says none."""
    value = untrusted.json_of(live["metadata"].get("annotations", {}).get(HANDLED), MAX_HANDLED)
    for key in ("spec", "worker", "replicas"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else None


def _deployments(group: str, observed: Observed) -> Sequence[Body]:
    return observed.once(_deployments_by_group).get(group, ())


def _deployments_by_group(children: Children) -> dict[str | None, list[Body]]:
    oldest_first = sorted(children.of(DEPLOYMENT), key=age_of)
    return grouped(oldest_first, lambda deployment: label_of(deployment, WORKER_GROUP))


def _pods_by_group(children: Children) -> dict[str | None, list[Body]]:
    return grouped(children.of(POD), lambda pod: label_of(pod, WORKER_GROUP))


def _pods_by_deployment(children: Children) -> dict[str, list[Body]]:
    return grouped(children.of(POD), _deployment_of)


def _deployment_of(pod: Body) -> str:
    """Return the name of the Deployment that a pod is of; its ReplicaSet's is that and a hash."""
    # The pod's own name says it only where it is short: longer ones are cut.
    replica_set = str(ownership.controller(pod).get("name") or pod["metadata"]["name"].rpartition("-")[0])
    return replica_set.rpartition("-")[0]
