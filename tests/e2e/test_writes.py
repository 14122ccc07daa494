"""What the operator writes, counted by the API server."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support import operator_pod
from tests.support.audit import OPERATOR, Audit, Call, all_told
from tests.support.tenant import DASK, HEADLESS, Tenant, poll

SYSTEM = operator_pod.SYSTEM_NAMESPACE
POOLS = [
    {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}},
    {"name": "gpu", "nodePool": "gpu", "gpusPerWorker": 1, "workers": {"min": 1, "max": 1}},
]
SPARK = {"pools": [{"name": "spark", "nodePool": "cpu", "size": "medium", "workers": {"min": 1, "max": 1}}]}
MODELS = {"models": [{"name": "dimuon"}], "upload": True}
PROGRAM = "from dask.distributed import Client; print(Client().submit(sum, [1, 2]).result())"
FULL = {
    **HEADLESS,
    "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": PROGRAM}}},
    "dask": {"pools": POOLS},
    "xcache": {"placement": "Session", "size": "1Gi"},
}


@pytest.mark.alone  # it replaces the operator
def test_a_restart_writes_nothing(tenant: Tenant) -> None:
    """Sessions that run, have finished and are suspended are all as they should be: there is nothing to write."""
    waits = {"command": ["sleep", "300"]}
    before = Audit()
    uids = [
        tenant.apply("runs", {**HEADLESS, "run": waits, "dask": DASK, "spark": SPARK, "inference": MODELS})["metadata"][
            "uid"
        ],
        tenant.apply("finished", HEADLESS)["metadata"]["uid"],
        tenant.apply("suspended", {**HEADLESS, "run": waits, "dask": DASK, "suspend": True})["metadata"]["uid"],
        tenant.apply("refused", {**HEADLESS, "profile": "there-is-none"})["metadata"]["uid"],
    ]
    tenant.wait_condition("runs", "Ready")
    tenant.wait_condition("finished", "RunComplete")
    tenant.wait_condition("suspended", "Suspended")
    tenant.wait_condition("refused", "Accepted", "False")
    poll(lambda: all(_settled(tenant, uid) for uid in uids), "all pods of ended sessions are gone")
    with before:
        poll(lambda: all_told(before, tenant.namespace), "no status is held back any more")
    with Audit() as audit:
        pod = operator_pod.replace()
        poll(lambda: _looked_at(pod, 4), "a pass over each session")
        written = [w for w in audit.writes(OPERATOR) if w.namespace in (tenant.namespace, SYSTEM, "")]
    assert {(w.resource, w.name) for w in written} == {("leases", "af-operator")}, _listed(written)


def test_a_session_costs_few_writes(tenant: Tenant) -> None:
    """From the session's creation to its recorded end, by the operator's account, failed requests included.

    Children are the objects that the operator creates. What is created, edited and told (children, status, Events)
    is at most 1.5 writes for each; the deletion of each that goes after the end comes on top, once.
    """
    with Audit() as audit:
        tenant.apply("full", FULL)
        tenant.wait_condition("full", "RunComplete", reason="Succeeded", seconds=180)
        poll(
            lambda: _deleted(audit, tenant) == 12,
            "scheduler, its service, agent, Secret and who may read it, two workers, and the cache's four are deleted",
        )
        written = audit.writes(OPERATOR, namespace=tenant.namespace)
        created = audit.created(OPERATOR, namespace=tenant.namespace)
    statuses = [w for w in written if w.resource == "analysissessions/status"]
    writes = [w for w in written if w.verb != "delete"]
    print(f"{len(writes)} writes for {len(created)} children, {len(statuses)} of them statuses\n{_listed(written)}")
    assert len(created) == len(set(created)) == 18, "with two Roles of its user, and the network's policy"
    # A start that is slow (a cold cluster) is told of every 8 s: progress that a user waits for, not a cost per child.
    slow = int((statuses[-1].received - statuses[0].received).total_seconds() // 16)
    assert len(writes) - slow <= 1.5 * len(created)


def _deleted(audit: Audit, tenant: Tenant) -> int:
    return sum(w.verb == "delete" for w in audit.writes(OPERATOR, namespace=tenant.namespace))


def _settled(tenant: Tenant, uid: str) -> bool:
    return not any("deletionTimestamp" in c["metadata"] for c in tenant.children(uid).values())


def _looked_at(pod: str, sessions: int) -> bool:
    found = operator_pod.metrics(pod)
    return found.get("af_operator_pass_seconds_count", 0) >= sessions and not found["af_operator_queue_depth"]


def _listed(writes: list[Call]) -> str:
    return "\n".join(map(str, writes)) + f"\n{Counter((w.verb, w.resource) for w in writes)}"
