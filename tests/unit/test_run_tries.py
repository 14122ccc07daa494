"""The tries of a run: which disruption it was, what follows a try and when, and what is told of it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from af_operator import names
from af_operator.api import SessionStatus
from af_operator.components import run
from af_operator.components._shared import disruptions
from af_operator.components.run import tries
from af_operator.model import Body, Finish, Keep, Manifest, Session
from af_operator.observed import Settled
from tests.support.objects import RUN, of_component, pod, session, world
from tests.support.runs import ENDED, condition, evicted, failed, job, made, run_pod

LOST = failed("PodFailurePolicy")
BEGINS = ENDED + timedelta(seconds=10)
LOW = "The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 0. "
OVER = [
    'Container run exceeded its local ephemeral storage limit "1Gi". ',
    "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
    'Usage of EmptyDir volume "work" exceeds the limit "1Gi". ',
]


def deleted(asked: str, **terminated: Any) -> dict[str, Any]:
    """Return the pod of a run that somebody has asked to go, thirty seconds before it is killed."""
    found = run_pod(**terminated)
    found["metadata"] |= {"deletionTimestamp": asked, "deletionGracePeriodSeconds": 30}
    return found


def told(**status: Any) -> Session:
    return replace(session(run=RUN), status={"run": status})


def try_of(number: int, before: int = 0, of: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return the Job of a later try."""
    found = copy.deepcopy(of or job(suspend=False))
    found["metadata"] |= {"name": f"zmumu-run-{number}", "uid": f"uid-of-{number}"}
    found["metadata"]["labels"] = {**of_component("run"), names.DISRUPTIONS: str(before)}
    found["spec"] |= spec
    return found


def jobs(s: Session, observed: Settled, waiting_for: tuple[str, ...] = ()) -> list[Manifest | Keep]:
    return [item for item in made(s, observed, waiting_for=waiting_for) if item.ref.kind == "Job"]


# What a disruption is


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (evicted("", "EvictionByEvictionAPI"), "evicted through the API, as when its node is drained"),
        (evicted("", "PreemptionByScheduler"), "preempted by a pod of higher priority"),
        (evicted("", "DeletionByTaintManager"), "evicted from its node, which was lost or tainted"),
        (evicted("", "DeletionByPodGC"), "its node was lost"),
        (evicted(LOW), "evicted: its node was low on ephemeral-storage"),
        (
            evicted("Pod was terminated in response to imminent node shutdown.", reason="Terminated"),
            "ended by its node (Pod was terminated in response to imminent node shutdown)",
        ),
        (evicted("", "SomethingNew"), "SomethingNew: m"),
        (deleted("2026-01-01T10:04:30Z", exitCode=143), "its pod was deleted"),
        (deleted("2026-01-01T10:04:30Z"), "its pod was deleted"),
        (
            pod("p", {}, phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
            "its node did not take it (OutOfcpu: Node didn't have enough resource: cpu)",
        ),
    ],
)
def test_who_took_the_pod(lost: Body, words: str) -> None:
    assert disruptions.words(lost) == words


@pytest.mark.parametrize(
    "ended",
    [
        run_pod(exitCode=1),
        run_pod(exitCode=137, reason="OOMKilled"),
        deleted("2026-01-01T10:04:31Z", exitCode=1),  # it had failed before anybody asked it to go
        *map(evicted, OVER),
    ],
)
def test_a_program_that_failed_was_not_disrupted(ended: Body) -> None:
    assert disruptions.words(ended) is None


# What follows


@pytest.mark.parametrize(
    "lost",
    [
        [LOST, evicted("", "EvictionByEvictionAPI")],
        [LOST],  # its pod is gone
        [failed()],  # somebody has deleted the pod, which leaves no condition
        [failed(), deleted("2026-01-01T10:04:30Z", exitCode=143)],
    ],
)
def test_a_disrupted_run_begins_again_though_nothing_may_fail(lost: list[Body]) -> None:
    s = session(run=RUN)
    assert run.finish(s, world(*lost)) is None
    assert run.deadline(s, world(*lost)) == BEGINS
    assert jobs(s, world(*lost, now=BEGINS - timedelta(seconds=1))) == [Keep(tries.JOB.ref("zmumu-run"))]
    first, second = jobs(s, world(*lost, now=BEGINS))
    assert first == Keep(tries.JOB.ref("zmumu-run"))
    assert isinstance(second, Manifest)
    assert second.ref.name == "zmumu-run-2"
    assert second.body["metadata"]["labels"] == {names.DISRUPTIONS: "1"}
    assert second.body["spec"]["suspend"] is False


