"""Run: when the Job starts and stays, how it ended, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from af_names import plain
from af_operator.api import SessionStatus
from af_operator.components import dask, run
from af_operator.components.dask import programs
from af_operator.errors import InvalidSession
from af_operator.model import Body, Finish, Keep, LogRequest, PodPatch
from af_operator.observed import Settled
from tests.support.objects import DASK, RUN, UNSCHEDULABLE, container, live, of_component, pod, profile, session, world
from tests.support.runs import ENDED, LOG, RESULTS, condition, evicted, failed, job, job_of, kept, log_of, made, run_pod

REPORT = {
    "exitCode": 0,
    "signal": None,
    "wallSeconds": 1.25,
    "peakMemoryBytes": 1000,
    "results": {
        "url": "root://x//r",
        "count": 2,
        "bytes": 30,
        "files": [{"url": "root://x//r/a", "bytes": 10, "adler32": "0123abcd"}],
    },
    "error": None,
    "said by a newer runner": 1,
}


# The source, for workers

WITH_SOURCE = RUN | {"source": {"files": {"main.py": "import cuts", "cuts.py": ""}}}


def test_workers_find_the_modules_beside_the_program() -> None:
    patch = run.pod_patch(session(run=WITH_SOURCE), profile(), world(), "worker")
    volume = {"name": "source", "configMap": {"name": "zmumu-source"}}
    mount = {"name": "source", "mountPath": "/af/source", "readOnly": True}
    assert patch == PodPatch(env=({"name": "PYTHONPATH", "value": "/af/source"},), volumes=(volume,), mounts=(mount,))


def test_nothing_is_added_where_there_is_no_source_nor_to_programs_of_the_user() -> None:
    assert run.pod_patch(session(run=RUN), profile(), world(), "worker") == PodPatch()
    assert run.pod_patch(session(run=WITH_SOURCE), profile(), world(), "user") == PodPatch()


def test_workers_do_not_wait_for_a_config_map_of_the_users_own() -> None:
    s = session(run=RUN | {"source": {"configMap": "my-analysis"}})
    [volume] = run.pod_patch(s, profile(), world(), "worker").volumes
    assert volume["configMap"] == {"name": "my-analysis", "optional": True}


def test_what_the_user_has_put_on_the_path_stays_there_once() -> None:
    s = session(run=WITH_SOURCE, env=[{"name": "PYTHONPATH", "value": "/opt/extra"}], dask=DASK)
    worker = programs.worker(s, profile(), dask.pools(s)[0], run.pod_patch(s, profile(), world(), "worker"))
    assert [each for each in worker["env"] if each["name"] == "PYTHONPATH"] == [
        {"name": "PYTHONPATH", "value": "/af/source:/opt/extra"}
    ]


# The Job


@pytest.mark.parametrize(
    ("observed", "waiting_for", "suspend"),
    [
        (world(), (), False),
        (world(), ("dask",), True),
        (world(job(suspend=True)), ("dask",), True),
        (world(job(suspend=True)), (), False),
        (world(job(suspend=False)), ("dask",), False),
    ],
)
def test_released_once_all_is_ready_and_never_taken_back(
    observed: Settled, waiting_for: tuple[str, ...], suspend: bool
) -> None:
    body = job_of(made(session(run=RUN), observed, waiting_for=waiting_for))
    assert isinstance(body, dict)
    assert body["spec"]["suspend"] is suspend


def test_the_session_suspends_a_run_that_runs() -> None:
    body = job_of(made(session(run=RUN, suspend=True), world(job(suspend=False))))
    assert isinstance(body, dict)
    assert body["spec"]["suspend"] is True


OTHER_SIZE = {"sizes": [{"name": "small", "cpu": "4", "memory": "8Gi"}]}


def test_a_run_that_runs_stays_when_its_profile_changes() -> None:
    assert isinstance(job_of(made(session(run=RUN), world(job(suspend=False)), **OTHER_SIZE)), Keep)


def test_a_run_that_does_not_run_is_made_anew_when_its_profile_changes() -> None:
    assert job_of(made(session(run=RUN), world(job(suspend=True)), **OTHER_SIZE)) is None
    suspended = session(run=RUN, suspend=True)
    assert job_of(made(suspended, world(job(suspend=False)), **OTHER_SIZE)) is None
    assert isinstance(job_of(made(session(run=RUN), world(), **OTHER_SIZE)), dict)


def test_a_run_that_has_ended_stays() -> None:
    assert isinstance(job_of(made(session(run=RUN), world(failed()), **OTHER_SIZE)), Keep)


def test_a_run_is_stopped_when_the_lifetime_is_over() -> None:
    over = Finish("LifetimeExceeded", "over", ENDED)
    body = job_of(made(session(run=RUN), world(job(suspend=False), finished=over)))
    assert isinstance(body, dict)
    assert body["spec"]["suspend"] is True


def test_a_run_that_has_ended_is_not_run_again_when_its_job_is_deleted() -> None:
    end = {"reason": "Succeeded", "message": "m", "time": ENDED.isoformat()}
    observed = world(kept(finish=end))
    found = run.finish(session(run=RUN), observed)
    assert found == Finish("Succeeded", "m", ENDED)
    assert job_of(made(session(run=RUN), replace(observed, finished=found))) is None


def test_the_sidecar_is_native() -> None:
    patch = PodPatch(sidecars=({"name": "xcache"},), volumes=({"name": "v"},), env=({"name": "X"},))
    body = job_of(made(session(run=RUN), world(), patch))
    assert isinstance(body, dict)
    spec = body["spec"]["template"]["spec"]
    assert spec["initContainers"] == [{"name": "xcache", "restartPolicy": "Always"}]
    assert [c["name"] for c in spec["containers"]] == ["run"]


def test_the_users_words_reach_the_program_as_written() -> None:
    body = job_of(made(session(run={"command": ["sh", "-c", "echo $(HOME) $$"]}), world()))
    assert isinstance(body, dict)
    assert body["spec"]["template"]["spec"]["containers"][0]["command"][-1] == "echo $$(HOME) $$$$"


def test_no_variable_is_named_twice() -> None:
    body = job_of(made(session(run=RUN, env=[{"name": "HOME", "value": "/tmp"}]), world()))
    assert isinstance(body, dict)
    env = body["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [e for e in env if e["name"] == "HOME"] == [{"name": "HOME", "value": "/tmp"}]
    assert len({e["name"] for e in env}) == len(env)


def test_check() -> None:
    run.check(session(run=RUN), profile())
    with pytest.raises(InvalidSession, match="choose one of: medium, small"):
        run.check(session(run=RUN | {"size": "huge"}), profile())


# The end


OOM = {"exitCode": 137, "reason": "OOMKilled"}
OWN_DISK = 'Container run exceeded its local ephemeral storage limit "1Gi". '


@pytest.mark.parametrize(
    ("children", "reason", "words"),
    [
        ([job(suspend=False, condition=condition("Complete", "CompletionsReached"))], "Succeeded", "exit code 0"),
        ([failed("DeadlineExceeded")], "DeadlineExceeded", "activeDeadlineSeconds (60)"),
        ([failed(), run_pod(**OOM)], "OOMKilled", "choose a larger size"),
        ([failed(), run_pod(exitCode=3, message="Traceback\nValueError: x")], "Failed", "exit code 3: ValueError: x"),
        ([failed(), run_pod(exitCode=3, message=json.dumps({"exitCode": 3})), kept()], "Failed", "3: last words"),
        (
            [failed(), run_pod(exitCode=74, message=json.dumps({"error": "upload failed: no space"})), kept()],
            "Failed",
            "exit code 74: upload failed: no space",
        ),
        ([failed(), evicted(OWN_DISK)], "Evicted", "choose a larger size (spec.run.size)"),
        ([failed(), run_pod(exitCode=1, message=json.dumps({"oom": True}))], "OOMKilled", "(spec.run.size)"),
    ],
)
def test_finish(children: list[Any], reason: str, words: str) -> None:
    found = run.finish(session(run=RUN | {"activeDeadlineSeconds": 60}), world(*children))
    assert found is not None
    assert (found.reason, found.time) == (reason, ENDED)
    assert words in found.message


@pytest.mark.parametrize("observed", [world(), world(job(suspend=True)), world(job(suspend=False), run_pod())])
def test_not_finished(observed: Settled) -> None:
    assert run.finish(session(run=RUN), observed) is None


# The report


def status_of(*children: Body, **more: Any) -> dict[str, Any]:
    found = run.report(session(run=RUN), world(*children, **more)).get("run", {})
    if found:
        SessionStatus.model_validate({"observedGeneration": 1, "phase": "Running", "conditions": [], "run": found})
    return dict(found)


def test_report_of_a_run_that_succeeded() -> None:
    done = job(suspend=False, condition=condition("Complete"), succeeded=1)
    found = status_of(done, run_pod(exitCode=0, message=json.dumps(REPORT)))
    assert found == {
        "pod": "zmumu-run-x",
        "exitCode": 0,
        "reason": "Succeeded",
        "startTime": "2026-01-01T10:02:00Z",
        "completionTime": "2026-01-01T10:04:00Z",
        "wallSeconds": 1.25,
        "peakMemoryBytes": 1000,
        "attempts": 1,
        "results": REPORT["results"],
    }


@pytest.mark.parametrize(
    "message",
    [
        "",
        "killed",
        "{",
        "[]",
        "{}",
        json.dumps({"exitCode": "x"}),
        json.dumps(REPORT | {"wallSeconds": -1}),
        json.dumps(REPORT | {"peakMemoryBytes": 2**80}),
        json.dumps(REPORT | {"results": {"url": "u" * 2000, "count": 1, "bytes": 1}}),
        json.dumps(REPORT | {"results": {"url": "u", "count": 1, "bytes": 1, "files": 7}}),
    ],
)
def test_what_a_user_writes_into_the_message_cannot_break_the_status(message: str) -> None:
    found = status_of(failed(), run_pod(exitCode=1, message=message))
    assert found["exitCode"] == 1
    assert "results" not in found


def test_more_files_than_status_has_room_for_are_cut_not_lost() -> None:
    one = {"url": f"{RESULTS}/u", "bytes": 1, "adler32": "00000001"}
    results = {"url": RESULTS, "count": 100, "bytes": 100, "files": [one] * 100}
    found = status_of(failed(), run_pod(exitCode=1, message=json.dumps({"results": results})))
    assert (found["results"]["count"], len(found["results"]["files"])) == (100, 64)


def a_file(url: str) -> dict[str, Any]:
    return {"url": url, "bytes": 1, "adler32": "00000001"}


@pytest.mark.parametrize(
    "url",
    [
        "root://evil//r",
        "file:///etc/passwd",
        "root://x//r/../other",
        "root://x//r2",
        "root://x",
        "",
        "root://x//r\x1b[2J",
        "simplecache::root://x//r",
    ],
)
def test_results_elsewhere_are_left_out_with_a_word(url: str) -> None:
    message = json.dumps({"results": {"url": url, "count": 1, "bytes": 1, "files": [a_file(f"{url}/a")]}})
    done, ended = job(suspend=False, condition=condition("Complete"), succeeded=1), run_pod(exitCode=0, message=message)
    assert "results" not in status_of(done, ended)
    end = run.finish(session(run=RUN), world(done, ended))
    assert end is not None
    assert "is left out: that is not where its results go" in end.message
    assert plain.is_line(end.message)


@pytest.mark.parametrize("name", ["../other", "a/../../b", "a\x1b[2J", "a\nb", "gpj.\u202eexe", "\x9b2J"])
def test_a_file_elsewhere_or_of_a_name_that_a_terminal_obeys_is_left_out(name: str) -> None:
    files = [a_file(f"{RESULTS}/{name}"), a_file(f"{RESULTS}/plots/größe  1.png"), a_file("root://evil//r/a")]
    message = json.dumps({"results": {"url": RESULTS, "count": 3, "bytes": 3, "files": files}})
    found = status_of(failed(), run_pod(exitCode=1, message=message))
    assert [each["url"] for each in found["results"]["files"]] == [f"{RESULTS}/plots/größe  1.png"]


def test_a_run_that_had_nowhere_to_put_results_has_none() -> None:
    ended = run_pod(exitCode=0, message=json.dumps(REPORT))
    ended["spec"] = {"containers": [{"name": "run"}]}
    assert "results" not in status_of(job(suspend=False, condition=condition("Complete"), succeeded=1), ended)


def test_a_record_that_somebody_has_edited_names_no_other_results() -> None:
    template = {"containers": [{"name": "run", "env": [{"name": "AF_RESULTS_URL", "value": RESULTS}]}]}
    ended = job(suspend=False, condition=condition("Complete"), succeeded=1)
    ended["spec"]["template"] = {"spec": template}
    for url, believed in ((RESULTS, True), ("root://evil//r", False)):
        record = {"exitCode": 0, "results": {"url": url, "count": 1, "bytes": 1, "files": []}}
        assert ("results" in status_of(ended, kept(run=record))) is believed


def test_the_latest_attempt_is_reported() -> None:
    first, second = run_pod("zmumu-run-z", exitCode=1), run_pod("zmumu-run-a", created="10:03")
    found = status_of(job(suspend=False, active=1, failed=1), first, second)
    assert (found["pod"], found["attempts"], found["reason"]) == ("zmumu-run-a", 2, "Running")
    assert "exitCode" not in found


def test_the_report_outlives_the_pod() -> None:
    found = status_of(failed("DeadlineExceeded"), kept(run={"pod": "p", "reason": "Starting", "attempts": 1}))
    assert found == {"pod": "p", "reason": "DeadlineExceeded", "attempts": 1}


def test_no_job_no_report() -> None:
    assert run.report(session(run=RUN), world()) == {}


# The log


@pytest.mark.parametrize(
    ("observed", "wanted"),
    [
        (world(failed(), run_pod(exitCode=1)), True),
        (world(job(suspend=False, condition=condition("FailureTarget", "DeadlineExceeded")), run_pod()), True),
        (world(job(suspend=False), run_pod(), finished=Finish("LifetimeExceeded", "", ENDED)), True),
        (world(job(suspend=False), run_pod()), False),
        (world(failed(), run_pod(exitCode=1), log_tail=""), False),
        (world(failed(), run_pod(exitCode=1), kept()), False),
        (world(failed()), False),
        (
            world(
                failed(), pod("zmumu-run-p", of_component("run"), container("run", waiting={"reason": "ErrImagePull"}))
            ),
            False,
        ),
    ],
)
def test_the_log_is_read_once_while_there_is_one(observed: Settled, wanted: bool) -> None:
    expected = LogRequest("zmumu-run-x", "run", 200) if wanted else None
    assert run.log_wanted(session(run=RUN), observed) == expected


def test_log_and_record_are_kept_once() -> None:
    ended = world(failed(), run_pod(exitCode=3, message=json.dumps({"exitCode": 3})))
    assert log_of(world(job(suspend=False), run_pod())) is None
    assert log_of(ended) is None  # first the log is to be read
    body = log_of(replace(ended, log_tail="a\nb\n"))
    assert isinstance(body, dict)
    assert body["data"]["log"] == "a\nb\n"
    record = json.loads(body["data"]["record"])
    assert record["finish"] == {
        "reason": "Failed",
        "message": "the run ended with exit code 3: b",
        "time": ENDED.isoformat(),
    }
    assert record["run"]["exitCode"] == 3
    stored = live("v1", "ConfigMap", "zmumu-run-log", data=body["data"])
    assert isinstance(log_of(replace(ended, children=(*ended.children, stored))), Keep)


def test_the_end_is_kept_where_there_is_no_log() -> None:
    body = log_of(world(failed("DeadlineExceeded")))
    assert isinstance(body, dict)
    assert body["data"]["log"] == ""


def test_what_was_read_before_the_end_gets_the_end_later() -> None:
    body = log_of(world(failed("DeadlineExceeded"), kept(run={"pod": "p"})))
    assert isinstance(body, dict)
    assert body["data"]["log"] == LOG
    record = json.loads(body["data"]["record"])
    assert record["finish"]["reason"] == "DeadlineExceeded"
    assert record["run"] == {"pod": "p", "reason": "DeadlineExceeded"}


# Health


@pytest.mark.parametrize(
    ("children", "ready", "reason"),
    [
        ([], False, "WaitingForOthers"),
        ([job(suspend=True)], False, "WaitingForOthers"),
        ([job(suspend=False)], False, "PodMissing"),
        ([job(suspend=False), run_pod()], True, "Running"),
        (
            [job(suspend=False), pod("zmumu-run-p", of_component("run"), conditions=[UNSCHEDULABLE])],
            False,
            "Unschedulable",
        ),
        ([job(suspend=False), run_pod(**OOM)], False, "OOMKilled"),
        ([job(suspend=False), run_pod(exitCode=0, reason="Completed")], False, "Ending"),
        ([job(suspend=False), run_pod(exitCode=3, reason="Error", message='{"exitCode": 3}')], False, "Ending"),
        ([failed(), run_pod(**OOM)], False, "OOMKilled"),
    ],
)
def test_health(children: list[Any], ready: bool, reason: str) -> None:
    found = run.health(session(run=RUN), world(*children))
    assert (found.ready, found.reason) == (ready, reason)


def test_health_of_a_suspended_session() -> None:
    assert run.health(session(run=RUN, suspend=True), world(job(suspend=True))).reason == "Suspended"


def test_health_names_a_config_map_that_may_be_missing() -> None:
    s = session(run=RUN | {"source": {"configMap": "my-analysis"}})
    starting = pod("zmumu-run-p", of_component("run"), container("run", waiting={"reason": "ContainerCreating"}))
    found = run.health(s, world(job(suspend=False), starting))
    assert "my-analysis" in found.message
