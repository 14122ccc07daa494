"""Which engine a session's Dask is under, and what of a scheduler that runs is left as it was begun."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from af_operator import names, plan
from af_operator.components import shipped
from af_operator.components.dask import programs
from af_operator.model import Body, Plan
from tests.support.objects import DASK, profile, session, world

NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
ENGINES = ("Native", "DaskKubernetes")
KINDS = {
    "Native": {"ConfigMap", "Secret", "Deployment", "Service", "Pod"},
    "DaskKubernetes": {"ConfigMap", "Secret", "DaskCluster", "DaskWorkerGroup"},
}
AGENT = ("ConfigMap", "zmumu-dask-agent")


def planned(engine: str, *children: Body) -> Plan:
    return plan.build(shipped(), session(dask=DASK), profile(dask={"engine": engine}), world(*children), NOW)


def made(engine: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what an engine makes at first, as the API server would have it; the Dask operator is away."""
    found = {}
    for manifest in planned(engine).apply:
        body = json.loads(json.dumps(manifest.body))
        body["metadata"] |= {"uid": f"uid-of-{body['metadata']['name']}", "creationTimestamp": "2026-01-01T10:05:00Z"}
        body["metadata"]["managedFields"] = [{"manager": names.MANAGER, "operation": "Update"}]
        found[body["kind"], body["metadata"]["name"]] = body
    return found


def applied(found: Plan) -> set[str]:
    return {manifest.ref.kind for manifest in found.apply}


EARLIER = "print('an earlier version')"


@pytest.fixture(autouse=True)
def _an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "EARLIER_AGENTS", {hashlib.sha256(EARLIER.encode()).hexdigest()})


def of_another_version(body: dict[str, Any]) -> dict[str, Any]:
    """Return the agent as an earlier version had it."""
    return {**body, "data": {"scheduler_agent.py": EARLIER}}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_agent_of_a_scheduler_that_runs_stays_that_of_its_version(engine: str) -> None:
    there = made(engine)
    found = planned(engine, *(there | {AGENT: of_another_version(there[AGENT])}).values())
    assert not found.apply
    assert not found.delete


@pytest.mark.parametrize("engine", ENGINES)
def test_an_agent_that_somebody_has_edited_is_set_right(engine: str) -> None:
    there = made(engine)
    there[AGENT]["data"]["scheduler_agent.py"] += "\nprint('edited')"
    assert applied(planned(engine, *there.values())) == {"ConfigMap"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scheduler_that_is_yet_to_come_gets_the_agent_of_this_version(engine: str) -> None:
    agent = made(engine)[AGENT]
    assert "ConfigMap" in applied(planned(engine, of_another_version(agent)))


@pytest.mark.parametrize(("begun", "says"), [ENGINES, ENGINES[::-1]])
def test_an_edit_of_the_profile_moves_no_session_that_runs(begun: str, says: str) -> None:
    found = planned(says, *made(begun).values())
    assert not found.apply
    assert not found.delete


@pytest.mark.parametrize(("begun", "says"), [ENGINES, ENGINES[::-1]])
def test_a_resumed_session_waits_for_the_rest_of_the_other_engine(begun: str, says: str) -> None:
    there = made(begun)
    assert {kind for kind, _ in there} == KINDS[begun]
    for body in there.values():
        body["metadata"]["deletionTimestamp"] = "2026-01-01T10:09:00Z"
    assert not applied(planned(says, *there.values()))
    pods = [body for body in there.values() if body["kind"] == "Pod"]
    assert applied(planned(says, *pods)) == KINDS[says], "pods have names of their own, and may take their time"


def test_nothing_is_made_beside_a_cluster_that_its_finalizer_still_holds() -> None:
    cluster = next(body for (kind, _), body in made("DaskKubernetes").items() if kind == "DaskCluster")
    cluster["metadata"]["deletionTimestamp"] = "2026-01-01T10:09:00Z"
    for says in ENGINES:
        assert applied(planned(says, cluster)) == {"Secret"}, "which waits for whoever comes then"
