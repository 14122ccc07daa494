"""What is known of a run: how it goes, how it ended, and what is kept of it when its pods are gone.

The sources are the Job's conditions, the pod's container status with the runner's report in the
termination message, and what was kept (``kept``). A user can write anything into the
termination message, so it is parsed with bounds, and what does not fit is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from af_operator import names
from af_operator.api.session import Run
from af_operator.api.status import EXACT
from af_operator.components._shared import pod_reasons, untrusted
from af_operator.components.run.kept import Kept, end_time, finish_in_status, recorded, run_of
from af_operator.model import Body, Finish, Health, Kind, LogRequest, Session, age_of
from af_operator.observed import Observed, Settled

NAME = "run"
JOB = Kind("batch/v1", "Job", "jobs")
LOG_LINES = 200
MAX_FILES = 64
RUNNER_SAYS = "af-run: "
"""How lines begin that are the runner's, not the program's."""


class _Lenient(BaseModel):
    """The runner in an image may be newer than this operator, and say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _File(_Lenient):
    url: str = Field(max_length=1000)
    bytes: int = Field(ge=0, le=EXACT)
    adler32: str = Field(pattern="^[0-9a-f]{8}$")


def _first_files(value: Any) -> Any:
    return value[:MAX_FILES] if isinstance(value, list) else value


class _Results(_Lenient):
    url: str = Field(max_length=1000)
    count: int = Field(ge=0, le=10**9)
    bytes: int = Field(ge=0, le=EXACT)
    files: Annotated[list[_File], BeforeValidator(_first_files)] = Field(default_factory=list)


class RunnerReport(_Lenient):
    """The termination message of ``af-run``."""

    exit_code: int | None = Field(default=None, ge=-1024, le=1024)
    wall_seconds: float | None = Field(default=None, ge=0, le=1e9)
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=EXACT)
    results: _Results | None = None
    error: str | None = Field(default=None, max_length=4096)


def spec(session: Session) -> Run:
    """Return the run's spec."""
    if session.spec.run is None:
        raise TypeError("this session has no run")
    return session.spec.run


def job_end(job: Body) -> Body | None:
    """Return the condition that ended a Job, or None."""
    conditions = job.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def finish(session: Session, observed: Observed) -> Finish | None:
    """Return how and when the run ended, from the Job or, when that is gone, from what was told or kept."""
    job = _job(session, observed)
    if job is None:
        kept = recorded(session, observed)
        return finish_in_status(session) or (kept.finish if kept else None)
    end = job_end(job)
    if end is None:
        return None  # it goes on, whatever is written elsewhere
    time = end_time(session, end)
    if end["type"] == "Complete":
        return Finish("Succeeded", "the run ended with exit code 0", time)
    return Finish(*_failure(session, observed, end), time)


def report(session: Session, observed: Settled) -> Mapping[str, Any]:
    """Return ``status.run``."""
    status = run_status(session, observed)
    return {"run": status} if status else {}


def run_status(session: Session, observed: Settled) -> dict[str, Any] | None:
    """Return what is known of the run, as status writes it; None before it has a Job."""
    job, pod = _job(session, observed), _latest_pod(observed)
    last_known = _last_known(session, observed) if pod is None else {}
    if last_known:
        return {**last_known, **_end_of(session, observed)}
    if job is None:
        return None
    counts = job.get("status", {})
    attempts = sum(counts.get(k) or 0 for k in ("active", "failed", "succeeded"))
    reason = _reason(session, observed, job, pod)
    return run_of({"attempts": min(max(0, attempts), 100), "reason": reason, **_of_pod(pod)})


def _last_known(session: Session, observed: Observed) -> Mapping[str, Any]:
    """Return what was known of the run when it had a pod; nobody but the operator has written what the status says."""
    kept = recorded(session, observed)
    of_status = run_of(session.status.get("run")) if finish_in_status(session) and finish(session, observed) else {}
    return of_status or (kept.run if kept else {})


def outdated(session: Session, observed: Observed, kept: Kept) -> bool:
    """Return whether the record lacks how the run ended, or says so of another end than its Job's."""
    end = finish(session, observed)
    if end is None:
        return False
    job = _job(session, observed)
    return kept.finish is None or (job is not None and kept.finish.time != end.time)


def log_wanted(session: Session, observed: Settled) -> LogRequest | None:
    """Return whose log to read before it is gone: the last pod's of a run that ends."""
    if observed.log_tail is not None or recorded(session, observed):
        return None
    job, pod = _job(session, observed), _latest_pod(observed)
    if job is None or pod is None or not (observed.finished or job_end(job) or _is_being_ended(job)):
        return None
    state = _container(pod).get("state", {})
    if not ("running" in state or "terminated" in state):
        return None  # it never ran: the API server would answer with an error
    return LogRequest(pod["metadata"]["name"], names.RUN_CONTAINER, LOG_LINES)


def record(session: Session, observed: Settled) -> str:
    """Return what is to be kept of the run beside its log, as JSON."""
    end, status = finish(session, observed), run_status(session, observed)
    values: dict[str, Any] = {"run": status} if status else {}
    if end:
        values["finish"] = {"reason": end.reason, "message": end.message, "time": end.time.isoformat()}
    return json.dumps(values, sort_keys=True)


