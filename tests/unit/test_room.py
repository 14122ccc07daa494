"""Whether a session holds what it has, waits outside, or lets go: by what is wanting, since when, whose turn it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from af_operator import room
from af_operator.model import CONFIG_MAP, Finish, Health, Refusal, Session
from af_operator.observed import Settled
from af_operator.room import Lack, Room
from tests.support.objects import DASK, RUN, of_component, pod, session, world

NOW = datetime.fromisoformat("2026-01-01T10:10:00Z")
WORDS = "exceeded quota: tight, requested: pods=1, used: pods=3, limited: pods=3"
REFUSED = {"dask": Health(False, "QuotaExceeded", WORDS)}
NO_NODE = {"dask": Health(False, "Unschedulable", "0/1 nodes are available")}
STARTS = {"dask": Health(False, "Starting", "the scheduler is starting")}
READY = {"dask": Health(True, "Ready", "")}
HOLDS = pod("w", of_component("dask"))


def on_node(now: datetime = NOW, **more: Any) -> Settled:
    held = {**HOLDS, "spec": {"nodeName": "node-1", "containers": []}}
    return world(held, now=now, **more)


def told(status: str | None = None, reason: str = "", since: datetime = NOW, **more: Any) -> Session:
    """Return a session whose status says something of its room."""
    time = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {"type": "HasRoom", "status": status, "reason": reason, "message": "as told", "lastTransitionTime": time}
    ready = {
        "type": "Ready",
        "status": more.pop("ready", "False"),
        "reason": "x",
        "message": "",
        "lastTransitionTime": time,
    }
    conditions = [ready, *([found] if status else [])]
    return replace(session(dask=DASK), status={"conditions": conditions, **more})


def reason(found: Room) -> tuple[bool, str | None]:
    return found.outside, found.condition.reason if found.condition else None


def test_nothing_is_told_where_nothing_is_wanting() -> None:
    assert room.decide(told(), world(now=NOW), STARTS, Lack()) == Room()
    assert room.decide(told(), on_node(), STARTS, Lack()) == Room()
    assert room.decide(told(), on_node(), READY, Lack()) == Room()


def test_nothing_is_made_where_a_quota_has_no_room_for_all_of_it() -> None:
    found = room.decide(told(), world(now=NOW), STARTS, Lack(WORDS))
    assert reason(found) == (True, "QuotaExceeded")
    assert found.condition
    assert found.condition.message.endswith(WORDS)
    assert found.look_again is None  # the quota's own event brings it back


def test_what_never_fits_is_told_so() -> None:
    found = room.decide(told(), world(now=NOW), STARTS, Lack(WORDS, WORDS))
    assert reason(found) == (True, "QuotaTooSmall")
    assert found.condition
    assert f"never fits: {WORDS}; ask for less" in found.condition.message


def test_it_comes_in_as_soon_as_there_is_room() -> None:
    waits = told("False", "QuotaExceeded")
    assert reason(room.decide(waits, world(now=NOW), STARTS, Lack(WORDS))) == (True, "QuotaExceeded")
    assert reason(room.decide(waits, world(now=NOW), STARTS, Lack())) == (False, "Trying")


@pytest.mark.parametrize(("health", "patience"), [(REFUSED, 60), (NO_NODE, 600)])
def test_what_is_held_in_vain_is_let_go_after_a_while(health: dict[str, Health], patience: int) -> None:
    first = room.decide(told(), on_node(), health, Lack(WORDS))
    assert reason(first) == (False, "Trying")
    assert first.look_again == NOW + timedelta(seconds=patience)
    begun = NOW - timedelta(seconds=patience)
    just_before = told("True", "Trying", begun + timedelta(seconds=1))
    assert reason(room.decide(just_before, on_node(), health, Lack())) == (False, "Trying")
    found = room.decide(told("True", "Trying", begun), on_node(), health, Lack())
    assert reason(found) == (True, "LetGo")
    assert found.condition
    assert health["dask"].message in found.condition.message


def test_a_refusal_of_any_kind_is_one() -> None:
    words = 'pods "w" is forbidden: maximum memory usage per Container is 512Mi, but limit is 1Gi'
    refused = {"ConfigMap x": Refusal(CONFIG_MAP.ref("x"), "dask", "Refused", words)}
    found = room.decide(told(), on_node(refused=refused), STARTS, Lack())
    assert found.condition
    assert found.condition.message.endswith(": maximum memory usage per Container is 512Mi, but limit is 1Gi")
    taken = {"ConfigMap x": Refusal(CONFIG_MAP.ref("x"), "dask", "NameConflict", words)}
    assert room.decide(told(), on_node(refused=taken), STARTS, Lack()) == Room()


def test_who_holds_nothing_has_nothing_to_let_go_of() -> None:
    long_ago = told("True", "Trying", NOW - timedelta(hours=1))
    assert room.decide(long_ago, world(now=NOW), REFUSED, Lack()) == Room()
    assert room.decide(long_ago, world(HOLDS, now=NOW), NO_NODE, Lack()) == Room()  # not one of its pods is on a node


@pytest.mark.parametrize(
    "complete",
    [
        told("True", "Complete"),
        told(ready="True"),  # it was until now
        told(lastActivity="2026-01-01T10:06:00Z"),  # somebody has used what there was
        replace(told(run={"startTime": "2026-01-01T10:02:00Z"}), spec=session(run=RUN, dask=DASK).spec),
    ],
)
def test_what_was_complete_once_is_never_taken_away(complete: Session) -> None:
    for hours in (0, 1, 100):
        found = room.decide(complete, on_node(NOW + timedelta(hours=hours)), REFUSED, Lack(WORDS, WORDS))
        assert reason(found) == (False, "Complete")


@pytest.mark.parametrize("spec", [{"dask": DASK}, {"run": RUN, "dask": DASK}])
def test_a_scheduler_that_has_begun_is_no_use_of_the_session(spec: dict[str, Any]) -> None:
    begun = replace(told(lastActivity="2026-01-01T10:01:00Z"), spec=session(**spec).spec)
    assert reason(room.decide(begun, on_node(), REFUSED, Lack(WORDS))) == (False, "Trying")


@pytest.mark.parametrize("state", ["True", "False"])  # as it is resumed, and after that
@pytest.mark.parametrize(
    "before",
    [
        told(lastActivity="2026-01-01T10:06:00Z"),
        replace(told(run={"startTime": "2026-01-01T10:02:00Z"}), spec=session(run=RUN, dask=DASK).spec),
    ],
    ids=["used", "run"],
)
def test_what_was_complete_before_a_suspension_is_let_go_after_it(before: Session, state: str) -> None:
    """Else two that are resumed wait for each other for ever. A cache, which stays, is older than its last use."""
    resumed = {"type": "Suspended", "status": state, "reason": "x", "lastTransitionTime": "2026-01-01T10:09:00Z"}
    again = replace(before, status={**before.status, "conditions": [*before.status["conditions"], resumed]})
    found = room.decide(again, on_node(), NO_NODE, Lack())
    assert reason(found) == (False, "Trying")
    assert found.look_again == NOW + room.PATIENCE["Unschedulable"]


def test_it_is_remembered_that_it_was_complete_after_it_had_to_wait() -> None:
    assert reason(room.decide(told("True", "Trying"), on_node(), READY, Lack())) == (False, "Complete")


def test_a_session_that_stops_waits_for_nothing() -> None:
    stopped = replace(told("False", "LetGo"), spec=session(dask=DASK, suspend=True).spec)
    assert room.decide(stopped, on_node(), REFUSED, Lack(WORDS)) == Room()
    over = on_node(finished=Finish("LifetimeExceeded", "over", NOW))
    assert room.decide(told("False", "LetGo"), over, REFUSED, Lack(WORDS)) == Room()


def pause(s: Session) -> timedelta:
    """Return for how long a session that has let go now stays outside."""
    found = room.decide(s, world(now=NOW), STARTS, Lack())
    assert found.outside
    assert found.look_again
    assert reason(room.decide(s, world(now=found.look_again), STARTS, Lack())) == (False, "Trying")
    return found.look_again - NOW


def test_who_has_tried_in_vain_waits_for_its_turn_though_there_is_room() -> None:
    assert timedelta(seconds=15) <= pause(told("False", "LetGo")) <= timedelta(seconds=450)


def test_pauses_differ_and_grow_and_end() -> None:
    let_go = told("False", "LetGo")
    pauses = {pause(replace(let_go, uid=str(number))) for number in range(20)}
    assert len(pauses) > 15
    young, old = (
        [pause(replace(let_go, uid=str(n), created=NOW - age)) for n in range(20)]
        for age in (timedelta(minutes=1), timedelta(days=3))
    )
    assert max(young) < timedelta(seconds=46) < timedelta(minutes=5) <= min(old)
    assert max(old) <= timedelta(minutes=15)
