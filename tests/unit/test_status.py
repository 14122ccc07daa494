"""The status as a function: phases, summary, events. The details of components are in their own tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from af_names import plain
from af_operator import status
from af_operator.api import SessionStatus
from af_operator.model import Body, Finish, Health, ObjectRef, Plan, Refusal, Session
from af_operator.world import parse_session
from tests.support.bench import SPEC

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
READY = Health(True, "Ready", "fine", {"dask": "tcp://s:8786"}, {"pools": {"cpu": {"ready": 1, "desired": 1}}})
WAITING = Health(False, "WaitingForOthers", "waits")
STARTING = Health(False, "Unschedulable", "0/1 nodes are available")
TITLES = {"dask": "Dask", "xcache": "XCache", "run": "Run"}
ALL = frozenset(TITLES)


def session(before: dict[str, Any] | None = None, **spec: Any) -> Session:
    metadata = {
        "namespace": "physics",
        "name": "zmumu",
        "uid": "u",
        "generation": 3,
        "creationTimestamp": "2026-11-21T12:00:00Z",
    }
    return parse_session({"metadata": metadata, "spec": {**SPEC, **spec}, "status": before or {}})


def plan(dask: Health = READY, run: Health = READY, **more: Any) -> Plan:
    return Plan(
        titles={"dask": "Dask", "xcache": "XCache", "run": "Run"},
        active=ALL,
        health={"dask": dask, "xcache": READY, "run": run},
        **more,
    )


def state(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


END = Finish("Succeeded", "the run ended with exit code 0", NOW)


@pytest.mark.parametrize(
    ("of", "what", "phase", "ready"),
    [
        (session(), plan(dask=STARTING, run=WAITING), "Pending", ("False", "Unschedulable")),
        (session({"conditions": [{"type": "x", "status": "True"}]}), plan(run=WAITING), "Starting", None),
        (session(), plan(), "Running", ("True", "Ready")),
        (session(mode="Interactive", run=None), plan(), "Ready", ("True", "Ready")),
        (session(suspend=True), plan(), "Suspended", ("False", "Suspended")),
        (session(), plan(finished=END), "Succeeded", ("False", "Finished")),
        (session(), plan(finished=replace(END, reason="OOMKilled")), "Failed", ("False", "Finished")),
        (session(), Plan(rejected=("UnknownImage", "choose from []")), "Refused", ("False", "UnknownImage")),
    ],
)
def test_phase_and_summary(of: Session, what: Plan, phase: str, ready: tuple[str, str] | None) -> None:
    found = status.compute(of, what, [], NOW)
    SessionStatus.model_validate(found)
    assert found["phase"] == phase
    assert ready is None or state(found)["Ready"] == ready
    assert found["observedGeneration"] == 3


def test_the_summary_names_the_trouble_and_not_those_that_wait_for_it() -> None:
    found = status.compute(session(), plan(dask=STARTING, run=WAITING), [], NOW)
    message = next(c["message"] for c in found["conditions"] if c["type"] == "Ready")
    assert message == "Dask: 0/1 nodes are available"


def test_a_refusal_is_the_condition_of_its_component() -> None:
    refusal = Refusal(ObjectRef("v1", "ConfigMap", "c"), "xcache", "Refused", "exceeded quota")
    found = status.compute(session(), plan(), [refusal], NOW)
    assert state(found)["XCacheReady"] == ("False", "Refused")
    assert state(found)["Ready"] == ("False", "Refused")


def test_what_is_gone_shows_no_endpoints_or_counts() -> None:
    over = plan(run=Health(False, "Succeeded", "over"), finished=END)
    found = status.compute(session(), replace(over, active=frozenset({"run"})), [], NOW)
    assert "endpoints" not in found
    assert "components" not in found
    assert state(found)["DaskReady"] == ("False", "Finished")


def test_transition_times_change_only_on_a_flip() -> None:
    first = status.compute(session(), plan(run=WAITING), [], NOW)
    later = NOW + timedelta(minutes=1)
    second = status.compute(session(first), plan(), [], later)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["Accepted"] == times["DaskReady"] == "2026-11-21T12:00:00Z"
    assert times["RunReady"] == times["Ready"] == "2026-11-21T12:01:00Z"


def test_events_are_few_on_flips_and_of_trouble() -> None:
    def told(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
        return [(n.kind, n.reason) for n in status.events(before, after)]

    starting = status.compute(session(), plan(dask=STARTING), [], NOW)
    running = status.compute(session(starting), plan(), [], NOW)
    ended = status.compute(session(running), plan(finished=END), [], NOW)
    failed = status.compute(session(running), plan(finished=replace(END, reason="Failed")), [], NOW)
    assert told({}, starting) == []
    assert told(starting, running) == []
    assert told(running, running) == []
    assert told(running, ended) == []
    assert told(running, failed) == [("Warning", "Failed")]
    refused = status.compute(session(), Plan(rejected=("UnknownImage", "choose from []")), [], NOW)
    assert told({}, refused) == [("Warning", "UnknownImage")]


def test_what_somebody_waits_for_is_urgent_and_progress_is_not() -> None:
    starting = status.compute(session(), plan(dask=STARTING), [], NOW)
    further = status.compute(session(starting), plan(dask=replace(STARTING, message="1 of 2")), [], NOW)
    running = status.compute(session(further), plan(), [], NOW)
    ended = status.compute(session(running), plan(finished=END), [], NOW)
    assert status.urgent({}, starting)
    assert not status.urgent(starting, further)
    assert status.urgent(further, running)
    assert status.urgent(running, ended)


def test_the_size_of_a_pool_is_urgent_once_the_session_is_ready() -> None:
    def with_pool(workers: int, health: Health = READY) -> Body:
        sized = replace(health, details={"pools": {"cpu": {"ready": workers, "desired": 2}}})
        return status.compute(session(), plan(dask=sized), [], NOW)

    assert not status.urgent(with_pool(1, STARTING), with_pool(2, STARTING))
    assert status.urgent(with_pool(1), with_pool(2))
    assert not status.urgent(with_pool(2), with_pool(1))


def test_messages_are_cut_to_what_people_read() -> None:
    found = status.compute(session(), plan(dask=replace(STARTING, message="x" * 10_000)), [], NOW)
    assert max(len(c["message"]) for c in found["conditions"]) <= status.MAX_MESSAGE


def test_what_others_wrote_moves_no_cursor_and_is_one_line() -> None:
    wrote = "\x1b[2J\x1b]0;title\x07gpj\u202eexe\nnext: sh evil"
    report = {"run": {"reason": wrote, "results": {"files": [{"url": f"root://x//two  spaces{wrote}"}]}}}
    health = {"run": Health(False, "Error", wrote)}
    told = Plan(titles={"run": "Run"}, active=frozenset({"run"}), health=health, report=report)
    found = status.compute(session(), told, [], NOW)
    assert all(plain.is_line(text) for text in texts(found))
    assert "two  spaces" in str(found["run"])
    assert all(plain.is_line(event.message) for event in status.events({}, found))
    assert plain.is_line(status.unreadable(stored(), wrote, NOW)["conditions"][0]["message"])


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        yield from (text for each in (value.values() if isinstance(value, dict) else value) for text in texts(each))


def stored() -> dict[str, Any]:
    return {"metadata": {"name": "zmumu", "namespace": "physics", "generation": 1}}


def test_a_loss_is_told_at_once_and_more_of_the_same_is_no_news() -> None:
    def lost(words: str | None) -> dict[str, Any]:
        pool = {"ready": 1, "desired": 2, **({"lastLoss": words} if words else {})}
        ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
        return {"observedGeneration": 1, "conditions": [ready], "components": {"dask": {"pools": {"cpu": pool}}}}

    assert status.urgent(lost(None), lost("its node was lost"))
    assert status.urgent(lost("its node was lost"), lost("preempted by a pod of higher priority"))
    assert not status.urgent(lost("its node was lost"), lost("its node was lost"))
    assert not status.urgent(lost(None), lost(None))
