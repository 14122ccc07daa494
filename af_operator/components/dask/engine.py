"""What the two engines of Dask have in common, and which of them a session's Dask is under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from af_operator.api.pools import Pool
from af_operator.components._shared.pod_reasons import Reason
from af_operator.components._shared.pools import Resized, WorkerGroup
from af_operator.components.dask import dask_kubernetes, native
from af_operator.model import Discard, Keep, Loan, Manifest, PodPatch, Profile, Session
from af_operator.observed import Observed, Settled


class Engine(Protocol):
    """How schedulers and workers come to be."""

    MAKER: str
    """Who starts workers, in words for people."""

    def has_objects(self, observed: Observed) -> bool:
        """Return whether the session has anything that this engine made."""

    def groups(self, session: Session, observed: Settled) -> Mapping[str, WorkerGroup]:
        """Return the groups of workers that there are, by name."""

    def desired(
        self, session: Session, profile: Profile, observed: Settled, patch: PodPatch, resized: Sequence[Resized]
    ) -> Sequence[Manifest | Keep | Discard]:
        """Return what should exist, and what is to go; `patch` is for the pods of workers."""

    def refused(self, session: Session, pool: Pool, observed: Observed) -> Reason | None:
        """Return why workers of a pool have no pods, if the API server refuses them."""

    def no_scheduler_pod(self, session: Session, observed: Observed) -> Reason:
        """Return why the scheduler has no pod."""

    def has_lost_its_scheduler(self, session: Session, observed: Settled) -> bool:
        """Return whether somebody has taken away the scheduler itself, and not only its pod."""

    def loans(self, session: Session, observed: Observed) -> Sequence[Loan]:
        """Return what others make that objects refer to."""

    def deadline(self, observed: Settled) -> datetime | None:
        """Return when to look again though nothing may happen, or None."""


NATIVE: Engine = native
DASK_KUBERNETES: Engine = dask_kubernetes


def begun(observed: Observed) -> Engine | None:
    """Return the engine that a session was begun under; None where it has nothing of either.

    Who asks without a profile takes `NATIVE` for None: where nothing is there, that says so of any Dask, and knows from
    the session's status whether there was a scheduler.
    """
    if DASK_KUBERNETES.has_objects(observed):
        return DASK_KUBERNETES
    return NATIVE if NATIVE.has_objects(observed) else None


def of_session(observed: Observed, profile: Profile) -> Engine:
    """Return the engine of a session: the one that it was begun under, else the profile's.

    An edit of the profile, or another version of the operator, moves no session that runs.
    """
    return begun(observed) or (NATIVE if profile.spec.dask.engine == "Native" else DASK_KUBERNETES)
