"""Parts of a model service die while it is asked: it says so, and comes back with all that it had.

All of it in one session, in turn: each test leaves it as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support import served as models
from tests.support.tenant import Tenant, condition, kubectl, poll

pytestmark = pytest.mark.timeout(600)

NAME = "mortal"
NOTEBOOK = (f"{NAME}-notebook-0", "--container=notebook")
FIRST, SECOND = f"{NAME}-inference-r0", f"{NAME}-inference-r1"


@pytest.fixture(scope="module")
def mortal(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[Tenant]:
    """A session with one replica, and a model that was uploaded."""
    spec = {"user": "admin", "mode": "Interactive", "image": models.IMAGE, "notebook": {}}
    shared_tenant.apply(NAME, spec | {"inference": models.DIMUON | {"upload": True}})
    shared_tenant.wait_condition(NAME, "Ready", seconds=240)
    models.ask(shared_tenant, NOTEBOOK, "upload", "triple", models.times(3))
    yield shared_tenant
    shared_tenant.kubectl("delete", "analysissession", NAME, "--ignore-not-found")


def restarts(tenant: Tenant, pod: str) -> int:
    [status] = models.pods(tenant, NAME)[pod]["status"]["containerStatuses"]
    return int(status["restartCount"])


def answers(tenant: Tenant) -> None:
    """The service has what it had: catalogue and store."""
    assert models.ask(tenant, NOTEBOOK, "predict", "", "triple", 5) == 15
    assert models.ask(tenant, NOTEBOOK, "ask")["http"] == pytest.approx(models.MASSES, rel=1e-6)


def has_all(tenant: Tenant) -> bool:
    try:
        answers(tenant)
    except AssertionError:
        return False
    return True


def test_one_of_two_dies_and_the_other_serves(mortal: Tenant) -> None:
    mortal.patch(NAME, inference={"replicas": 2})
    models.settled(mortal, NAME, 2)
    models.send(mortal, SECOND, "SIGKILL")
    # Connections still go to the one that died until its kubelet has told of it.
    poll(lambda: has_all(mortal), "the other serves", 30)
    poll(lambda: restarts(mortal, SECOND) == 1, "its container is started again")
    models.settled(mortal, NAME, 2)
    assert not condition(mortal.session(NAME), "InferenceLost"), "it was there all the time"
    mortal.patch(NAME, inference={"replicas": 1})
    models.settled(mortal, NAME, 1)


def test_a_server_that_is_killed_is_missed_and_starts_again(mortal: Tenant) -> None:
    uid = models.pods(mortal, NAME)[FIRST]["metadata"]["uid"]
    models.send(mortal, FIRST, "SIGKILL")
    found = mortal.wait_condition(NAME, "InferenceLost", seconds=60, reason="Away")
    assert "what asks it fails until it is back" in found["message"]
    mortal.wait_condition(NAME, "InferenceLost", "False", seconds=120, reason="Returned")
    mortal.wait_condition(NAME, "Ready", seconds=60)
    assert (models.pods(mortal, NAME)[FIRST]["metadata"]["uid"], restarts(mortal, FIRST)) == (uid, 1)
    events = kubectl("get", "events", "-n", mortal.namespace, "--field-selector=type=Warning,reason=Away")
    assert "the model service is away" in events
    answers(mortal)


def test_a_pod_that_is_deleted_is_made_anew(mortal: Tenant) -> None:
    uid = models.pods(mortal, NAME)[FIRST]["metadata"]["uid"]
    mortal.kubectl("delete", "pod", FIRST, "--wait=false")
    mortal.wait_condition(NAME, "InferenceLost", seconds=60, reason="Away")
    mortal.wait_condition(NAME, "InferenceLost", "False", seconds=120, reason="Returned")
    assert models.pods(mortal, NAME)[FIRST]["metadata"]["uid"] != uid
    answers(mortal)


def test_the_token_is_made_anew_for_nobody(mortal: Tenant) -> None:
    """What asks the service was started with it: an object that is deleted comes back, and so does the token."""
    before = token(mortal)
    mortal.kubectl("delete", "configmap,role", f"{NAME}-inference")
    for kind in ("configmap", "role"):
        poll(
            lambda kind=kind: mortal.kubectl("get", kind, f"{NAME}-inference", "--ignore-not-found"), f"{kind} is back"
        )
    assert token(mortal) == before
    answers(mortal)


def token(tenant: Tenant) -> str:
    found = json.loads(tenant.kubectl("get", "secret", f"{NAME}-inference", "-o", "json"))
    return str(found["data"]["token"])
