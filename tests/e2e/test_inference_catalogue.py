"""Models of a facility's catalogue, by each source; and services that do not come up, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local_cluster import facility as demo
from tests.support import catalogue
from tests.support import served as models
from tests.support.tenant import Body, Tenant, condition, kubectl, poll

pytestmark = pytest.mark.timeout(600)

CLAIM = "models-e2e"
USER = {"user": "admin", "mode": "Interactive"}
FILL = ["cp", "-R", "/models/.", "/claim"]
TRITON = "nowhere.af-storage.svc.cluster.local:8001"


def on_claim(name: str, version: str, path: str, claim: str = CLAIM) -> Body:
    return {"name": name, "version": version, "source": {"volumeClaim": {"claimName": claim, "subPath": path}}}


SOURCES = [
    on_claim("claimed", "1", "dimuon"),
    {"name": "mounted", "version": "1", "source": {"cvmfs": {"claimName": CLAIM, "path": "/cvmfs/dimuon"}}},
    on_claim("empty", "1", "dimuon/1"),
    on_claim("claimless", "1", "dimuon", "models-nowhere"),
    {
        "name": "imageless",
        "version": "1",
        "source": {"image": {"reference": "localhost:5000/nope:1", "path": "/models"}},
    },
]


@pytest.fixture(scope="module")
def offered(facility: demo.Facility) -> Iterator[str]:
    """The facility's catalogue with more models, and GPUs whose servers find no CUDA."""
    own = catalogue.default_spec()["inference"]
    changes = {"models": [*own["models"], *SOURCES], "gpuImage": own["image"]}
    with catalogue.profile(inference=own | changes) as name:
        yield name