def health(session: Session, observed: Settled) -> Health:
    """Return ready while the program runs."""
    end = observed.finished or finish(session, observed)
    if end:
        return Health(False, end.reason, end.message)
    if session.spec.suspend:
        return Health(False, "Suspended", "the run starts again when the session is resumed")
    job, pod = _job(session, observed), _latest_pod(observed)
    if job is None or job.get("spec", {}).get("suspend"):
        return Health(False, "WaitingForOthers", "the run starts when everything that it needs is ready")
    if pod is None:
        hint = f"if this stays so, a quota or a policy refuses it: `kubectl describe job {names.run_job(session)}`"
        return Health(False, "PodMissing", f"the run has no pod yet; {hint}")
    return _pod_health(session, pod)


def activity(session: Session, observed: Settled) -> datetime | None:
    """Return when the run's program last began or ended: in between, it is what the session is used for."""
    end = finish(session, observed)
    if end:
        return end.time
    pod = _latest_pod(observed)
    pod_status = _of_pod(pod)
    return untrusted.time_of(pod_status.get("completionTime") or pod_status.get("startTime"))


def _pod_health(session: Session, pod: Body) -> Health:
    if pod_reasons.is_ready(pod):
        return Health(True, "Running", f"the program runs in pod {pod['metadata']['name']}")
    terminated = _terminated(pod)
    if terminated and terminated.get("reason") != "OOMKilled":
        # Its sidecars go, then the Job tells whether that was the end or there is another attempt.
        return Health(False, "Ending", f"the program has ended with exit code {terminated.get('exitCode')}")
    reason, message = pod_reasons.why(pod)
    source = spec(session).source
    if reason == pod_reasons.STARTING and source and source.config_map:
        message += f"; if this stays so, there may be no ConfigMap {source.config_map!r} in this namespace"
    return Health(False, reason, message)


def _failure(session: Session, observed: Observed, end: Body) -> tuple[str, str]:
    if end.get("reason") == "DeadlineExceeded":
        seconds = spec(session).active_deadline_seconds
        return "DeadlineExceeded", f"the run did not end within its activeDeadlineSeconds ({seconds})"
    pod = _latest_pod(observed)
    if pod is None:
        return "Failed", end.get("message") or "the run failed, and its pod is gone"
    if pod.get("status", {}).get("reason"):
        return pod_reasons.why(pod)
    terminated = _terminated(pod)
    if terminated.get("reason") == "OOMKilled":
        return "OOMKilled", "the run used more memory than its size has: choose a larger size"
    if not terminated:
        return "Failed", pod_reasons.why(pod).message
    return "Failed", f"the run ended with exit code {terminated.get('exitCode')}{_last_message(session, observed, pod)}"


def _last_message(session: Session, observed: Observed, pod: Body) -> str:
    report = _report_of(pod)
    kept = recorded(session, observed)
    log = kept.log if kept else observed.log_tail
    program_log = "\n".join(line for line in (log or "").splitlines() if not line.startswith(RUNNER_SAYS))
    message = (report.error if report else None) or pod_reasons.last_line(program_log)
    if not message and report is None:
        message = pod_reasons.last_line(_terminated(pod).get("message"))
    return f": {message}" if message else ""


def _reason(session: Session, observed: Settled, job: Body, pod: Body | None) -> str:
    end = observed.finished or finish(session, observed)
    if end:
        return end.reason
    if job.get("spec", {}).get("suspend"):
        return "Suspended" if session.spec.suspend else "Waiting"
    return "Running" if pod and pod_reasons.is_ready(pod) else "Starting"


def _end_of(session: Session, observed: Observed) -> dict[str, Any]:
    # What was kept may be of the moment when the pod was about to go: then the end came later.
    end = finish(session, observed)
    return {"reason": end.reason} if end else {}


def _of_pod(pod: Body | None) -> dict[str, Any]:
    """Return the part of ``status.run`` that the latest pod knows."""
    if pod is None:
        return {}
    terminated, report = _terminated(pod), _report_of(pod)
    started = terminated.get("startedAt") or _container(pod).get("state", {}).get("running", {}).get("startedAt")
    return {
        "pod": pod["metadata"]["name"],
        "exitCode": terminated.get("exitCode"),
        "startTime": started,
        "completionTime": terminated.get("finishedAt"),
        "wallSeconds": report.wall_seconds if report else None,
        "peakMemoryBytes": report.peak_memory_bytes if report else None,
        "results": report.results.model_dump() if report and report.results else None,
    }


def _report_of(pod: Body) -> RunnerReport | None:
    message = _terminated(pod).get("message", "")
    if not message.startswith("{"):
        return None  # the runner was killed: this is the log's end, by terminationMessagePolicy
    try:
        return RunnerReport.model_validate_json(message)
    except ValidationError:
        return None


def _is_being_ended(job: Body) -> bool:
    # The Job controller deletes the pod of a run that is over its deadline, and with it the log.
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] == "FailureTarget" and c.get("reason") == "DeadlineExceeded" for c in conditions)


def _job(session: Session, observed: Observed) -> Body | None:
    return observed.get(JOB.ref(names.run_job(session)))


def _latest_pod(observed: Observed) -> Body | None:
    pods = observed.pods(NAME)
    return max(pods, key=age_of, default=None)


def _container(pod: Body) -> Body:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((s for s in statuses if s["name"] == names.RUN_CONTAINER), {})


def _terminated(pod: Body) -> Body:
    terminated: Body = _container(pod).get("state", {}).get("terminated", {})
    return terminated
