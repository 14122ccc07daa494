"""When a session was last used, as a function: of what its components say, and of what the status says already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from af_operator import plan, status
from af_operator.api import ProfileSpec, SessionStatus
from af_operator.components import shipped
from af_operator.components.dask.groups import DaskAnswer
from af_operator.model import Key, Plan, Profile, Session
from af_operator.observed import Observed
from af_operator.views import AgentView, HubServer, HubView
from af_operator.world import parse_session
from tests.support.bench import PROFILE, SPEC

CREATED = datetime(2026, 11, 21, 12, 2, 30, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 14, 0, 0, tzinfo=UTC)
SERVER = HubServer("alice", "zmumu")
CATALOGUE = Profile("default", ProfileSpec.model_validate(PROFILE))
EVERYTHING = SPEC | {"mode": "Interactive", "run": None, "notebook": {}}


def session(told: Any = None, **spec: Any) -> Session:
    metadata = {
        "namespace": "physics",
        "name": "zmumu",
        "uid": "u",
        "generation": 1,
        "creationTimestamp": f"{CREATED:%Y-%m-%dT%H:%M:%SZ}",
    }
    before = {"lastActivity": told} if told else {}
    return parse_session({"metadata": metadata, "spec": EVERYTHING | spec, "status": before})


def hub(used: datetime, server: HubServer = SERVER, *, away: bool = False) -> HubView:
    servers = None if away else frozenset({server})
    return HubView("http://hub/hub/api", servers=servers, activity={server: used})


def computed(active: datetime) -> dict[str, AgentView]:
    return {"dask": AgentView(DaskAnswer(active=active.timestamp()))}


def last(of: Session, observed: Observed, profile: Profile | None = CATALOGUE) -> str | None:
    """Return what the status says, as the schema has it."""
    found = plan.build(shipped(), of, profile, observed, NOW)
    said = status.compute(of, found, [], NOW)
    SessionStatus.model_validate(said)
    return said.get("lastActivity")


def test_nothing_is_said_where_nobody_knows() -> None:
    assert last(session(), Observed()) is None
    assert last(session(), Observed(hub=HubView("http://hub/hub/api", servers=frozenset()))) is None


def test_the_newest_that_any_component_knows_is_said_to_five_minutes() -> None:
    early, late = CREATED + timedelta(minutes=20), CREATED + timedelta(minutes=40)
    assert last(session(), Observed(hub=hub(late), agents=computed(early))) == "2026-11-21T12:40:00Z"
    assert last(session(), Observed(hub=hub(early), agents=computed(late))) == "2026-11-21T12:40:00Z"
    assert last(session(), Observed(hub=hub(early))) == "2026-11-21T12:20:00Z"


def test_it_never_goes_back() -> None:
    told, early = "2026-11-21T13:30:00Z", CREATED + timedelta(minutes=20)
    assert last(session(told), Observed()) == told
    assert last(session(told), Observed(hub=hub(early), agents=computed(early))) == told
    assert last(session(told, suspend=True), Observed()) == told
    assert last(session(told), Observed(), profile=None) == told, "nor where nothing is accepted any more"
    assert last(session(f"{NOW + timedelta(seconds=3):%Y-%m-%dT%H:%M:%SZ}"), Observed()) == "2026-11-21T14:00:03Z", (
        "nor where another replica's clock was ahead of ours"
    )


def test_it_never_goes_back_though_nobody_can_read_the_session_any_more() -> None:
    body = {"metadata": {"generation": 2}, "status": {"lastActivity": "2026-11-21T13:30:00Z", "phase": "Ready"}}
    assert status.unreadable(body, "no", NOW)["lastActivity"] == "2026-11-21T13:30:00Z"
    named = {**body, "metadata": {"generation": 2, "namespace": "physics", "name": "zmumu"}}
    assert status.broken(named, ValueError(), NOW)["lastActivity"] == "2026-11-21T13:30:00Z"


@pytest.mark.parametrize(
    "used",
    [
        NOW + timedelta(seconds=1),
        NOW + timedelta(days=900),
        CREATED - timedelta(minutes=5),
        datetime(1970, 1, 1, tzinfo=UTC),
    ],
)
def test_neither_what_is_to_come_nor_what_was_before_the_session_is_believed(used: datetime) -> None:
    assert last(session(), Observed(hub=hub(used), agents=computed(used))) is None
    good = CREATED + timedelta(minutes=20)
    assert last(session(), Observed(hub=hub(used), agents=computed(good))) == "2026-11-21T12:20:00Z"


def test_what_was_used_in_its_first_minutes_was_not_used_before_it_was_there() -> None:
    # The Hub and the agent say when the step of five minutes began.
    began = CREATED.replace(minute=0, second=0)
    assert last(session(), Observed(hub=hub(began))) == "2026-11-21T12:02:30Z"
    assert last(session("2026-11-21T12:02:30Z"), Observed()) == "2026-11-21T12:02:30Z", "and that is what it stays"


def test_a_hub_that_is_away_changes_nothing() -> None:
    used = CREATED + timedelta(minutes=40)
    assert last(session(), Observed(hub=hub(used, away=True))) == "2026-11-21T12:40:00Z"
    assert last(session("2026-11-21T12:40:00Z"), Observed(hub=hub(used, away=True))) == "2026-11-21T12:40:00Z"


def test_what_the_hub_shows_by_the_sessions_name_may_be_another_session() -> None:
    used = CREATED + timedelta(minutes=40)
    assert last(session(), Observed(hub=hub(used), namesake=Key("detector", "older"))) is None
    assert last(session(), Observed(hub=hub(used, HubServer("bob", "zmumu")))) is None
    assert last(session(notebook={"serverName": "lab"}), Observed(hub=hub(used))) is None


@pytest.mark.parametrize("told", ["yesterday", "", 5, None, ["x"]])
def test_a_status_that_makes_no_sense_is_as_if_it_said_nothing(told: Any) -> None:
    assert last(session(told), Observed()) is None


def run_pod(**state: Any) -> dict[str, Any]:
    labels = {"analysisfacility.io/component": "run", "analysisfacility.io/session-uid": "u"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "zmumu-run-1", "namespace": "physics", "uid": "p", "labels": labels},
        "status": {"containerStatuses": [{"name": "run", "state": state}]},
    }


def test_a_run_was_used_when_it_began_and_when_it_ended() -> None:
    of = session(mode="Headless", notebook=None, run={"command": ["true"]}, dask=None)
    goes_on = run_pod(running={"startedAt": "2026-11-21T12:33:20Z"})
    assert last(of, Observed(children=(goes_on,))) == "2026-11-21T12:30:00Z"
    ended = run_pod(
        terminated={"startedAt": "2026-11-21T12:33:20Z", "finishedAt": "2026-11-21T13:33:20Z", "exitCode": 0}
    )
    assert last(of, Observed(children=(ended,))) == "2026-11-21T13:30:00Z"
    assert last(of, Observed(children=(run_pod(waiting={}),))) is None
    assert last(of, Observed(children=(run_pod(running={"startedAt": None}),))) is None


def test_nobody_waits_to_hear_of_it() -> None:
    before = status.compute(session(), Plan(last_activity=CREATED), [], NOW)
    after = status.compute(session(), Plan(last_activity=NOW), [], NOW)
    assert before != after
    assert not status.urgent(before, after)
    assert status.events(before, after) == []
