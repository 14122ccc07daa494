"""The SDK: watches that survive, logs that neither repeat nor lose a line."""

from __future__ import annotations

import re

import pytest

from af_client import follow, sessions
from af_client.errors import BadInput, Expired, NotFound, TimedOut, Unavailable, Unreachable, from_response
from af_client.follow import Follower, LogLine, Notice
from af_client.model import Session
from af_client.sessions import Deleted, Sessions
from tests.support.fake_transport import BASE, FakeTransport, Script, condition, status

STARTING, RUNNING = status("Starting"), status("Running", run={"pod": "p1"})
DONE = status("Succeeded", condition("RunComplete", True), run={"pod": "p1", "exitCode": 0})
AGAIN = status("Running", run={"pod": "p2"})
DONE2 = status("Succeeded", condition("RunComplete", True), run={"pod": "p2", "exitCode": 0})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.01,))


def watched(*script: Script) -> tuple[FakeTransport, Sessions]:
    fake = FakeTransport(list(script))
    fake.add("z", STARTING)
    return fake, Sessions(transport=fake)


@pytest.mark.parametrize(
    "script",
    [
        [[RUNNING, DONE]],
        [[RUNNING], [DONE]],
        [[RUNNING, Unreachable("gone")], [DONE]],
        [[RUNNING, Expired("too old")], [DONE]],
        [[Unavailable("503")], [Unavailable("503")], [RUNNING], [], [DONE]],
    ],
)
def test_a_watch_goes_on_to_the_end(script: list[Script]) -> None:
    _, found = watched(*script)
    assert found.wait("z", timeout=5).phase == "Succeeded"


def test_a_watch_names_one_object_and_where_to_begin() -> None:
    fake, found = watched([DONE])
    found.wait("z")
    query = fake.requests[1].query
    assert (query["fieldSelector"], query["resourceVersion"], query["watch"]) == ("metadata.name=z", "1", "true")


def test_a_watch_has_an_end() -> None:
    _, found = watched()
    with pytest.raises(TimedOut, match=r"after 0\.05 s"):
        found.wait("z", timeout=0.05)


def test_another_session_of_the_same_name_is_not_followed() -> None:
    fake, found = watched([RUNNING])
    seen = found.watch("z", timeout=5)
    next(seen)
    fake.add("z", DONE)["metadata"]["uid"] = "other"
    with pytest.raises(Deleted):
        list(seen)


def test_a_deleted_session_ends_the_watch() -> None:
    fake, found = watched([RUNNING])
    seen = found.watch("z", timeout=5)
    assert [next(seen).phase, next(seen).phase] == ["Starting", "Running"]
    del fake.objects["z"]
    with pytest.raises(Deleted):
        next(seen)


def test_what_is_missing_at_first_is_an_error() -> None:
    with pytest.raises(NotFound):
        next(Sessions(transport=FakeTransport()).watch("none"))


def test_create_fills_in_the_user_and_is_strict() -> None:
    fake = FakeTransport()
    made = Sessions(transport=fake).create({"metadata": {"generateName": "z-"}, "spec": {"mode": "Headless"}})
    assert re.fullmatch("z-[a-z0-9]{5}", made.name)
    assert made.user == "alice"
    assert fake.requests[-1].query == {"fieldValidation": "Strict"}
    assert fake.requests[-1].body["kind"] == "AnalysisSession"


def test_create_does_not_ask_who_when_the_session_says() -> None:
    fake = FakeTransport()
    Sessions(transport=fake).create({"metadata": {"name": "z"}, "spec": {"user": "bob"}})
    assert [r.path for r in fake.requests] == [BASE]


def test_nobody_says_who_is_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise from_response(403, "{}")

    fake = FakeTransport()
    monkeypatch.setattr(fake, "call", refuse)
    with pytest.raises(BadInput, match=r"write spec\.user"):
        Sessions(transport=fake).whoami()


def test_suspend_and_resume_are_merge_patches() -> None:
    fake, found = watched()
    assert found.suspend("z").suspended
    assert not found.resume("z").suspended
    assert {r.content_type for r in fake.requests} == {"application/merge-patch+json"}


def followed(script: list[Script], logs: dict[str, list[Script]], timeout: float | None = 5) -> list[str]:
    fake = FakeTransport(script, logs)
    fake.add("z", STARTING)
    said = []
    for event in Follower(Sessions(transport=fake), "z", timeout).events(tick=0.05):
        if isinstance(event, LogLine | Notice):
            said.append(event.text)
        elif isinstance(event, Session):
            said.append(event.phase)
    return said


