"""Deleting a session, or its namespace, leaves nothing and waits for nobody."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.support import operator_pod
from tests.support.audit import OPERATOR, Audit
from tests.support.tenant import HEADLESS, Tenant, kubectl, poll

SPEC = {
    **HEADLESS,
    "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": "import time; time.sleep(600)"}}},
    "dask": {
        "pools": [
            {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}},
            {"name": "two", "nodePool": "cpu", "workers": {"min": 1, "max": 1}},
        ]
    },
    "xcache": {"placement": "Session", "size": "1Gi"},
}
SECONDS = 90
"""Longer than a container's grace period and the garbage collector's pause between looks."""


def test_a_deleted_session_leaves_nothing(tenant: Tenant) -> None:
    before = everything(tenant)
    uid = tenant.apply("deleted", SPEC)["metadata"]["uid"]
    tenant.wait_condition("deleted", "Ready")
    _owned_all_the_way(tenant, uid, everything(tenant) - before)
    began = time.monotonic()
    tenant.kubectl("delete", "analysissession", "deleted", "--timeout=10s")
    _wait_for_nothing_but(tenant, before)
    print(f"nothing is left after {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("children", [0, 1], ids=["at-once", "at-the-first-child"])
def test_a_session_deleted_while_it_is_created_leaves_nothing(tenant: Tenant, children: int) -> None:
    before = everything(tenant)
    with Audit() as audit:
        tenant.apply("deleted", SPEC)
        end = time.monotonic() + 30
        while len(audit.created(OPERATOR, namespace=tenant.namespace)) < children:
            assert time.monotonic() < end, "no child was created"
        tenant.kubectl("delete", "analysissession", "deleted", "--timeout=10s")
        _wait_for_nothing_but(tenant, before)
        print(f"{len(audit.created(OPERATOR, namespace=tenant.namespace))} children were created")


WITHOUT = pytest.param(0, id="without-the-operator", marks=pytest.mark.alone)


@pytest.fixture(params=[pytest.param(1, id="with-the-operator"), WITHOUT])
def replicas(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many operators there are when the namespace goes, of ours and of Dask's; one of each afterwards."""
    yield request.param
    operator_pod.system("scale", "deployment/dask-operator", "--replicas=1")
    operator_pod.scale(1)


def test_a_namespace_goes_with_its_running_session(tenant: Tenant, replicas: int) -> None:
    """Without any operator too: no object has a finalizer."""
    tenant.apply("deleted", SPEC)
    tenant.wait_condition("deleted", "Ready")
    assert not tenant.session("deleted")["metadata"].get("finalizers")
    operator_pod.scale(replicas)
    operator_pod.system("scale", "deployment/dask-operator", f"--replicas={replicas}")
    began = time.monotonic()
    kubectl("delete", "namespace", tenant.namespace, "--wait=false")
    poll(lambda: not kubectl("get", "namespace", tenant.namespace, "--ignore-not-found"), "the namespace goes", SECONDS)
    print(f"the namespace was gone after {time.monotonic() - began:.0f} s")


def everything(tenant: Tenant) -> set[tuple[str, str, str]]:
    """Return kind, name and uid of all there is in a namespace, of whatever kind, but for Events."""
    kinds = kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    listed = ",".join(k for k in kinds if not k.startswith("events"))
    found = json.loads(tenant.kubectl("get", listed, "-o", "json"))["items"]
    return {(b["kind"], b["metadata"]["name"], b["metadata"]["uid"]) for b in found}


def _owned_all_the_way(tenant: Tenant, uid: str, made: set[tuple[str, str, str]]) -> None:
    """Every object that came of a session is in the session's tree: so the test would see it if it stayed."""
    kinds = {kind for kind, _, _ in made}
    assert kinds >= {"AnalysisSession", "Deployment", "Service", "ConfigMap", "Job", "Pod"}
    assert {kind for kind, _ in tenant.children(uid)} >= kinds - {"AnalysisSession", "Endpoints", "EndpointSlice"} - {
        "ReplicaSet"
    }


def _wait_for_nothing_but(tenant: Tenant, before: set[tuple[str, str, str]]) -> None:
    """Wait until nothing is there that was not before, and see it five times: nothing comes back."""
    seen = 0

    def nothing() -> bool:
        nonlocal seen
        seen = seen + 1 if everything(tenant) == before else 0
        return seen == 5

    try:
        poll(nothing, "nothing is left", SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {sorted(everything(tenant) - before)}") from error
