"""What a session needs of quotas, and in which words one is full."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from af_operator import names, quota
from af_operator.components import shipped
from af_operator.plan import build
from tests.support.objects import DASK, RUN, profile, session, world


def container(cpu: str = "250m", memory: str = "1Gi", **more: Any) -> dict[str, Any]:
    return {
        "name": "main",
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}},
        **more,
    }


def pod(role: str = "worker", pool: str | None = "cpu", **spec: Any) -> dict[str, Any]:
    labels = {names.COMPONENT: "dask", names.ROLE: role, **({names.POOL: pool} if pool else {})}
    body = {"containers": [container()], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels}, "spec": body}


def made_of(kind: str, of: dict[str, Any], api: str = "apps/v1", **spec: Any) -> dict[str, Any]:
    template = {"metadata": of["metadata"], "spec": of["spec"]}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": {"template": template, **spec}}


def hard(**most: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "tight"},
        "spec": {},
        "status": {"hard": {k.replace("_", "."): v for k, v in most.items()}, "used": {}},
    }


SCHEDULER = made_of("Deployment", pod("scheduler", None), replicas=1)
JOB = made_of("Job", pod("", None), "batch/v1", suspend=True)
LEAST = {quota.Place("dask", "worker", "cpu"): 1}


def test_the_minimum_is_what_is_needed_and_not_what_an_elastic_pool_has_asked_for() -> None:
    found = quota.need([(SCHEDULER, False), (JOB, False), *((pod(), False) for _ in range(5))], [], LEAST)
    assert found.whole["pods"] == 3
    assert found.missing == found.whole
    assert found.whole["requests.memory"] == found.whole["memory"] == 3 * 2**30
    assert found.whole["requests.cpu"] == Decimal("0.75")
    assert (found.whole["count/deployments.apps"], found.whole["count/replicasets.apps"]) == (1, 1)


def test_what_is_there_is_not_missing_but_for_the_pod_that_is_not() -> None:
    there = [pod(), pod("scheduler", None)]
    found = quota.need([(SCHEDULER, True), (JOB, True), (there[0], True)], there, LEAST)
    assert found.whole["pods"] == 3
    assert found.missing["pods"] == 1  # the suspended Job's
    assert "count/deployments.apps" not in found.missing


def test_a_pod_counts_with_its_sidecars_and_its_largest_step() -> None:
    sidecar, step = container("1", "1Gi", restartPolicy="Always"), container("100m", "8Gi")
    found = quota.need([(pod(initContainers=[sidecar, step]), False)], [], {})
    assert (found.whole["requests.cpu"], found.whole["requests.memory"]) == (Decimal("1.25"), 8 * 2**30)


def test_groups_of_the_other_engine_count_as_well() -> None:
    template = {"spec": pod()["spec"], "replicas": 4}
    group = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": "g", "labels": {names.POOL: "cpu"}},
        "spec": {"worker": template},
    }
    assert quota.need([(group, False)], [], LEAST).whole["pods"] == 1


@pytest.mark.parametrize(
    ("most", "used", "ever", "words"),
    [
        (
            {"pods": "3"},
            {"pods": "1"},
            False,
            "exceeded quota: tight, requested: pods=3, used: pods=1, limited: pods=3",
        ),
        ({"pods": "3"}, {}, False, None),
        ({"pods": "2"}, {"pods": "9"}, True, "exceeded quota: tight, requested: pods=3, limited: pods=2"),
        (
            {"requests_memory": "2Gi", "pods": "2"},
            {},
            False,
            "exceeded quota: tight, requested: pods=3,requests.memory=3Gi, used: pods=0,requests.memory=0, "
            "limited: pods=2,requests.memory=2Gi",
        ),
        ({"cpu": "700m"}, {}, False, "exceeded quota: tight, requested: cpu=750m, used: cpu=0, limited: cpu=700m"),
        ({"requests.nvidia.com/gpu": "0"}, {}, False, None),
        ({"services": "0"}, {}, False, None),
    ],
)
def test_it_speaks_as_the_api_server_does(
    most: dict[str, str], used: dict[str, str], ever: bool, words: str | None
) -> None:
    full = hard(**most)
    full["status"]["used"] = used
    need = quota.need([(SCHEDULER, False), (JOB, False), (pod(), False)], [], LEAST)
    assert quota.exceeded([full], need.whole, None if ever else {}) == words


def test_what_others_are_about_to_make_counts_as_used() -> None:
    full = hard(pods="4")
    full["status"]["used"] = {"pods": "1"}
    need = quota.need([(pod(), False)], [], {})
    assert quota.exceeded([full], need.missing, {"pods": Decimal(2)}) is None
    assert quota.exceeded([full], need.missing, quota.together([{"pods": Decimal(2)}, {"pods": Decimal(1)}])) == (
        "exceeded quota: tight, requested: pods=1, used: pods=4, limited: pods=4"
    )


def test_quotas_with_scopes_are_the_api_servers_own() -> None:
    need = quota.need([(pod(), False)], [], {})
    for spec in ({"scopes": ["BestEffort"]}, {"scopeSelector": {"matchExpressions": []}}):
        assert quota.exceeded([hard(pods="0") | {"spec": spec}], need.whole, {}) is None


EVERYTHING = {
    "run": RUN,
    "dask": DASK,
    "spark": {"pools": [{"name": "s", "nodePool": "cpu", "workers": {"min": 2, "max": 3}}]},
    "xcache": {"placement": "Session"},
}


def test_every_component_of_a_session_is_counted_and_nothing_of_it_is_made_that_computes() -> None:
    s = session(**EVERYTHING)
    fitting = profile(images=[{"name": "all", "image": "registry.test/all:1", "provides": ["Spark"]}])
    found = build(shipped(), s, fitting, world(quotas=(hard(pods="1"),), nonce="0" * 64), s.created)
    assert found.room is not None
    assert (found.room.reason, found.room.true) == ("QuotaTooSmall", False)
    # The scheduler and one worker, the Connect server's pod and two workers, the cache, and the run.
    assert "requested: pods=7, limited: pods=1" in found.room.message
    assert {m.ref.kind for m in found.apply} <= {"Job", "ConfigMap"}
    [job] = [m.body for m in found.apply if m.ref.kind == "Job"]
    assert job["spec"]["suspend"] is True


def test_a_session_waits_for_a_quota_of_policies() -> None:
    """Without its policy nothing of it runs: it is counted with all else that it needs."""
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"}, "spec": {}}
    counted = "count/networkpolicies.networking.k8s.io"
    need = quota.need([(policy, False)], [], {})
    assert need.missing[counted] == 1
    full = {**hard(), "status": {"hard": {counted: "3"}, "used": {counted: "3"}}}
    assert counted in (quota.exceeded([full], need.missing, {}) or "")
