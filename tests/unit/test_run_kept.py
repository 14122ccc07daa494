"""What is believed of a run's record, which others can edit: neither its end nor its going on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from af_operator import plan
from af_operator.components import run, shipped
from af_operator.model import Body, Finish, Keep, Session
from tests.support.objects import RUN, live, profile, session, world
from tests.support.runs import ENDED, failed, job, job_of, kept, log_of, run_pod

SINCE = [{"type": "RunComplete", "status": "True", "reason": "OOMKilled", "message": "m"}]
TOLD = {"conditions": [c | {"lastTransitionTime": "2026-01-01T10:06:00Z"} for c in SINCE], "run": {"exitCode": 137}}
FORGED = {"reason": "Succeeded", "message": "all is well", "time": "2026-01-01T10:01:00+00:00"}


def ours(status: dict[str, Any] | None = None) -> Session:
    return replace(session(run=RUN), status=status or {})


@pytest.mark.parametrize("status", [None, TOLD])
def test_no_record_ends_a_run_that_goes_on(status: dict[str, Any] | None) -> None:
    running = world(job(suspend=False, active=1), run_pod(), kept(finish=FORGED, run={"exitCode": 0}))
    assert run.finish(ours(status), running) is None
    found = plan.build(shipped(), ours(status), profile(), running, ENDED)
    assert (found.finished, found.expired, found.report["run"]["reason"]) == (None, False, "Running")
    body = job_of([m for m in found.desired if m.ref.kind == "Job"])
    assert isinstance(body, dict)
    assert body["spec"]["suspend"] is False


def test_no_record_changes_how_a_run_has_ended_and_the_job_puts_it_right() -> None:
    observed = world(failed("DeadlineExceeded"), kept(finish=FORGED, run={"exitCode": 0}))
    found = run.finish(ours(), observed)
    assert found
    assert (found.reason, found.time) == ("DeadlineExceeded", ENDED)
    body = log_of(observed)
    assert isinstance(body, dict)
    record = json.loads(body["data"]["record"])["finish"]
    assert (record["reason"], record["time"]) == ("DeadlineExceeded", ENDED.isoformat())
    stored = live("v1", "ConfigMap", "zmumu-run-log", data=body["data"])
    assert isinstance(log_of(world(failed("DeadlineExceeded"), stored)), Keep), "and that is all"


@pytest.mark.parametrize("there", [(), (kept(),), (kept(finish=FORGED),), (live("v1", "ConfigMap", "zmumu-run-log"),)])
def test_a_run_that_was_told_to_be_over_stays_over_without_job_and_record(there: tuple[Body, ...]) -> None:
    observed, told = world(*there), ours(TOLD)
    end = Finish("OOMKilled", "m", datetime(2026, 1, 1, 10, 6, tzinfo=UTC))
    assert run.finish(told, observed) == end
    assert run.report(told, observed) == {"run": {"exitCode": 137, "reason": "OOMKilled"}}
    planned = plan.build(shipped(), told, profile(), observed, ENDED)
    assert planned.finished == end
    assert [m for m in planned.desired if m.ref.kind == "Job"] == []


def test_the_end_of_a_lifetime_is_not_the_runs() -> None:
    lifetime = {**TOLD, "conditions": [c | {"reason": "LifetimeExceeded"} for c in TOLD["conditions"]]}
    assert run.finish(ours(lifetime), world()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2026-01-01T09:59:59Z"},  # before the session was created: its time to live would be over
        {"time": "2026-01-01T10:05:00"},
        {"time": "9999-12-31T23:59:59Z"},
        {"time": None},
        {"reason": ""},
        {"reason": "R" * 101},
        {"reason": "two words"},
        {"message": 1},
    ],
)
def test_an_end_that_cannot_be_is_none(changes: dict[str, Any]) -> None:
    assert run.finish(ours(), world(kept(finish=FORGED | changes))) is None
    assert run.finish(ours(), world(kept(finish=FORGED))) is not None


def test_what_fits_of_a_record_is_shown() -> None:
    record = {"pod": 1, "exitCode": "x", "wallSeconds": -1, "attempts": 2, "results": {"files": 1}, "more": {}}
    observed = world(kept(run=record, finish=FORGED))
    assert run.report(ours(), observed) == {"run": {"attempts": 2, "reason": "Succeeded"}}
