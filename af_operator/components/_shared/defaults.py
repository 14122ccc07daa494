"""What a component says that has nothing to say; a package imports those functions that it does not define."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from af_operator.api.pools import Pool
from af_operator.components._shared.budget import Demand
from af_operator.model import Audience, Finish, Loan, LogRequest, PodPatch, Profile, Session
from af_operator.observed import Observed, Settled, Terms
from af_operator.views import HubServer, Question


def pools(session: Session) -> Sequence[Pool]:
    """No workers."""
    return ()


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Nothing for the pods of others."""
    return PodPatch()


def finish(session: Session, observed: Observed) -> Finish | None:
    """Nothing of this component ever ends the session."""
    return None


def report(session: Session, observed: Settled) -> Mapping[str, Any]:
    """Nothing to add to the status at its top level."""
    return {}


def log_wanted(session: Session, observed: Settled) -> LogRequest | None:
    """No log to keep."""
    return None


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Nothing happens by the clock alone."""
    return None


def registration(session: Session, observed: Settled) -> HubServer | None:
    """Nothing for JupyterHub to show."""
    return None


def activity(session: Session, observed: Settled) -> datetime | None:
    """Nobody can tell by this component whether the session is used."""
    return None


def loans(session: Session, profile: Profile, observed: Settled) -> Sequence[Loan]:
    """Nothing that others make is referred to."""
    return ()


def demands(session: Session, profile: Profile, observed: Settled) -> Sequence[Demand]:
    """No workers."""
    return ()


def question(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Question | None:
    """Nothing to ask of anybody."""
    return None
