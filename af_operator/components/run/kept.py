"""What is kept of a run that is over, and what of it is believed.

The record is a ConfigMap, and whoever may edit those of the namespace can write anything into it, or delete it and the
Job. So it is parsed with bounds, what does not fit is left out, and it has the last word on nothing:

1. The Job, while it is there. Only its controller writes its status; an edited record neither ends a run that goes on
   nor changes when and how one has ended.
2. The session's own status, where it says that the run is complete: the operator alone may write that. A run that was
   told to be over stays over, whatever becomes of its Job and its record, and is never run again.
3. The record, when there is nothing else. Who forges one ends a run by it that they could as well have deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from af_operator import names
from af_operator.api.status import RunStatus
from af_operator.components._shared.untrusted import fitting, json_of, time_of
from af_operator.model import CONFIG_MAP, Finish, Session
from af_operator.observed import Observed

MAX_RECORD = 262_144
"""Characters; a record with all that status has room for is a third of that."""
MAX_WORDS = 8192
LONGEST = timedelta(days=36_500)
"""No run ends later than so long after its session was created."""


def _cut(value: Any) -> Any:
    return value[:MAX_WORDS] if isinstance(value, str) else value


class _End(BaseModel):
    reason: str = Field(pattern="^[A-Za-z][-A-Za-z0-9_,:./]{0,99}$")  # the kubelet says OutOfnvidia.com/gpu
    message: Annotated[str, BeforeValidator(_cut)]
    time: AwareDatetime


@dataclass(frozen=True)
class Kept:
    """The ConfigMap that outlives the run's pods.

    Attributes
    ----------
    run
        What was known of the run, as status writes it; empty if nothing was.
    finish
        How it ended, if that was known.
    """

    log: str
    run: Mapping[str, Any]
    finish: Finish | None


def recorded(session: Session, observed: Observed) -> Kept | None:
    """Return what was kept of the run, or None."""
    body = observed.get(CONFIG_MAP.ref(names.run_log(session)))
    if body is None:
        return None
    data = body.get("data") or {}
    parsed = json_of(data.get("record"), MAX_RECORD)
    record = parsed if isinstance(parsed, Mapping) else {}
    return Kept(data.get("log", ""), run_of(record.get("run")), _finish(session, record.get("finish")))


def finish_in_status(session: Session) -> Finish | None:
    """Return how the run ended, as the session's status has told.

    The end of a lifetime is none: the session's deadline says so itself, for as long as it is past.
    """
    condition = session.told("RunComplete")
    if condition is None or condition["status"] != "True" or condition["reason"] == "LifetimeExceeded":
        return None
    return _finish(session, {**condition, "time": condition["lastTransitionTime"]})


def run_of(values: Any) -> dict[str, Any]:
    """Return as much of a run's status as fits, as status writes it."""
    status = fitting(RunStatus, values) or RunStatus()
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")


def _finish(session: Session, values: Any) -> Finish | None:
    end = fitting(_End, values)
    if end is None or not timedelta(0) <= end.time - session.created <= LONGEST:
        return None  # times decide when the session goes
    return Finish(end.reason, end.message, end.time)


def end_time(session: Session, condition: Mapping[str, Any]) -> datetime:
    """Return when a Job's condition became true; only where nobody knows, when the session was created."""
    return time_of(condition.get("lastTransitionTime")) or session.created
