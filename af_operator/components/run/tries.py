"""The tries of a run: each is a Job of its own, and what comes after one follows from how it ended. Pure.

A try that failed is followed by another one as often as ``backoffLimit`` says. One that lost its pod to the cluster
(``disruptions``) is no failure, and is followed by another one as well, within a bound. Kubernetes' Job controller
tells these apart only where it was the API's own Eviction, a preemption or a lost node, and not where somebody deleted
the pod; so a Job has one try, and what is next is decided here, from objects alone: which try a Job is stands in its
name, and how many before it were disrupted in its label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from af_operator import names
from af_operator.api.session import Run
from af_operator.components._shared import disruptions, untrusted
from af_operator.components.run.kept import end_time
from af_operator.model import Body, Kind, Session, age_of, label_of
from af_operator.observed import Observed

NAME = "run"
JOB = Kind("batch/v1", "Job", "jobs")
MAX_DISRUPTIONS = 10
"""So often a run is begun again after a disruption."""
DISRUPTED = "Disrupted"
PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=6)
"""Between two tries; it doubles. As Kubernetes' Job controller does, which has no say between two Jobs."""


@dataclass(frozen=True)
class Try:
    """One try of the run.

    Attributes
    ----------
    number
        From 1.
    disruptions
        How many of the tries before it were disrupted; all others failed.
    deadline
        Seconds that it may run; None for ever.
    begins
        Not before; None for now.
    """

    number: int = 1
    disruptions: int = 0
    deadline: int | None = None
    begins: datetime | None = None


def spec(session: Session) -> Run:
    """Return the run's spec."""
    if session.spec.run is None:
        raise TypeError("this session has no run")
    return session.spec.run


def current_job(session: Session, observed: Observed) -> Body | None:
    """Return the Job of the latest try; those before it are on their way out."""
    first = names.run_job(session)
    jobs = [job for job in observed.of(JOB) if job["metadata"]["name"].startswith(first)]
    return max(jobs, key=lambda job: names.run_number(session, job["metadata"]["name"]), default=None)


def current(session: Session, observed: Observed) -> Try:
    """Return the try that there is, or that is to be."""
    job, limit = current_job(session, observed), spec(session).active_deadline_seconds
    if job is None:  # somebody has deleted it, or it is made anew by another template
        told = session.status.get("run", {})
        lost = told.get("disruptions") or 0
        return Try(max(lost + 1, told.get("attempts") or 1), lost, limit)
    number = names.run_number(session, job["metadata"]["name"])
    label = label_of(job, names.DISRUPTIONS) or ""
    left = job.get("spec", {}).get("activeDeadlineSeconds")
    deadline = limit if number == 1 or limit is None or not left else min(limit, left)
    return Try(number, min(int(label), number - 1) if label.isdecimal() else 0, deadline)


def job_end(job: Body) -> Body | None:
    """Return the condition that ended a Job, or None."""
    conditions = job.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def is_over_its_deadline(job: Body) -> bool:
    """Return whether the Job controller ends a try for its deadline: it deletes the pod, and with it the log."""
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("FailureTarget", "Failed") and c.get("reason") == "DeadlineExceeded" for c in conditions)


def pods(observed: Observed, job: Body | None) -> Sequence[Body]:
    """Return the pods of a try; of all tries where its Job is gone."""
    if job is None:
        return observed.pods(NAME)
    return [pod for pod in observed.pods(NAME) if pod["metadata"]["name"].startswith(f"{job['metadata']['name']}-")]


def latest_pod(session: Session, observed: Observed) -> Body | None:
    """Return the pod of the latest try, or None."""
    of_try = pods(observed, current_job(session, observed))
    return max(of_try, key=age_of, default=None)


def without_pod(session: Session, observed: Observed) -> Body | None:
    """Return the Job of the latest try where it should have a pod and has none."""
    job = current_job(session, observed)
    if job is None or session.spec.suspend or job.get("spec", {}).get("suspend") is not False or job_end(job):
        return None
    return None if pods(observed, job) or not job.get("status") else job


def disruption(session: Session, observed: Observed) -> str | None:
    """Return what took the pod of the latest try away from its program, in words; None where nothing has."""
    job = current_job(session, observed)
    if job is None or session.spec.suspend or job.get("spec", {}).get("suspend") or is_over_its_deadline(job):
        return None
    end, pod = job_end(job), latest_pod(session, observed)
    if end and end["type"] == "Complete":
        return None
    if pod is not None:
        return disruptions.words(pod)
    told = session.status.get("run", {})
    of_this_try = told.get("attempts") == current(session, observed).number
    if of_this_try and told.get("reason") == DISRUPTED:
        return str(told.get("lastDisruption") or disruptions.DELETED)
    # A pod that failed stays as long as its Job: one that is gone was deleted.
    has_failed = of_this_try and told.get("exitCode") is not None
    return disruptions.DELETED if end and not has_failed else None


def following(session: Session, observed: Observed) -> Try | None:
    """Return the try that comes after the latest one; None where that goes on, or was the last."""
    job = current_job(session, observed)
    end = job_end(job) if job else None
    if job is None or end is None or end["type"] == "Complete" or is_over_its_deadline(job):
        return None
    before, lost = current(session, observed), disruption(session, observed)
    disrupted = before.disruptions + (1 if lost else 0)
    # A Job that was made before each try had its own may have tried more than once.
    failed = before.number - 1 - before.disruptions + (0 if lost else max(1, job["status"].get("failed") or 0))
    left = _left(before, job, end)
    if disrupted > MAX_DISRUPTIONS or failed > spec(session).backoff_limit or is_out_of_time(session, observed):
        return None
    pause = min(PAUSE * 2 ** (before.number - 1), LONGEST_PAUSE)
    return Try(before.number + 1, disrupted, left, end_time(session, end) + pause)


def is_out_of_time(session: Session, observed: Observed) -> bool:
    """Return whether the tries until now have taken all the time that the run has."""
    job = current_job(session, observed)
    end = job_end(job) if job else None
    left = _left(current(session, observed), job, end) if job and end else None
    return left is not None and left <= 0


def attempts(session: Session, observed: Observed) -> int:
    """Return how many pods were started."""
    job = current_job(session, observed)
    if job is None:
        return 0
    counts = job.get("status", {})
    of_job = sum(counts.get(each) or 0 for each in ("active", "failed", "succeeded"))
    seen = 1 if pods(observed, job) else 0  # the Job controller counts a moment later
    return min(current(session, observed).number - 1 + max(seen, of_job), 100)


def _left(tried: Try, job: Body, end: Body) -> int | None:
    """Return the seconds of the run's deadline that a try has left."""
    if tried.deadline is None:
        return None
    began, ended = untrusted.time_of(job["status"].get("startTime")), untrusted.time_of(end.get("lastTransitionTime"))
    used = (ended - began).total_seconds() if began and ended else 0
    return tried.deadline - int(used)
