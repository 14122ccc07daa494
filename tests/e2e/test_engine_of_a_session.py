"""A session stays under the engine that it was begun under, whatever its profile says; resumed, it takes that one."""

from __future__ import annotations

import json
from collections import Counter

from tests.support.audit import DASK_OPERATOR, OPERATOR, Audit
from tests.support.catalogue import profile
from tests.support.pools import pools, settled
from tests.support.tenant import Body, Tenant, kubectl

NAME = "stays"
KINDS = "daskclusters,daskworkergroups,deployments,services,pods"
OURS = {"Deployment": 1, "Service": 1, "Pod": 3}
"""A scheduler and two workers, which are pods of the session's own."""
THEIRS = {"DaskCluster": 1, "DaskWorkerGroup": 3, "Deployment": 3, "Service": 1, "Pod": 3}
"""The same by the Dask operator; one group is the DaskCluster's own, and empty."""


def test_a_session_stays_under_its_engine_until_it_is_resumed(tenant: Tenant) -> None:
    with profile(dask={"engine": "DaskKubernetes"}) as own:
        spec = {"profile": own, "user": "admin", "mode": "Interactive", "dask": pools((1, 1), (1, 1))}
        tenant.apply(NAME, spec)
        tenant.wait_condition(NAME, "Ready")
        address = address_of(tenant)
        assert kinds(tenant) == THEIRS
        set_engine(own, "Native")
        resizes_as_before(tenant, "daskworkergroups")
        come_back(tenant)
        assert (kinds(tenant), address_of(tenant)) == (OURS, address)
        set_engine(own, "DaskKubernetes")
        resizes_as_before(tenant, "pods")
        come_back(tenant)
        assert (kinds(tenant), address_of(tenant)) == (THEIRS, address)


def set_engine(own: str, engine: str) -> None:
    """Edit the profile."""
    patch = {"spec": {"dask": {"engine": engine}}}
    kubectl("patch", "analysisprofile", own, "--type=merge", "-p", json.dumps(patch))


def resizes_as_before(tenant: Tenant, resource: str) -> None:
    """Resize a pool: what is written since the edit is what that takes under the engine of before, and no more."""
    before = set(there(tenant))
    with Audit() as audit:
        tenant.patch(NAME, dask=pools((2, 2), (1, 1)))
        settled(tenant, NAME, cpu=2, other=1)
        written = audit.writes(OPERATOR, namespace=tenant.namespace)
    # Beside an Event, where tests beside this one have the room that a worker needs.
    assert {w.resource for w in written} - {"events"} == {resource, "analysissessions/status"}, "\n".join(
        map(str, written)
    )
    assert before <= set(there(tenant)), "nothing is made anew"


def come_back(tenant: Tenant) -> None:
    """Suspend and resume, smaller; what there was goes before anything else comes."""
    before = set(there(tenant))
    with Audit() as audit:
        tenant.patch(NAME, suspend=True, dask=pools((1, 1), (1, 1)))
        tenant.wait_condition(NAME, "Suspended")
        tenant.patch(NAME, suspend=False)
        tenant.wait_condition(NAME, "Ready")
        settled(tenant, NAME, cpu=1, other=1)
        calls = audit.writes(namespace=tenant.namespace)
    assert not before & set(there(tenant))
    looked_at = set(KINDS.split(",")) - {"pods"}
    # The garbage collector also asks for what somebody else has deleted, and is refused.
    gone = [c for c in calls if c.verb == "delete" and c.resource in looked_at and c.code < 300]
    made = [c for c in calls if c.created and c.user in (OPERATOR, DASK_OPERATOR) and c.resource != "events"]
    assert gone[-1].received < made[0].received, "\n".join(map(str, calls))


def address_of(tenant: Tenant) -> str:
    return str(tenant.session(NAME)["status"]["components"]["dask"]["endpoints"]["dask"])


def kinds(tenant: Tenant) -> Counter[str]:
    return Counter(body["kind"] for body in there(tenant).values())


def there(tenant: Tenant) -> dict[str, Body]:
    """Return what there is of its Dask and is not on its way out, by uid."""
    found = json.loads(tenant.kubectl("get", KINDS, "-o", "json"))["items"]
    return {b["metadata"]["uid"]: b for b in found if "deletionTimestamp" not in b["metadata"]}
