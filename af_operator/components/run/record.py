"""What is known of a run: how it goes, how it ended, and what is kept of it when its pods are gone.

The sources are the Job's conditions, the pod's container status with the runner's report in the
termination message, and what was kept (``kept``). A user can write anything into the
termination message, so it is parsed with bounds, and what does not fit is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError

from af_operator import names
from af_operator.api.status import EXACT
from af_operator.components._shared import missing_pods, pod_reasons, untrusted
from af_operator.components.run import tries
from af_operator.components.run.kept import Kept, end_time, finish_in_status, recorded, run_of
from af_operator.components.run.results import Lenient, Results, believed, believed_of_record, left_out
from af_operator.components.run.tries import DISRUPTED, current_job, job_end, latest_pod, spec
from af_operator.model import Body, Finish, Health, LogRequest, Session
from af_operator.observed import Observed, Settled

LOG_LINES = 200
RUNNER_SAYS = "af-run: "
"""How lines begin that are the runner's, not the program's."""


class RunnerReport(Lenient):
    """The termination message of ``af-run``."""

    exit_code: int | None = Field(default=None, ge=-1024, le=1024)
    wall_seconds: float | None = Field(default=None, ge=0, le=1e9)
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=EXACT)
    results: Results | None = None
    error: str | None = Field(default=None, max_length=4096)
    oom: bool = False
    """A process of the run was killed because its container had no memory left."""


def finish(session: Session, observed: Observed) -> Finish | None:
    """Return how and when the run ended, from the Job or, when that is gone, from what was told or kept."""
    job = current_job(session, observed)
    if job is None:
        kept = recorded(session, observed)
        return finish_in_status(session) or (kept.finish if kept else None)
    end = job_end(job)
    if end is None or tries.following(session, observed):
        return None  # it goes on, whatever is written elsewhere
    time = end_time(session, end)
    if end["type"] == "Complete":
        return Finish("Succeeded", f"the run ended with exit code 0{_after(session, observed)}", time)
    reason, message = _failure(session, observed, end)
    return Finish(reason, f"{message}{_after(session, observed)}", time)


def report(session: Session, observed: Settled) -> Mapping[str, Any]:
    """Return ``status.run``."""
    status = run_status(session, observed)
    return {"run": status} if status else {}


def run_status(session: Session, observed: Settled) -> dict[str, Any] | None:
    """Return what is known of the run, as status writes it; None before it has a Job."""
    job, pod = current_job(session, observed), latest_pod(session, observed)
    last_known = _last_known(session, observed) if pod is None else {}
    if last_known:
        return {**last_known, **_end_of(session, observed)}
    if job is None:
        return None
    reason, attempts = _reason(session, observed, job, pod), tries.attempts(session, observed)
    return run_of({"attempts": attempts, **_disrupted(session, observed), "reason": reason, **_of_pod(pod)})


def _last_known(session: Session, observed: Observed) -> Mapping[str, Any]:
    """Return what was known of the run when it had a pod; nobody but the operator has written what the status says."""
    kept = recorded(session, observed)
    of_status = run_of(session.status.get("run")) if finish_in_status(session) and finish(session, observed) else {}
    return of_status or (believed_of_record(_template(session, observed), kept.run) if kept else {})


def _template(session: Session, observed: Observed) -> Body:
    """Return the pod spec of the run's Job, which is ours; empty where there is none."""
    job = current_job(session, observed) or {}
    spec: Body = job.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def outdated(session: Session, observed: Observed, kept: Kept) -> bool:
    """Return whether the record lacks how the run ended, or says so of another end than its Job's."""
    end = finish(session, observed)
    if end is None:
        return False
    job = current_job(session, observed)
    return kept.finish is None or (job is not None and kept.finish.time != end.time)


def log_wanted(session: Session, observed: Settled) -> LogRequest | None:
    """Return whose log to read before it is gone: the last pod's of a run that ends."""
    if observed.log_tail is not None or recorded(session, observed):
        return None
    job, pod = current_job(session, observed), latest_pod(session, observed)
    ends = observed.finished or (job is not None and tries.is_over_its_deadline(job))
    if job is None or pod is None or not (ends or finish(session, observed)):
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
    job, pod = current_job(session, observed), latest_pod(session, observed)
    if job is None or job.get("spec", {}).get("suspend"):
        return Health(False, "WaitingForOthers", "the run starts when everything that it needs is ready")
    if again := _again(session, observed):
        return again
    if pod is None:
        return Health(False, *missing_pods.why(job["metadata"]["name"], "the run", observed))
    return _pod_health(session, pod)


def activity(session: Session, observed: Settled) -> datetime | None:
    """Return when the run's program last began or ended: in between, it is what the session is used for."""
    end = finish(session, observed)
    if end:
        return end.time
    pod_status = _of_pod(latest_pod(session, observed))
    return untrusted.time_of(pod_status.get("completionTime") or pod_status.get("startTime"))