def test_it_waits_for_what_was_lost_beside_it() -> None:
    _, second = jobs(session(run=RUN), world(LOST, now=BEGINS), waiting_for=("dask",))
    assert isinstance(second, Manifest)
    assert second.body["spec"]["suspend"] is True


def test_what_ended_goes_once_there_is_another() -> None:
    now = world(LOST, try_of(2, 1), now=BEGINS)
    assert [item.ref.name for item in jobs(session(run=RUN), now)] == ["zmumu-run-2"]


@pytest.mark.parametrize("stop", ["suspended", "finished"])
def test_nothing_begins_again_in_a_session_that_stops(stop: str) -> None:
    over = Finish("LifetimeExceeded", "over", ENDED) if stop == "finished" else None
    items = jobs(session(run=RUN, suspend=stop == "suspended"), world(LOST, now=BEGINS, finished=over))
    assert items == [Keep(tries.JOB.ref("zmumu-run"))]


def test_disruptions_leave_failures_what_they_have() -> None:
    s = session(run=RUN | {"backoffLimit": 1})
    lost_twice = try_of(3, 2, of=failed())
    once, twice = run_pod("zmumu-run-3-x", exitCode=3), run_pod("zmumu-run-4-x", exitCode=3)
    assert run.finish(s, world(lost_twice, once)) is None
    found = run.finish(s, world(try_of(4, 2, of=failed()), twice))
    assert found
    assert found.message == "the run ended with exit code 3 (begun again after 2 disruptions)"


def test_a_run_is_not_begun_again_for_ever() -> None:
    most = tries.MAX_DISRUPTIONS
    last = evicted(LOW)
    last["metadata"]["name"] = f"zmumu-run-{most + 1}-x"
    assert run.finish(session(run=RUN), world(try_of(most, most - 1, of=LOST))) is None
    found = run.finish(session(run=RUN), world(try_of(most + 1, most, of=LOST), last))
    assert found
    assert found.reason == "Disrupted"
    assert found.message.startswith(
        "the run was disrupted 11 times, and is not begun again; the last time: evicted: its node was low on"
    )


@pytest.mark.parametrize("message", OVER)
def test_who_is_over_their_own_limit_is_not_begun_again(message: str) -> None:
    found = run.finish(session(run=RUN), world(LOST, evicted(message)))
    assert found
    assert found.reason == "Evicted"
    assert "more than 1Gi" in found.message
    assert "choose a larger size (spec.run.size)" in found.message


def test_the_deadline_is_one_for_all_tries() -> None:
    s = session(run=RUN | {"activeDeadlineSeconds": 600})
    ended = {**LOST, "status": LOST["status"] | {"startTime": "2026-01-01T10:01:00Z"}}
    _, second = jobs(s, world(ended, now=BEGINS))
    assert isinstance(second, Manifest)
    assert second.body["spec"]["activeDeadlineSeconds"] == 600 - 240
    late = try_of(2, 1, of=ended, activeDeadlineSeconds=240)
    assert run.finish(s, world(late)) == Finish(
        "DeadlineExceeded",
        "the run did not end within its activeDeadlineSeconds (600) (begun again after 1 disruption)",
        ENDED,
    )
    assert tries.current(s, world(try_of(2, 1, activeDeadlineSeconds=360))).deadline == 360


def test_pauses_grow() -> None:
    s = session(run=RUN)
    pauses = [
        found.begins - ENDED
        for number in range(1, 11)
        if (found := tries.following(s, world(try_of(number, number - 1, of=LOST) if number > 1 else LOST)))
        and found.begins
    ]
    assert [pause.total_seconds() for pause in pauses] == [10, 20, 40, 80, 160, 320, 360, 360, 360, 360]


def test_a_job_from_before_that_had_tried_itself_has_no_more_tries_than_it_should() -> None:
    s = session(run=RUN | {"backoffLimit": 1})
    before = job(suspend=False, condition=condition("Failed"), failed=2)
    assert run.finish(s, world(before, run_pod(exitCode=3))) is not None


