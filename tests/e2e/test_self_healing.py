"""What is deleted or edited by hand under a running session comes back as it was."""

from __future__ import annotations

import json

import pytest

from tests.support.tenant import HEADLESS, Body, Tenant, condition, poll

POOLS = [
    {"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}},
    {"name": "two", "nodePool": "cpu", "workers": {"min": 1, "max": 1}},
]
SPEC = {
    **HEADLESS,
    "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": "import time; time.sleep(600)"}}},
    "dask": {"pools": POOLS},
    "xcache": {"placement": "Session", "size": "1Gi"},
}
PART = "analysisfacility.io/component"
CHILDREN = [
    ("deployment", "healed-scheduler", "analysisfacility.io/role=scheduler"),
    ("service", "healed-scheduler", None),
    ("configmap", "healed-dask-agent", None),
    ("configmap", "healed-source", None),
    ("configmap", "healed-xcache-config", None),
    ("deployment", "healed-xcache", f"{PART}=xcache"),
    ("service", "healed-xcache", None),
    ("job", "healed-run", f"{PART}=run"),
]
"""Kind, name, and which pods go with it."""


@pytest.fixture(scope="module")
def running(shared_tenant: Tenant) -> Tenant:
    """A session that runs, with one child of each kind."""
    shared_tenant.apply("healed", SPEC)
    shared_tenant.wait_condition("healed", "Ready")
    return shared_tenant


@pytest.mark.parametrize(("kind", "name", "pods"), CHILDREN, ids=[f"{kind}-{name}" for kind, name, _ in CHILDREN])
def test_a_deleted_child_comes_back(running: Tenant, kind: str, name: str, pods: str | None) -> None:
    old, old_pods = _find(running, kind, name), _uids(running, pods)
    running.kubectl("delete", kind, old["metadata"]["name"], "--wait=false")
    poll(lambda: _anew(running, kind, old), f"another {kind} {old['metadata']['name']}", 90)
    poll(lambda: not old_pods & _uids(running, pods), f"the pods of the old {kind} are gone", 90)
    poll(lambda: _is_well(running), "the session is ready again, all of it", 120)


def test_a_deleted_worker_is_replaced(running: Tenant) -> None:
    old = _find(running, "pod", "healed-two-")["metadata"]["uid"]
    running.kubectl("delete", "pod", "-l", "analysisfacility.io/pool=two", "--wait=false")
    poll(lambda: old not in _uids(running, "analysisfacility.io/pool=two"), "the old pod is gone", 90)
    poll(lambda: _is_well(running), "the session is ready again, all of it", 120)


def test_the_number_of_schedulers_is_put_right(running: Tenant) -> None:
    _edit(running, "deployment", "healed-scheduler", {"spec": {"replicas": 0}})
    poll(lambda: _find(running, "deployment", "healed-scheduler")["spec"]["replicas"] == 1, "one is asked for")
    poll(lambda: _is_well(running), "the session is ready again, all of it", 120)


def test_the_port_of_the_cache_is_put_right(running: Tenant) -> None:
    ports = _find(running, "service", "healed-xcache")["spec"]["ports"]
    _edit(running, "service", "healed-xcache", {"spec": {"ports": [{**ports[0], "port": 4242}]}})
    poll(lambda: _find(running, "service", "healed-xcache")["spec"]["ports"] == ports, "the port is as it was")
    poll(lambda: _is_well(running), "the session is ready again, all of it", 120)


def test_what_is_added_to_the_cache_goes(running: Tenant) -> None:
    before = _environment(running)
    running.kubectl("set", "env", "deployment/healed-xcache", "ADDED=by-hand")
    poll(lambda: _environment(running) == before, "the variable is gone")
    poll(lambda: _is_well(running), "the session is ready again, all of it", 120)


def _environment(tenant: Tenant) -> list[Body]:
    pod = _find(tenant, "deployment", "healed-xcache")["spec"]["template"]["spec"]
    return list(pod["containers"][0]["env"])


def _edit(tenant: Tenant, kind: str, name: str, patch: Body) -> None:
    tenant.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch))


def _list(tenant: Tenant, kind: str) -> list[Body]:
    found: list[Body] = json.loads(tenant.kubectl("get", kind, "-o", "json"))["items"]
    return found


def _find(tenant: Tenant, kind: str, name: str) -> Body:
    """Return the child of this name (or that starts with it, when it ends with a dash)."""
    names = ((b["metadata"]["name"], b) for b in _list(tenant, kind))
    return next(b for n, b in names if n == name or (name.endswith("-") and n.startswith(name)))


def _uids(tenant: Tenant, pods: str | None) -> set[str]:
    if pods is None:
        return set()
    return set(tenant.kubectl("get", "pods", "-l", pods, "-o", "jsonpath={.items[*].metadata.uid}").split())


def _anew(tenant: Tenant, kind: str, old: Body) -> bool:
    found = [b["metadata"] for b in _list(tenant, kind) if b["metadata"]["name"] == old["metadata"]["name"]]
    return any(m["uid"] != old["metadata"]["uid"] and "deletionTimestamp" not in m for m in found)


def _is_well(tenant: Tenant) -> bool:
    """Return whether the session is ready, each pod that it needs is, and nothing is on its way out."""
    ready = condition(tenant.session("healed"), "Ready").get("status") == "True"
    pods = _list(tenant, "pods")
    leaving = any("deletionTimestamp" in b["metadata"] for b in pods)
    up = [b for b in pods if any(c["type"] == "Ready" and c["status"] == "True" for c in b["status"]["conditions"])]
    return ready and not leaving and len(up) == len(pods) == 5  # scheduler, 2 workers, cache, run
