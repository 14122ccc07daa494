"""A scripted sequence of statuses, as plain lines, as a picture, and in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from af_client.cli.picture import picture
from af_client.model import Session
from af_client.progress import NOT_PICKED_UP, age, changes, explain, size
from tests.support.fake_transport import condition, status


def session(found: dict[str, Any] | None = None, mode: str = "Headless", generation: int = 1) -> Session:
    meta = {"name": "zmumu", "namespace": "physics", "uid": "1", "generation": generation}
    return Session.parse({"metadata": meta, "spec": {"user": "alice", "mode": mode}, "status": found})


def pools(ready: int) -> dict[str, Any]:
    return {"dask": {"pools": {"cpu": {"ready": ready, "desired": 2}}}}


ACCEPTED = condition("Accepted", True, "Accepted")
RESULTS = {"url": "root://o//results/p/z", "count": 3, "bytes": 2048, "files": []}
SCRIPT = [
    None,
    status("Starting", ACCEPTED, condition("DaskReady", False, "Waiting", "0 of 2 workers"), components=pools(0)),
    status("Starting", ACCEPTED, condition("DaskReady", False, "Waiting", "0 of 2 workers"), components=pools(0)),
    status("Starting", ACCEPTED, condition("DaskReady", False, "Waiting", "1 of 2 workers"), components=pools(1)),
    status("Running", ACCEPTED, condition("DaskReady", True, "Ready", "2 workers"), components=pools(2)),
]


def test_only_changes_are_said() -> None:
    before, said = None, []
    for step in SCRIPT:
        after = session(step)
        said.append(changes(before, after))
        before = after
    assert said == [
        [],
        ["session Starting", "spec: accepted", "Dask: Waiting: 0 of 2 workers", "dask pool cpu: 0 of 2 workers"],
        [],
        ["Dask: Waiting: 1 of 2 workers", "dask pool cpu: 1 of 2 workers"],
        ["session Running", "Dask: ready", "dask pool cpu: 2 of 2 workers"],
    ]


def with_spark(ready: int, message: str = "") -> dict[str, Any]:
    """Return the status of a session with Dask and Spark, so many of whose two Spark workers are ready."""
    spark = {"pools": {"cpu": {"ready": ready, "desired": 2}}, "endpoints": {"spark": "sc://s:15002"}}
    there = ready == 2
    return status(
        "Ready" if there else "Starting",
        condition("DaskReady", True, "Ready"),
        condition("SparkReady", there, "Ready" if there else "Starting", message),
        components=pools(2) | {"spark": spark},
    )


def test_two_engines_of_a_session_are_told_apart() -> None:
    coming = session(with_spark(1, "the Connect server does not answer yet"), "Interactive")
    there = session(with_spark(2), "Interactive")
    assert changes(None, coming) == [
        "session Starting",
        "Dask: ready",
        "Spark: Starting: the Connect server does not answer yet",
        "dask pool cpu: 2 of 2 workers",
        "spark pool cpu: 1 of 2 workers",
    ]
    assert changes(coming, there) == ["session Ready", "Spark: ready", "spark pool cpu: 2 of 2 workers"]
    assert explain(coming)[0] == "waiting for Spark (Starting): the Connect server does not answer yet"
    assert explain(there) == [
        "ready: everything it needs is there",
        "dask pool cpu: 2 of 2 workers",
        "spark pool cpu: 2 of 2 workers",
        "endpoints: spark sc://s:15002",
    ]


def test_the_picture() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(picture(session(SCRIPT[3]), 7.4))
    text = captured.get()
    assert text.splitlines()[0] == "zmumu  Starting  7 s"
    assert "✓  Accepted" in text
    assert "…  Dask" in text
    assert "1 of 2 workers" in text
    assert "█░ 1/2 workers" in text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, [NOT_PICKED_UP]),
        (
            status("Refused", condition("Accepted", False, "UnknownImage", "there is no image 'x': use analysis")),
            ["refused: UnknownImage: there is no image 'x': use analysis", "next: correct the session file"],
        ),
        (status("Suspended", ACCEPTED), ["it is suspended", "next: af resume zmumu"]),
        (
            status(
                "Starting", ACCEPTED, condition("DaskReady", False, "Unschedulable", "0/1 nodes: too little memory")
            ),
            ["waiting for Dask (Unschedulable): 0/1 nodes: too little memory"],
        ),
        (SCRIPT[4], ["running: everything it needs is there", "dask pool cpu", "next: af logs -f zmumu"]),
        (
            status(
                "Starting",
                condition("DaskReady", False, "Waiting", "1 of 2"),
                condition("RunReady", False, "WaitingForOthers", "the run starts later"),
            ),
            ["waiting for Dask (Waiting): 1 of 2"],
        ),
        (
            status(
                "Failed",
                condition("RunComplete", True, "OOMKilled", "the run was killed\nlast line"),
                run={"exitCode": 137, "reason": "OOMKilled", "wallSeconds": 3.21, "peakMemoryBytes": 1 << 30},
            ),
            [
                "failed (OOMKilled): the run was killed",
                "last line",
                "the run took 3.2 s, at most 1.0 GiB of memory",
                "next: af logs zmumu",
            ],
        ),
        (
            status("Succeeded", run={"exitCode": 0, "reason": "Succeeded", "attempts": 2, "results": RESULTS}),
            [
                "succeeded: exit code 0",
                "results: 3 files, 2.0 KiB at root://o//results/p/z",
                "next: af results",
            ],
        ),
        (
            status("Failed", run={"exitCode": 3, "reason": "Failed", "results": RESULTS}),
            ["failed: exit code 3", "results: 3 files", "next: af logs zmumu"],
        ),
        (
            status("Succeeded", run={"exitCode": 0, "results": RESULTS | {"count": 0, "bytes": 0, "files": []}}),
            ["succeeded: exit code 0", "next: af logs zmumu"],
        ),
    ],
)
def test_in_words(found: dict[str, Any] | None, said: list[str]) -> None:
    lines = explain(session(found))
    assert len(lines) == len(said)
    for line, beginning in zip(lines, said, strict=True):
        assert line.startswith(beginning)


def test_a_status_of_an_older_spec_is_none() -> None:
    assert session(SCRIPT[4], generation=2).phase == ""


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (status("Succeeded", run={"exitCode": 0}), 0),
        (status("Succeeded"), 0),
        (status("Failed", run={"exitCode": 3, "reason": "Failed"}), 3),
        (status("Failed", run={"exitCode": 137, "reason": "OOMKilled"}), 137),
        (status("Failed", run={"exitCode": 143, "reason": "DeadlineExceeded"}), 124),
        (status("Failed", run={"reason": "LifetimeExceeded"}), 124),
        (status("Failed", run={"exitCode": 256}), 1),
        (status("Failed", run={"exitCode": 0}), 1),
        (status("Failed"), 1),
        (status("Refused"), 1),
    ],
)
def test_exit_code(found: dict[str, Any], code: int) -> None:
    assert session(found).exit_code == code


@pytest.mark.parametrize(
    ("found", "mode", "arrived"),
    [
        (None, "Headless", False),
        (status("Ready"), "Headless", False),
        (status("Ready"), "Interactive", True),
        (status("Running", condition("RunComplete", True, "Succeeded")), "Headless", True),
        (status("Running", condition("RunComplete", False, "Running")), "Headless", False),
        (status("Failed"), "Interactive", True),
        (status("Refused"), "Headless", True),
    ],
)
def test_when_waiting_ends(found: dict[str, Any] | None, mode: str, arrived: bool) -> None:
    assert session(found, mode).arrived is arrived


def test_endpoints_are_found_where_the_operator_says_them() -> None:
    of_components = {"notebook": {"endpoints": LAB}, "dask": {"endpoints": {"dask": "tcp://d", "ui": "http://d"}}}
    assert session(status("Ready", components=of_components)).endpoints == LAB | {"dask": "tcp://d", "ui": "http://d"}
    of_components["quark"] = {"endpoints": {"ui": "http://q"}}
    found = session(status("Ready", components=of_components, endpoints=LAB | {"dask": "tcp://d"})).endpoints
    assert found == LAB | {"dask": "tcp://d", "dask/ui": "http://d", "quark/ui": "http://q"}


def test_a_notebook_of_its_component_is_ready() -> None:
    found = status("Ready", NOTEBOOK, components={"notebook": {"endpoints": LAB}})
    assert session(found, mode="Interactive").serves("notebook")


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")])
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (119, "119s"), (600, "10m"), (8000, "2h"), (200_000, "2d")])
def test_age(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == text


NOTEBOOK = condition("NotebookReady", True)
LAB = {"notebook": "http://zmumu-notebook.physics.svc:8888/user/alice/zmumu/"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (status("Ready", NOTEBOOK, endpoints=LAB), "next: af open zmumu"),
        (
            status("Starting", NOTEBOOK, condition("DaskReady", False, "Waiting", "0 of 2 workers"), endpoints=LAB),
            "waiting for Dask (Waiting): 0 of 2 workers | next: af open zmumu",
        ),
        (
            status("Ready", NOTEBOOK, condition("HubRegistered", False, "HubUnavailable", "503"), endpoints=LAB),
            "JupyterHub does not show it (HubUnavailable): 503 | next: af open zmumu",
        ),
        (
            status("Starting", condition("NotebookReady", False, "Starting", "soon")),
            "waiting for Notebook (Starting): soon",
        ),
        (status("Failed", condition("Ready", False, "Finished", "its lifetime is over")), "next: af delete zmumu"),
    ],
)
def test_a_notebook_says_how_to_get_in(found: dict[str, Any], said: str) -> None:
    lines = " | ".join(explain(session(found, mode="Interactive")))
    assert lines.endswith(said)
    assert ("waiting for" in lines) is ("waiting for" in said)


LOST = condition("SchedulerLost", True, "OOMKilled", "the Dask scheduler was lost (OOM): what it held is gone")
READY = condition("DaskReady", True, "Ready")


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (LOST, LOST["message"]),
        (condition("InternalError", True, "PassFailed", "the operator fails"), "the operator fails"),
        (condition("RunReady", True, "Running"), "Run: running"),
        (condition("HubRegistered", True, "Shown"), "JupyterHub: shows it"),
        (
            condition("HubRegistered", False, "HubAway", "no answer"),
            "JupyterHub: does not show it (HubAway): no answer",
        ),
        (condition("HasRoom", True, "Complete", "all"), "room: there is enough"),
        (condition("HasRoom", False, "QuotaExceeded", "exceeded quota"), "room: QuotaExceeded: exceeded quota"),
    ],
)
def test_a_condition_reads_as_what_it_means(told: dict[str, Any], line: str) -> None:
    assert changes(None, session(status("Running", told))) == ["session Running", line]


def test_what_was_lost_is_said_and_is_nothing_to_wait_for() -> None:
    assert explain(session(status("Running", READY, LOST)))[:2] == [
        LOST["message"],
        "running: everything it needs is there",
    ]
    well = condition("SchedulerLost", False, "Gone", "the Dask scheduler has not been lost since the resumption")
    assert explain(session(status("Running", READY, well)))[0] == "running: everything it needs is there"
    assert changes(None, session(status("Running", READY, well))) == ["session Running", "Dask: ready"]


def test_what_all_wait_for_is_said_once() -> None:
    why = "exceeded quota: tight"
    conditions = [condition(kind, False, "QuotaExceeded", why) for kind in ("HasRoom", "DaskReady", "RunReady")]
    assert explain(session(status("Starting", ACCEPTED, *conditions))) == [f"waiting for room (QuotaExceeded): {why}"]


def test_a_deletion_names_who_holds_it() -> None:
    body = dict(session(status("Running", READY)).body)
    body["metadata"] = body["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert explain(Session.parse(body)) == ["it is being deleted"]
    body["metadata"] = body["metadata"] | {"finalizers": ["example.org/backup"]}
    assert "held by finalizer example.org/backup" in explain(Session.parse(body))[0]


@pytest.mark.parametrize(("count", "often"), [(1, "once"), (3, "3 times")])
def test_disruptions_are_told(count: int, often: str) -> None:
    run = {"pod": "p", "disruptions": count, "lastDisruption": "the node was drained"}
    line = f"the cluster took the run's pod {often}, and it was begun again: the node was drained"
    assert line in explain(session(status("Running", READY, run=run)))
    done = status("Succeeded", condition("RunComplete", True, "Succeeded", "exit code 0"), run=run | {"exitCode": 0})
    assert line in explain(session(done))