def test_a_job_that_was_deleted_is_made_anew_as_the_try_that_it_was() -> None:
    [again] = jobs(told(attempts=3, disruptions=2), world())
    assert isinstance(again, Manifest)
    assert again.ref.name == "zmumu-run-3"
    assert again.body["metadata"]["labels"] == {names.DISRUPTIONS: "2"}


# What is told


def status_of(s: Session, *children: Body, **more: Any) -> dict[str, Any]:
    found = dict(run.report(s, world(*children, **more)).get("run", {}))
    SessionStatus.model_validate({"observedGeneration": 1, "phase": "Running", "conditions": [], "run": found})
    return found


def test_a_disruption_is_told_while_the_pod_still_ends() -> None:
    lost = deleted("2026-01-01T10:04:30Z")
    s, now = session(run=RUN), world(job(suspend=False, active=1), lost)
    found = status_of(s, *now.children)
    assert (found["attempts"], found["disruptions"], found["reason"]) == (1, 1, "Disrupted")
    assert found["lastDisruption"] == "its pod was deleted"
    assert run.health(s, now).message == "try 1 of the run is being ended: its pod was deleted"


def test_what_was_told_outlives_the_pod() -> None:
    before = told(attempts=1, disruptions=1, lastDisruption="preempted by a pod of higher priority", reason="Disrupted")
    found = status_of(before, LOST)
    assert found["disruptions"] == 1
    assert found["lastDisruption"] == "preempted by a pod of higher priority"
    assert run.health(before, world(LOST)).message == (
        "try 1 of the run was disrupted: preempted by a pod of higher priority; it begins again at 10:05:10 UTC, and "
        "its log until then is gone with its pod"
    )


def test_a_later_try_tells_of_those_before() -> None:
    before = told(attempts=1, disruptions=1, lastDisruption="its node was lost", reason="Disrupted")
    runs = run_pod("zmumu-run-2-x")
    found = status_of(before, try_of(2, 1, of=job(suspend=False, active=1)), runs)
    assert (found["attempts"], found["disruptions"], found["lastDisruption"]) == (2, 1, "its node was lost")
    assert (found["pod"], found["reason"]) == ("zmumu-run-2-x", "Running")


def test_what_an_earlier_try_left_is_nothing_of_a_later_one() -> None:
    report = json.dumps({"results": {"url": "root://x//r", "count": 1, "bytes": 1, "files": []}})
    first = run_pod(exitCode=143, message=report)
    found = status_of(session(run=RUN), LOST, try_of(2, 1), first)
    assert found == {"attempts": 1, "disruptions": 1, "reason": "Starting"}


def test_a_failure_that_is_tried_again_says_so() -> None:
    found = run.health(session(run=RUN | {"backoffLimit": 2}), world(failed(), run_pod(exitCode=3)))
    assert found.message == (
        "the run ended with exit code 3; it begins again at 10:05:10 UTC, and its log until then is gone with its pod "
        "(failure 1, backoffLimit 2)"
    )


def test_a_pod_that_goes_with_a_suspension_or_a_deadline_is_no_disruption() -> None:
    lost = deleted("2026-01-01T10:04:30Z")
    stopped = session(run=RUN, suspend=True)
    assert "disruptions" not in status_of(stopped, job(suspend=True), lost)
    over = job(suspend=False, condition=condition("FailureTarget", "DeadlineExceeded"))
    assert "disruptions" not in status_of(session(run=RUN), over, lost)


def test_a_run_that_succeeds_at_last_says_how_often_it_was_begun() -> None:
    done = try_of(2, 1, of=job(suspend=False, condition=condition("Complete"), succeeded=1))
    found = run.finish(session(run=RUN), world(done))
    assert found
    assert found.message == "the run ended with exit code 0 (begun again after 1 disruption)"


def test_the_runner_is_told_that_something_was_before_it() -> None:
    def env(items: list[Manifest | Keep]) -> dict[str, str]:
        body = next(item.body for item in items if isinstance(item, Manifest))
        return {each["name"]: each["value"] for each in body["spec"]["template"]["spec"]["containers"][0]["env"]}

    assert "AF_TRY" not in env(jobs(session(run=RUN), world()))
    assert env(jobs(session(run=RUN), world(LOST, now=BEGINS)))["AF_TRY"] == "2"
