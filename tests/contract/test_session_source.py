"""Which ConfigMap a session may have as its source: one that whoever creates it could read by themselves."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from local_cluster.control_plane import ControlPlane, control_plane
from local_cluster.processes import poll
from local_cluster.progress import Progress
from tests.support.bounded import TENANT, Account, Body, Bounded, bounded, tenant

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(300)]
SESSIONS = {
    "apiGroups": ["analysisfacility.io"],
    "resources": ["analysissessions"],
    "verbs": ["create", "get", "patch"],
}
USE = {"apiGroups": ["analysisfacility.io"], "resources": ["analysisprofiles"], "verbs": ["use"]}
COURSE = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["course"], "verbs": ["get"]}
WORDS = "which you ('system:serviceaccount:physics:alice') may not read"


@pytest.fixture(scope="module")
def control() -> Iterator[ControlPlane]:
    with control_plane(Progress(Console(quiet=True))) as found:
        yield found


@pytest.fixture(scope="module")
def plane(control: ControlPlane) -> Iterator[Bounded]:
    with bounded(control, {}) as found:
        yield found


@pytest.fixture(scope="module")
def alice(control: ControlPlane, plane: Bounded) -> Iterator[Account]:
    """She may use sessions, and read one ConfigMap."""
    with tenant(control, plane.admin, "alice", [SESSIONS, USE, COURSE]) as found:
        assert poll(lambda: WORDS in found.create(session("bob-source")), 60), found.create(session("bob-source"))
        yield found


def session(config_map: str | None, name: str = "s1") -> Body:
    source: dict[str, Any] = {"configMap": config_map} if config_map else {"files": {"main.py": ""}}
    spec = {
        "user": f"system:serviceaccount:{TENANT}:alice",
        "mode": "Headless",
        "run": {"command": ["python", "main.py"], "source": source},
    }
    metadata = {"name": name, "namespace": TENANT}
    return {"apiVersion": "analysisfacility.io/v1alpha1", "kind": "AnalysisSession", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("name", ["bob-source", "bob-run-log", "bob-xcache-config", "kube-root-ca.crt", "course-2"])
def test_what_its_user_may_not_read_is_refused(alice: Account, name: str) -> None:
    said = alice.create(session(name))
    assert f"run.source.configMap is '{name}', {WORDS}: put the files into run.source.files" in said


def test_what_its_user_may_read_is_not(alice: Account) -> None:
    assert alice.create(session("course")) == ""
    assert alice.create(session(None)) == ""


def test_who_creates_a_session_for_another_lends_them_what_they_may_read(plane: Bounded) -> None:
    """A portal, and the facility's admin, may create sessions for anybody: it is theirs to say with which source."""
    assert plane.admin.create(session("bob-source")) == ""


def test_a_session_that_is_there_can_be_changed_by_whoever_may(plane: Bounded, alice: Account) -> None:
    assert plane.admin.create(session("bob-source", "portal"), keep=True) == ""
    changed = copy.deepcopy(session("bob-source", "portal"))
    assert alice.change({**changed, "spec": {"suspend": True}}) == ""
    changed["spec"] = {"run": {"source": {"configMap": "bob-run-log"}}}
    assert alice.change(changed) != ""
