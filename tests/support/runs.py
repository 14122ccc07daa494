"""A run in its Job, its pod and its record, for tables of tests."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

from af_operator.components import run
from af_operator.model import Body, Keep, Manifest, PodPatch, Session
from af_operator.observed import Settled, Terms
from tests.support.objects import RUN, container, live, of_component, pod, profile, session, world

LOG = "one\nlast words\naf-run: 0 files stored\n"
ENDED = datetime(2026, 1, 1, 10, 5, tzinfo=UTC)


def made(
    s: Session, observed: Settled, patch: PodPatch | None = None, waiting_for: tuple[str, ...] = (), **changes: Any
) -> list[Manifest | Keep]:
    terms = Terms(waiting_for, {"user": patch or PodPatch()})
    return list(run.desired(s, profile(**changes), observed, terms))


def job_of(items: list[Manifest | Keep]) -> Body | Keep | None:
    found = [i for i in items if (i.ref.kind == "Job")]
    return None if not found else (found[0].body if isinstance(found[0], Manifest) else found[0])


def job(*, suspend: bool, condition: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """Return the live Job of the session ``RUN``, as today's code made it."""
    body = job_of(made(session(run=RUN), world()))
    assert isinstance(body, dict)
    found = copy.deepcopy(body)
    found["metadata"] |= {"uid": "uid-of-job", "labels": of_component("run")}
    found["spec"]["suspend"] = suspend
    found["status"] = status | ({"conditions": [condition]} if condition else {})
    return found


def condition(kind: str, reason: str = "BackoffLimitExceeded") -> dict[str, Any]:
    when = "2026-01-01T10:05:00Z"
    return {"type": kind, "status": "True", "reason": reason, "message": "the Job's words", "lastTransitionTime": when}


def failed(reason: str = "BackoffLimitExceeded") -> dict[str, Any]:
    return job(suspend=False, condition=condition("Failed", reason), failed=1)


RESULTS = "root://x//r"
"""Where the results of its pods go."""


def run_pod(
    name: str = "zmumu-run-x", *, message: str = "", created: str = "10:01", **terminated: Any
) -> dict[str, Any]:
    times = {"startedAt": "2026-01-01T10:02:00Z", "finishedAt": "2026-01-01T10:04:00Z"}
    state = {"terminated": times | {"message": message} | terminated} if terminated else {"running": times}
    found = pod(name, of_component("run"), container("run", **state), ready=not terminated)
    found["metadata"]["creationTimestamp"] = f"2026-01-01T{created}:00Z"
    found["spec"] = {"containers": [{"name": "run", "env": [{"name": "AF_RESULTS_URL", "value": RESULTS}]}]}
    return found


def evicted(message: str, target: str = "TerminationByKubelet", **status: Any) -> dict[str, Any]:
    """Return the pod of a run that its node, or whoever `target` names, has taken away."""
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": target, "message": "m"}]
    more = {"reason": "Evicted", "message": message} if message else {}
    found = run_pod(exitCode=143)
    found["status"] |= {"phase": "Failed", "conditions": conditions} | more | status
    return found


def kept(**record: Any) -> dict[str, Any]:
    return live("v1", "ConfigMap", "zmumu-run-log", data={"log": LOG, "record": json.dumps(record)})


def log_of(observed: Settled) -> Body | Keep | None:
    items = [i for i in made(session(run=RUN), observed) if i.ref.name == "zmumu-run-log"]
    return None if not items else (items[0].body if isinstance(items[0], Manifest) else items[0])
