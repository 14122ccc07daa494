"""The engine DaskKubernetes: the objects are dask-kubernetes', its operator makes pods of them, and both are put right.

Resizing under it is in `test_pools_loss.py` and `test_pools_crash.py`; all else that a session does is the same under
any engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.audit import OPERATOR, Audit
from tests.support.catalogue import profile
from tests.support.pools import pools, start
from tests.support.tenant import Tenant, condition, poll

NAME = "healed"
OTHER = "analysisfacility.io/pool=other"
PARTS = ("daskclusters", "daskworkergroups", "deployments", "services", "pods")
PROGRAM = """
from dask.distributed import Client
with Client() as client:
    print("the sum is", client.submit(sum, [20, 22]).result(), flush=True)
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """A profile of that engine."""
    with profile(dask={"engine": "DaskKubernetes"}) as own:
        yield own


@pytest.fixture(scope="module")
def two_pools(shared_tenant: Tenant, engine: str) -> Tenant:
    """A session with a worker in each of two pools."""
    dask = pools((1, 1), (1, 1))
    shared_tenant.apply(NAME, {"profile": engine, "user": "admin", "mode": "Interactive", "dask": dask})
    shared_tenant.wait_condition(NAME, "Ready")
    return shared_tenant


def test_a_run_computes_on_what_the_dask_operator_makes(tenant: Tenant, engine: str) -> None:
    with Audit() as audit:
        start(tenant, "run", PROGRAM, pools((1, 1), (0, 0)), profile=engine)
        tenant.wait_condition("run", "RunComplete", reason="Succeeded", seconds=120)
        poll(lambda: not there(tenant, "run"), "all of its Dask is gone", 90)
        created = audit.created(OPERATOR, namespace=tenant.namespace)
    kept = json.loads(tenant.kubectl("get", "configmap", "run-run-log", "-o", "json"))["data"]["log"]
    assert "the sum is 42" in kept
    kinds = sorted(name.partition("/")[0] for name in created)
    engine_s = ["daskclusters"] + ["daskworkergroups"] * 2
    # Who may read the log of the run, and who may reach the scheduler.
    rights = ["rolebindings"] * 2 + ["roles"] * 2
    assert kinds == ["configmaps"] * 3 + engine_s + ["jobs", "networkpolicies", *rights, "secrets"], "no pod of ours"


def test_a_deleted_worker_is_made_anew(two_pools: Tenant) -> None:
    with anew(two_pools, OTHER, "deployments", "pods"):
        two_pools.kubectl("delete", "deployment", "-l", OTHER, "--wait=false")


def test_a_deleted_group_comes_back(two_pools: Tenant) -> None:
    with anew(two_pools, OTHER, "daskworkergroups", "deployments", "pods"):
        two_pools.kubectl("delete", "daskworkergroup", "-l", OTHER, "--wait=false")


def test_the_number_of_workers_is_put_right(two_pools: Tenant) -> None:
    before = uids(two_pools, OTHER, "pods")
    group = two_pools.kubectl("get", "daskworkergroups", "-l", OTHER, "-o", "name").strip()
    two_pools.kubectl("patch", group, "--type=merge", "-p", '{"spec": {"worker": {"replicas": 2}}}')
    path = "jsonpath={.spec.worker.replicas}"
    poll(lambda: len(uids(two_pools, OTHER, "pods") - before) == 1, "the Dask operator has made another worker", 90)
    poll(lambda: two_pools.kubectl("get", group, "-o", path) == "1", "the group is asked for one worker", 90)
    poll(lambda: well(two_pools), "the session is ready again, all of it", 120)


def test_a_deleted_cluster_comes_back(two_pools: Tenant) -> None:
    with anew(two_pools, "", *PARTS):
        two_pools.kubectl("delete", "daskcluster", NAME, "--wait=false")


def test_a_lost_scheduler_is_said_and_all_is_made_anew(two_pools: Tenant) -> None:
    with anew(two_pools, "", *PARTS):
        # By itself the Dask operator never looks for it again.
        two_pools.kubectl("delete", "deployment", f"{NAME}-scheduler", "--wait=false")
        found = two_pools.wait_condition(NAME, "SchedulerLost", seconds=60)
    assert "the Dask scheduler was lost (its Deployment was deleted)" in found["message"]


def there(tenant: Tenant, name: str) -> list[str]:
    """Return what there is of a session's Dask."""
    labels = f"analysisfacility.io/session={name},analysisfacility.io/component=dask"
    return tenant.kubectl("get", ",".join(PARTS), "-l", labels, "-o", "name").split()


@contextmanager
def anew(tenant: Tenant, labels: str, *kinds: str) -> Iterator[None]:
    """Let something be done, after which there are as many others of each kind, and the session is well again."""
    before = {kind: uids(tenant, labels, kind) for kind in kinds}
    assert all(before.values())
    yield
    for kind, old in before.items():
        poll(
            lambda kind=kind, old=old: _others(old, uids(tenant, labels, kind)),
            f"others than the {kind} of before",
            120,
        )
    poll(lambda: well(tenant), "the session is ready again, all of it", 120)


def uids(tenant: Tenant, labels: str, kind: str) -> set[str]:
    """Return the uids of what is not on its way out."""
    found = json.loads(tenant.kubectl("get", kind, "-l", labels, "-o", "json"))["items"]
    return {body["metadata"]["uid"] for body in found if "deletionTimestamp" not in body["metadata"]}


def _others(old: set[str], new: set[str]) -> bool:
    return len(new) == len(old) and not new & old


def well(tenant: Tenant) -> bool:
    """Return whether the session is ready, with a scheduler and two workers, and nothing is on its way out."""
    pods = json.loads(tenant.kubectl("get", "pods", "-o", "json"))["items"]
    up = [p for p in pods if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"]["conditions"])]
    ready = condition(tenant.session(NAME), "Ready").get("status") == "True"
    return ready and len(up) == len(pods) == 3