def _pod_health(session: Session, pod: Body) -> Health:
    if pod_reasons.is_ready(pod):
        return Health(True, "Running", f"the program runs in pod {pod['metadata']['name']}")
    terminated = _terminated(pod)
    if terminated and terminated.get("reason") != pod_reasons.OOM:
        # Its sidecars go, then the Job tells whether that was the end or there is another attempt.
        return Health(False, "Ending", f"the program has ended with exit code {terminated.get('exitCode')}")
    reason, message = pod_reasons.why(pod)
    source = spec(session).source
    if reason == pod_reasons.STARTING and source and source.config_map:
        message += f"; if this stays so, there may be no ConfigMap {source.config_map!r} in this namespace"
    return Health(False, reason, message)


def _failure(session: Session, observed: Observed, end: Body) -> tuple[str, str]:
    pod, lost = latest_pod(session, observed), tries.disruption(session, observed)
    if end.get("reason") == "DeadlineExceeded" or (lost and tries.is_out_of_time(session, observed)):
        seconds = spec(session).active_deadline_seconds
        return "DeadlineExceeded", f"the run did not end within its activeDeadlineSeconds ({seconds})"
    if lost:
        number = tries.current(session, observed).disruptions + 1
        return DISRUPTED, f"the run was disrupted {number} times, and is not begun again; the last time: {lost}"
    if pod is None:
        return "Failed", end.get("message") or "the run failed, and its pod is gone"
    return _failure_of(session, observed, pod)


def _failure_of(session: Session, observed: Observed, pod: Body) -> tuple[str, str]:
    terminated, report = _terminated(pod), _report_of(pod)
    if pod.get("status", {}).get("reason") or not terminated:
        reason, message = pod_reasons.why(pod)
        return reason if pod.get("status", {}).get("reason") else "Failed", message
    if terminated.get("reason") == pod_reasons.OOM or (report and report.oom):
        field = pod_reasons.size_field(pod)
        return pod_reasons.OOM, f"the run used more memory than its size has: choose a larger size ({field})"
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
    if tries.disruption(session, observed):
        return DISRUPTED
    return "Running" if pod and pod_reasons.is_ready(pod) else "Starting"


def _disrupted(session: Session, observed: Observed) -> dict[str, Any]:
    """Return the part of ``status.run`` that tells of disruptions; nothing where there was none."""
    lost = tries.disruption(session, observed)
    number = tries.current(session, observed).disruptions + (1 if lost else 0)
    told = session.status.get("run", {}).get("lastDisruption")
    return {"disruptions": number, "lastDisruption": lost or told} if number else {}


def _after(session: Session, observed: Observed) -> str:
    """Say of an end how many disruptions there were before it, and what of its results is not believed."""
    number = tries.current(session, observed).disruptions
    again = f" (begun again after {number} disruption{'' if number == 1 else 's'})" if number else ""
    return again + _left_out(latest_pod(session, observed))


def _left_out(pod: Body | None) -> str:
    report = _report_of(pod) if pod else None
    return left_out(pod.get("spec", {}), report.results) if pod and report else ""


def _again(session: Session, observed: Settled) -> Health | None:
    """Say why a try has ended after which there is another one."""
    lost, following = tries.disruption(session, observed), tries.following(session, observed)
    number = tries.current(session, observed).number
    if following is None or following.begins is None:
        return Health(False, DISRUPTED, f"try {number} of the run is being ended: {lost}") if lost else None
    begins = f"it begins again at {following.begins:%H:%M:%S} UTC, and its log until then is gone with its pod"
    if lost:
        return Health(False, DISRUPTED, f"try {number} of the run was disrupted: {lost}; {begins}")
    failures, allowed = following.number - 1 - following.disruptions, spec(session).backoff_limit
    reason, message = _failure(session, observed, job_end(current_job(session, observed) or {}) or {})
    return Health(False, reason, f"{message}; {begins} (failure {failures}, backoffLimit {allowed})")


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
        "results": believed(pod.get("spec", {}), report.results) if report else None,
    }


def _report_of(pod: Body) -> RunnerReport | None:
    message = _terminated(pod).get("message", "")
    if not message.startswith("{"):
        return None  # the runner was killed: this is the log's end, by terminationMessagePolicy
    try:
        return RunnerReport.model_validate_json(message)
    except ValidationError:
        return None


def _container(pod: Body) -> Body:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((s for s in statuses if s["name"] == names.RUN_CONTAINER), {})


def _terminated(pod: Body) -> Body:
    terminated: Body = _container(pod).get("state", {}).get("terminated", {})
    return terminated
