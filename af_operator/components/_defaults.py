"""What a component says that has nothing to say; a module imports those functions that it does not define."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from af_operator.model import Finish, LogRequest, Observed, Profile, Session
from af_operator.views import HubServer, Question


def finish(session: Session, observed: Observed) -> Finish | None:
    """Nothing of this component ever ends the session."""
    return None


def report(session: Session, observed: Observed) -> Mapping[str, Any]:
    """Nothing to add to the status at its top level."""
    return {}


def log_wanted(session: Session, observed: Observed) -> LogRequest | None:
    """No log to keep."""
    return None


def deadline(session: Session, observed: Observed) -> datetime | None:
    """Nothing happens by the clock alone."""
    return None


def registration(session: Session, observed: Observed) -> HubServer | None:
    """Nothing for JupyterHub to show."""
    return None


def question(session: Session, profile: Profile, observed: Observed) -> Question | None:
    """Nothing to ask of anybody."""
    return None