NOT_STARTED = from_response(400, '{"message": "container \\"run\\" in pod \\"p1\\" is waiting to start"}')


@pytest.mark.parametrize(
    "connections",
    [
        [["t1 a", "t2 b", "t3 c"]],
        [["t1 a"], ["t1 a", "t2 b"], ["t2 b", "t3 c"]],
        [[NOT_STARTED], [NOT_STARTED], ["t1 a", "t2 b", "t3 c"]],
        [["t1 a", "t2 b", Unreachable("broken")], ["t2 b", "t3 c"]],
    ],
)
def test_every_line_of_the_log_comes_once(connections: list[Script], monkeypatch: pytest.MonkeyPatch) -> None:
    # The end is announced only once the scripted connections are used up: which poll sees it is not the point.
    fake = FakeTransport([[RUNNING], [DONE]], {"p1": connections})
    fake.add("z", STARTING)
    plain = fake.lines

    def lines(request: sessions.Request) -> object:
        if request.path.endswith("/log") or len(connections) == 1:
            return plain(request)
        return iter(())

    monkeypatch.setattr(fake, "lines", lines)
    fake.objects["z"]["status"] = RUNNING
    events = list(Follower(Sessions(transport=fake), "z", 5).events(tick=0.05))
    assert [e.text for e in events if isinstance(e, LogLine)] == ["a", "b", "c"]


def test_the_log_goes_on_in_the_next_attempt() -> None:
    said = followed([[RUNNING, AGAIN, DONE2]], {"p1": [["t1 first"]], "p2": [["t5 second"]]})
    assert [s for s in said if s in {"first", "second"}] == ["first", "second"]
    assert "the run is tried again in pod p2" in said


def test_no_right_to_read_the_log_is_said_once_and_the_rest_goes_on() -> None:
    forbidden = from_response(
        403, '{"message": "User \\"alice\\" cannot get resource \\"pods/log\\" in the namespace \\"physics\\""}'
    )
    said = followed([[RUNNING], [DONE]], {"p1": [[forbidden]]})
    assert [s for s in said if "cannot be shown" in s] == [
        "the log cannot be shown: you (alice) may not get pods/log in namespace 'physics': "
        "choose another namespace with -n, or ask your facility's admin for this right"
    ]
    assert "Succeeded" in said


def test_a_pod_that_is_gone_does_not_hold_up_the_end() -> None:
    assert followed([[RUNNING, DONE]], {})[-1] == "Succeeded"


LATE = status("Failed", condition("RunComplete", True), run={"pod": "p1", "reason": "Failed"})
KNOWN = status("Failed", condition("RunComplete", True), run={"pod": "p1", "reason": "Failed", "exitCode": 3})


@pytest.fixture
def short_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(follow, "SETTLE_SECONDS", 0.3)


@pytest.mark.usefixtures("short_settling")
@pytest.mark.parametrize(("script", "code"), [([[LATE], [KNOWN]], 3), ([[LATE]], 1)])
def test_waiting_for_an_exit_code_that_comes_late(script: list[Script], code: int) -> None:
    _, found = watched(*script)
    assert found.wait("z", timeout=5).exit_code == code


@pytest.mark.usefixtures("short_settling")
@pytest.mark.parametrize(("script", "code"), [([[LATE, KNOWN]], 3), ([[LATE], [KNOWN]], 3), ([[LATE]], 1)])
def test_following_to_an_exit_code_that_comes_late(script: list[Script], code: int) -> None:
    _, found = watched(*script)
    seen = [e for e in Follower(found, "z", 5).events(tick=0.05) if isinstance(e, Session)]
    assert seen[-1].exit_code == code


def test_following_has_an_end() -> None:
    with pytest.raises(TimedOut):
        followed([], {}, timeout=0.1)


def test_a_gap_in_a_log_that_was_read_on_is_said() -> None:
    """Asked from a whole second on, the node says the last known line again: if it does not, it has put it away."""
    broken = [["t1 a", Unreachable("broke")], ["t1 a", "t2 b", Unreachable("broke")], ["t7 h"]]
    fake = FakeTransport([[RUNNING], [DONE]], {"p1": broken})
    fake.add("z", STARTING)
    follower = Follower(Sessions(transport=fake), "z")
    told = [event.text for event in follower.events() if isinstance(event, LogLine | Notice)]
    gap = "lines of the log between t2 and t7 may be missing: the node has put them away"
    assert told == ["a", "b", gap, "h"]