@pytest.fixture(scope="module")
def filled(shared_tenant: Tenant) -> Tenant:
    """A namespace with a claim that has the demo's models in it."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec["storageClassName"] = catalogue.default_spec()["storage"]["home"]["storageClassName"]
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec}
    for body in (claim, job()):
        shared_tenant.kubectl("create", "--filename=-", stdin=json.dumps(body))
    shared_tenant.kubectl("wait", "--for=condition=Complete", "job/fill", "--timeout=100s")
    return shared_tenant


def job() -> Body:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "fill",
        "image": demo.image_references()["models"],
        "command": FILL,
        "securityContext": security,
        "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
    }
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
        | {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "fill"}, "spec": {"template": {"spec": pod}}}


def asking(profile: str, *names: str, **more: Any) -> Body:
    return USER | {"profile": profile, "inference": {"models": [{"name": name} for name in names], **more}}


def test_models_come_from_claims_images_and_cvmfs(filled: Tenant, offered: str) -> None:
    filled.apply("sources", asking(offered, "dimuon", "claimed", "mounted"))
    filled.wait_condition("sources", "Ready", seconds=120)
    status = filled.session("sources")["status"]["components"]["inference"]
    assert status["models"] == {"dimuon": "1", "claimed": "1", "mounted": "1"}
    [pod] = models.pods(filled, "sources").values()
    mounts = {m["mountPath"]: m for m in pod["spec"]["containers"][0]["volumeMounts"]}
    for path in ("/models/catalogue/dimuon", "/models/catalogue/claimed", "/cvmfs"):
        assert mounts[path]["readOnly"]
        said = filled.kubectl("exec", "sources-inference-r0", "--", "touch", f"{path}/x", check=False)
        assert "Read-only file system" in said
    filled.kubectl("delete", "analysissession", "sources")


def test_a_version_stays_though_a_higher_one_comes(filled: Tenant, offered: str) -> None:
    own = catalogue.default_spec()["inference"]
    newer = {**own["models"][0], "version": "7"}
    with catalogue.profile(inference=own) as profile:
        filled.apply("pinned", asking(profile, "dimuon"))
        filled.wait_condition("pinned", "Ready", seconds=120)
        uid = models.pods(filled, "pinned")["pinned-inference-r0"]["metadata"]["uid"]
        patch = json.dumps({"spec": {"inference": {"models": [*own["models"], newer]}}})
        kubectl("patch", "analysisprofile", profile, "--type=merge", "--patch", patch)
        filled.kubectl("delete", "pod", "pinned-inference-r0", "--wait=false")
        filled.wait_condition("pinned", "InferenceLost", seconds=60)
        filled.wait_condition("pinned", "Ready", seconds=120)
        assert models.pods(filled, "pinned")["pinned-inference-r0"]["metadata"]["uid"] != uid
        assert filled.session("pinned")["status"]["components"]["inference"]["models"] == {"dimuon": "1"}
        filled.kubectl("delete", "analysissession", "pinned")


# Each of them alone on its session, all at once.

TROUBLED: dict[str, tuple[Body, str, str]] = {
    "claimless": ({"models": [{"name": "claimless"}]}, "VolumeClaimMissing", '"models-nowhere" not found'),
    "imageless": ({"models": [{"name": "imageless"}]}, "ImagePullBackOff", "localhost:5000/nope:1 cannot be pulled"),
    "empty": ({"models": [{"name": "empty"}]}, "CrashLoopBackOff", "empty"),
    "gpu": (models.DIMUON | {"nodePool": "gpu", "gpusPerReplica": 1}, "CrashLoopBackOff", "CUDAExecutionProvider"),
    "vast": (models.DIMUON | {"size": "vast"}, "Unschedulable", "Insufficient memory"),
}
REFUSED: dict[str, tuple[Body, str, str]] = {
    "unknown": ({"models": [{"name": "x"}]}, "UnknownModel", "choose one of: claimed, claimless, dimuon"),
    "version": ({"models": [{"name": "dimuon", "version": "9"}]}, "UnknownModel", "choose one of: 1"),
    "many": (models.DIMUON | {"replicas": 9}, "LimitExceeded", "workers.max may add up to 8"),
    "gpus": (models.DIMUON | {"nodePool": "gpu", "gpusPerReplica": 3}, "LimitExceeded", "3 GPUs over all pools"),
}


@pytest.fixture(scope="module")
def troubled(filled: Tenant, offered: str) -> Tenant:
    """Every session of both tables."""
    sizes = [*catalogue.default_spec()["sizes"], {"name": "vast", "cpu": "50m", "memory": "900Gi"}]
    patch = json.dumps({"spec": {"sizes": sizes}})
    kubectl("patch", "analysisprofile", offered, "--type=merge", "--patch", patch)
    for name, (service, _, _) in (TROUBLED | REFUSED).items():
        filled.apply(name, USER | {"profile": offered, "inference": service})
    return filled


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_catalogue_has_not_is_refused(troubled: Tenant, name: str) -> None:
    _, reason, words = REFUSED[name]
    found = troubled.wait_condition(name, "Accepted", "False", reason=reason)
    assert words in found["message"]


@pytest.mark.parametrize("name", TROUBLED)
def test_the_reason_is_said(troubled: Tenant, name: str) -> None:
    _, reason, words = TROUBLED[name]
    found = troubled.wait_condition(name, "InferenceReady", "False", seconds=150, reason=reason)
    assert words in found["message"]
    assert condition(troubled.session(name), "Ready")["message"].startswith("Inference: 0 of 1 replicas ready: ")
    troubled.kubectl("delete", "analysissession", name)


def test_a_quota_is_the_reason_and_gives_way(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "small", "--hard=pods=1")
    tenant.apply("bound", USER | {"inference": models.DIMUON})
    tenant.wait_condition("bound", "Ready", seconds=120)
    tenant.patch("bound", inference={"replicas": 2})
    found = tenant.wait_condition("bound", "InferenceReady", "False", seconds=60, reason="QuotaExceeded")
    assert "exceeded quota: small" in found["message"]
    serving = tenant.wait(
        "bound", lambda body: "which serve" in condition(body, "InferenceReady").get("message", ""), 60, "one serves"
    )
    assert models.replicas(serving) == {"ready": 1, "desired": 2}
    tenant.kubectl("delete", "quota", "small")
    tenant.wait_condition("bound", "Ready", seconds=120)


def test_a_missing_claim_is_waited_for(tenant: Tenant, offered: str) -> None:
    tenant.apply("early", asking(offered, "claimed"))
    tenant.wait_condition("early", "InferenceReady", "False", seconds=60, reason="VolumeClaimMissing")
    poll(lambda: "early-inference-r0" in models.pods(tenant, "early"), "its pod waits")
