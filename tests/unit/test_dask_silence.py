"""A scheduler that does not answer: what is said of it, and what tells it from one that starts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from af_operator import names
from af_operator.components import dask
from af_operator.components._shared import pod_reasons
from af_operator.components._shared.pools import CALM
from af_operator.model import Body
from af_operator.observed import Terms
from af_operator.views import AgentView
from tests.support.objects import DASK, container, of_component, ours, pod, profile, session, world

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IS_WORKER = {names.ROLE: "worker", names.WORKER_GROUP: "zmumu-cpu-1"}
AWAY = AgentView(trouble="it cannot be reached", silent_since=NOON, deadline=NOON + timedelta(seconds=90))
WORKER = ours(pod("w", names.labels(session(), "dask", "cpu") | IS_WORKER, ready=True))


RUNS = {"running": {"startedAt": "2026-01-01T11:00:00Z"}}


def scheduler(unready: str | None = None, state: dict[str, Any] = RUNS) -> Body:
    """Return one that is ready, or not since some time."""
    labels = of_component("dask", **{names.ROLE: "scheduler"})
    found = pod("s", labels, container("scheduler", **state), ready=unready is None)
    found["status"]["conditions"][0]["lastTransitionTime"] = unready or "2026-01-01T11:00:05Z"
    return found


def said(view: AgentView | None, pod: Body) -> tuple[bool, str, str]:
    found = dask.health(session(dask=DASK), world(pod, WORKER, dask=view))
    return found.ready, found.reason, found.message


def test_until_when_workers_stay_and_what_can_be_done_is_said() -> None:
    ready, _, message = said(AWAY, scheduler())
    assert ready, "its pod is, so far"
    assert "does not answer since 12:00:00 UTC (it cannot be reached): no worker is removed until it does" in message
    assert "from 12:01:30 UTC on workers go without its word" in message
    assert "suspend and resume" in message


def test_after_the_deadline_it_is_said_that_workers_go_without_its_word() -> None:
    _, _, message = said(replace(AWAY, given_up=True), scheduler())
    assert "since 12:01:30 UTC workers go without its word" in message
    assert "until it does" not in message


def test_a_silent_one_is_not_said_to_start_once_its_probe_fails() -> None:
    ready, reason, message = said(AWAY, scheduler("2026-01-01T12:00:16Z"))
    assert (ready, reason) == (False, "SchedulerSilent")
    assert "from 12:01:30 UTC on" in message


def test_a_silent_one_that_is_asked_nothing_is_seen_by_its_probe() -> None:
    _, reason, message = said(None, scheduler("2026-01-01T12:00:16Z"))
    assert reason == "SchedulerSilent"
    assert message.startswith("the scheduler does not answer since 12:00:16 UTC: it may be busy")


@pytest.mark.parametrize(
    "pod",
    [
        scheduler("2026-01-01T11:00:00Z"),  # not ready since before it ran
        scheduler("2026-01-01T10:59:00Z"),
        scheduler("2026-01-01T12:00:16Z", {"waiting": {"reason": "ContainerCreating"}}),
        scheduler(),
    ],
)
def test_one_that_starts_is_not_silent(pod: Body) -> None:
    assert pod_reasons.silent_since(pod) is None


def test_one_that_goes_is_not_silent() -> None:
    body = scheduler("2026-01-01T12:00:16Z")
    assert pod_reasons.silent_since(body)
    assert pod_reasons.silent_since({**body, "metadata": {**body["metadata"], "deletionTimestamp": "now"}}) is None


def test_it_is_asked_on_while_it_is_silent_to_know_of_its_return() -> None:
    s = session(dask={"pools": [{"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}}]})
    terms = Terms(workers={"cpu": 1})
    calm, away = (dask.question(s, profile(), world(WORKER, dask=view), terms) for view in (None, AWAY))
    assert calm
    assert away
    assert (calm.every, away.every) == (CALM, None)
    assert calm.asked == away.asked
