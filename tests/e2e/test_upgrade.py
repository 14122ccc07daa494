"""Sessions of the version before go on under this one: nothing of theirs is written, deleted or made anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support import operator_pod
from tests.support.audit import OPERATOR, Audit, all_told
from tests.support.pools import HELD, said, stop
from tests.support.tenant import Body, Tenant, poll
from tests.support.version_before import Before

PODS = {"lab": 6, "run": 4}
"""lab: notebook, scheduler, three workers, cache; run: scheduler, two workers, the program."""
OBJECTS = (
    "daskclusters,daskworkergroups,deployments,replicasets,statefulsets,jobs,pods,services,configmaps,secrets,roles,"
    "rolebindings,persistentvolumeclaims"
)
ADDED = ("components", "lastActivity")
"""What this version says in a status beyond the one before: endpoints and pods of each component, and the last use."""

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]  # they stop the operator


@pytest.fixture
def no_operator() -> Iterator[int]:
    """No operator while the test begins; as many as before at its end."""
    replicas = len(operator_pod.pods())
    operator_pod.scale(0)
    yield replicas
    operator_pod.scale(replicas)


def test_sessions_of_the_version_before_go_on(tenant: Tenant, no_operator: int) -> None:
    begin(tenant)
    there, statuses = uids(tenant), {name: tenant.session(name)["status"] for name in PODS}
    with Audit() as audit:
        operator_pod.scale(no_operator)
        for name in PODS:
            tenant.wait(name, lambda body: "endpoints" in body["status"]["components"]["dask"], 90, "passed over")
        poll(lambda: all_told(audit, tenant.namespace), "no status is held back any more")
        written = [f"{w.verb} {w.resource} {w.name}" for w in audit.writes(OPERATOR, namespace=tenant.namespace)]
    told = {f"patch analysissessions/status {name}": 1 for name in PODS}
    closed = {f"create networkpolicies {name}": 1 for name in PODS}
    # Who reads the Hub's Secret of a server: the Hub had the right to all of them.
    named = {"patch roles lab-notebook": 1, "patch rolebindings lab-notebook": 1}
    # The Hub's address had the cluster's domain: the server that runs keeps it, its next start gets the one of now.
    assert Counter(written) == told | closed | named | {"patch secrets lab-notebook": 1}
    assert uids(tenant) == there, "nothing was deleted or made anew"
    for name, before in statuses.items():
        only_added(before, tenant.session(name)["status"])
    print(f"{len(there)} objects as they were; written: {written}")
    assert "again 0" in stop(tenant, "run"), "what the old scheduler held is there"


def begin(tenant: Tenant) -> None:
    """Make both sessions as that version did, up to when it had no more to do."""
    found = [Before.begin(tenant, name) for name in PODS]
    poll(lambda: ready(tenant) == sum(PODS.values()) - 1, "all but the run's program is up", 150)
    for session in found:
        session.release()
    poll(lambda: f"held {HELD}" in said(tenant, "run"), "the program holds its results", 120)
    for session in found:
        session.tell()


def ready(tenant: Tenant) -> int:
    """Return how many pods are ready."""
    found = json.loads(tenant.kubectl("get", "pods", "-o", "json"))["items"]
    conditions = [pod["status"].get("conditions", ()) for pod in found]
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions)


def uids(tenant: Tenant) -> dict[tuple[str, str], str]:
    """Return the uid of everything of the sessions that is not on its way out, by kind and name."""
    found = json.loads(tenant.kubectl("get", OBJECTS, "-o", "json"))["items"]
    stays = (body for body in found if "deletionTimestamp" not in body["metadata"])
    return {(body["kind"], body["metadata"]["name"]): body["metadata"]["uid"] for body in stays}


def only_added(before: Body, after: Body) -> None:
    """Check that all that was said is said as before, and what is new is what the new schema has."""
    before = json.loads(json.dumps(before).replace(".svc.cluster.local", ".svc"))  # both lead to the same
    assert {key: value for key, value in after.items() if key not in ADDED} == {
        key: value for key, value in before.items() if key not in ADDED
    }
    for component, told in before["components"].items():
        now = after["components"][component]
        assert {key: value for key, value in now.items() if key not in ("endpoints", "pods")} == told
    assert set(after) - set(before) <= set(ADDED)
