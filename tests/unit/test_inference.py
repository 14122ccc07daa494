"""The model service: what it refuses, what is in its pods, who is let in, what stays while it runs, how it is."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from af_operator import names, plan, status
from af_operator.components import inference, shipped
from af_operator.components._shared import budget
from af_operator.components.inference import replicas, server
from af_operator.errors import InvalidSession
from af_operator.model import POD, VOLUME_CLAIM, Body, Condition, Finish, Keep, Manifest, Profile, Refusal, Session
from af_operator.observed import Observed, Settled, Terms
from tests.support.objects import UNSCHEDULABLE, container, live, of_component, ours, pod, profile, session, world

NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
CLAIM = {"volumeClaim": {"claimName": "models-cms", "subPath": "btag/topjet"}}
CATALOGUE: list[dict[str, Any]] = [
    {"name": "topjet", "version": "9", "source": CLAIM},
    {"name": "topjet", "version": "10", "source": CLAIM},
    {"name": "pileup", "version": "1", "source": {"cvmfs": {"claimName": "cvmfs", "path": "/cvmfs/a/pileup"}}},
    {"name": "flavour", "version": "1", "source": {"cvmfs": {"claimName": "cvmfs-b", "path": "/cvmfs/b/flavour"}}},
    {"name": "deeptau", "version": "1", "source": {"image": {"reference": "example.org/deeptau:1", "path": "/tau"}}},
]
OFFERED: dict[str, Any] = {
    "image": "example.org/inference:1",
    "gpuImage": "example.org/inference-gpu:1",
    "models": CATALOGUE,
    "upload": True,
}
Items = list[Manifest | Keep]
TOPJET = {"models": [{"name": "topjet"}]}


def facility(**changes: Any) -> Profile:
    offered = {key: value for key, value in (OFFERED | changes).items() if value is not None}
    return profile(inference=offered, limits={"workers": 4, "gpus": 1})


def asking(*, status: Body | None = None, suspend: bool = False, **changes: Any) -> Session:
    found = session(inference=TOPJET | changes, notebook={}, suspend=suspend)
    return replace(found, status=status or {})


def replica(number: int = 0, *, digest: str = "", models: str = "topjet=10", **state: Any) -> dict[str, Any]:
    """Return a pod of the service's, which is ready unless it is said otherwise."""
    labels = of_component("inference", "replicas", **{names.ROLE: "worker"})
    running = container("server", running={"startedAt": "2026-01-01T10:01:05Z"})
    found = pod(f"zmumu-inference-r{number}", labels, running, **{"ready": True, **state})
    found["metadata"]["annotations"] = {names.CONFIG_HASH: digest, names.MODELS: models}
    return ours(found)


def objects(asked: Session, *children: Body, offered: Profile | None = None, number: int = 1, **more: Any) -> Items:
    observed = Settled(children=children, nonce="n" * 64, now=NOW, **more)
    terms = Terms(workers={"replicas": number})
    return list(inference.desired(asked, offered or facility(), observed, terms))


def made(items: Items, kind: str) -> list[Body]:
    return [item.body for item in items if isinstance(item, Manifest) and item.ref.kind == kind]


def kept(items: Items) -> list[str]:
    return [item.ref.name for item in items if isinstance(item, Keep)]


# What is refused.


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"models": [{"name": "other"}]}, "UnknownModel", "choose one of: deeptau, flavour, pileup, topjet"),
        ({"models": [{"name": "topjet", "version": "8"}]}, "UnknownModel", "has no version 8 .*: choose one of: 9, 10"),
        ({"models": [{"name": "pileup"}, {"name": "flavour"}]}, "SeveralClaims", "cvmfs and cvmfs-b"),
        ({"size": "other"}, "UnknownSize", "size 'other' is not in profile"),
        ({"nodePool": "other"}, "UnknownNodePool", "node pool 'other'"),
        ({"nodePool": "cpu", "gpusPerReplica": 1}, "NoGPUs", "has no GPUs: set gpusPerReplica: 0"),
        ({"nodePool": "gpu"}, "NodePoolForGPUs", "set gpusPerReplica: 1"),
    ],
)
def test_check(changes: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(InvalidSession, match=words) as caught:
        inference.check(asking(**changes), facility())
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "offered", "reason"),
    [
        ({"upload": True}, facility(upload=False), "NoUpload"),
        ({"nodePool": "gpu", "gpusPerReplica": 1}, facility(gpuImage=None), "NoGPUs"),
        ({}, facility(models=[]), "UnknownModel"),
        ({}, profile(), "NoInference"),
    ],
)
def test_what_the_profile_must_have(changes: dict[str, Any], offered: Profile, reason: str) -> None:
    with pytest.raises(InvalidSession) as caught:
        inference.check(asking(**changes), offered)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 5}, "5 workers over all pools"),
        ({"replicas": 3, "nodePool": "gpu", "gpusPerReplica": 1}, "3 workers on node pool 'gpu'"),
        ({"replicas": 2, "nodePool": "gpu", "gpusPerReplica": 1}, "2 GPUs over all pools"),
    ],
)
def test_replicas_count_in_the_one_budget(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSession, match=words):
        budget.check(facility(), {"inference": inference.pools(asking(**changes))})


def test_replicas_share_the_budget_with_workers() -> None:
    dask = {"pools": [{"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 2}}]}
    asked = session(inference=TOPJET | {"replicas": 3}, dask=dask, notebook={})
    found = plan.build(shipped(), asked, facility(), Observed(), NOW)
    assert found.rejected is not None
    assert found.rejected[1].startswith("5 workers over all pools is over the limit")


# What is made.


def test_the_highest_version_is_a_number() -> None:
    [config] = made(objects(asking()), "ConfigMap")
    assert json.loads(config["data"]["config.json"])["models"] == [
        {"name": "topjet", "version": "10", "path": "/models/catalogue/topjet"}
    ]


def test_versions_stay_what_they_were_begun_with() -> None:
    began = {"components": {"inference": {"models": {"topjet": "9"}}}}
    [config] = made(objects(asking(status=began)), "ConfigMap")
    assert json.loads(config["data"]["config.json"])["models"][0]["version"] == "9"
    with pytest.raises(InvalidSession, match="no version 9"):
        inference.check(asking(status=began), facility(models=CATALOGUE[1:]))


def test_gpus_are_asked_for_and_nothing_else_is_taken() -> None:
    items = objects(asking(nodePool="gpu", gpusPerReplica=1))
    [config], [replica] = made(items, "ConfigMap"), made(items, "Pod")
    assert json.loads(config["data"]["config.json"])["device"] == "cuda"
    [container] = replica["spec"]["containers"]
    assert container["image"] == "example.org/inference-gpu:1"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert json.loads(made(objects(asking()), "ConfigMap")[0]["data"]["config.json"])["device"] == "cpu"


def test_the_token_is_kept_and_of_a_purpose_of_its_own() -> None:
    [secret] = made(objects(asking()), "Secret")
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert token == Observed(nonce="n" * 64).token("inference token")
    there = ours(live("v1", "Secret", "zmumu-inference", data=secret["data"]))
    [again] = made(objects(asking(), there, refused={}), "Secret")
    assert again["data"] == secret["data"]


def test_no_other_pod_has_the_token_in_words() -> None:
    for audience in ("user", "worker"):
        patch = inference.pod_patch(asking(), facility(), world(), audience)
        variables = {each["name"]: each for each in patch.env}
        assert variables["TFAAS_URL"]["value"] == "http://zmumu-inference.physics.svc:8000"
        assert variables["AF_INFERENCE_GRPC"]["value"] == "zmumu-inference.physics.svc:8001"
        secret = variables["AF_INFERENCE_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "zmumu-inference", "key": "token"}


def test_a_store_is_claimed_once_and_stays_until_the_session_goes() -> None:
    asked = asking(upload=True)
    found = plan.build(shipped(), asked, facility(), Observed(nonce="n" * 64), NOW)
    [claim] = [m for m in found.apply if m.ref.kind == "PersistentVolumeClaim"]
    assert claim.body["metadata"]["ownerReferences"][0]["uid"] == asked.uid
    stored = ours({**claim.body, "metadata": {**claim.body["metadata"], "uid": "uid-of-the-store"}})
    larger = facility(store={"size": "5Gi"})
    for given, offered in ((asked, larger), (replace(asked, spec=asking(upload=True, suspend=True).spec), larger)):
        found = plan.build(shipped(), given, offered, Observed(children=(stored,), nonce="n" * 64), NOW)
        assert VOLUME_CLAIM.kind not in {m.ref.kind for m in found.apply}
        assert VOLUME_CLAIM.kind not in {body["kind"] for body in found.delete}


def test_a_suspended_service_goes_but_for_its_store() -> None:
    asked = asking(upload=True, suspend=True)
    running = replica()
    found = plan.build(shipped(), asked, facility(), Observed(children=(running,)), NOW)
    assert [body["metadata"]["name"] for body in found.delete] == ["zmumu-inference-r0"]


def test_replicas_share_a_node_where_their_volume_can_be_on_one_only() -> None:
    def affinity(**store: str) -> Body:
        [found] = made(objects(asking(upload=True), offered=facility(store=store)), "Pod")
        return dict(found["spec"].get("affinity", {}))

    assert "podAffinity" in affinity()
    assert affinity(accessMode="ReadWriteMany").keys() == {"nodeAffinity"}, "off nodes with GPUs, and no more"


# Who the replicas are.


def test_replicas_that_are_missing_are_made_and_surplus_ones_are_not_kept() -> None:
    items = objects(asking(replicas=3), replica(0), replica(2), number=3)
    assert kept(items) == ["zmumu-inference-r0", "zmumu-inference-r2"]
    assert [body["metadata"]["name"] for body in made(items, "Pod")] == ["zmumu-inference-r1"]
    assert kept(objects(asking(), replica(0), replica(2))) == ["zmumu-inference-r0"]


def test_a_replica_that_serves_outlives_an_edit_of_the_catalogue_and_another_does_not() -> None:
    asked, edited = asking(), facility(image="example.org/inference:2")
    assert kept(objects(asked, replica(digest="of-before"), offered=edited)) == ["zmumu-inference-r0"]
    assert kept(objects(asked, replica(digest="of-before", ready=False), offered=edited)) == []
    [body] = made(objects(asked), "Pod")
    starting = replica(digest=body["metadata"]["annotations"][names.CONFIG_HASH], ready=False)
    assert kept(objects(asked, starting)) == ["zmumu-inference-r0"]
    assert made(objects(asked, replica(digest="of-before", ready=False), offered=edited), "Pod") == [], (
        "its name is taken"
    )


def test_a_replica_that_failed_at_once_is_replaced_after_a_while() -> None:
    evicted = replica(ready=False, phase="Failed", containerStatuses=[])
    evicted["metadata"]["annotations"] = made(objects(asking()), "Pod")[0]["metadata"]["annotations"]
    early = Settled(children=(evicted,), now=datetime(2026, 1, 1, 10, 1, 10, tzinfo=UTC))
    found = list(replicas.planned(asking(), facility(), early, 1))
    assert [type(item) for item in found] == [Keep]
    assert inference.deadline(asking(), early) == datetime(2026, 1, 1, 10, 1, 30, tzinfo=UTC)
    assert kept(objects(asking(), evicted)) == []


def test_the_user_is_let_in_once_the_first_pod_is_there() -> None:
    assert made(objects(asking()), "Role") == []
    [role] = made(objects(asking(), replica()), "Role")
    granted = {r: rule["resourceNames"] for rule in role["rules"] for r in rule["resources"]}
    assert granted == {"secrets": ["zmumu-inference"], "pods/portforward": ["zmumu-inference-r0"]}
    [binding] = made(objects(asking(), replica()), "RoleBinding")
    assert [subject["name"] for subject in binding["subjects"]] == ["alice"]
    there = [ours(live("rbac.authorization.k8s.io/v1", kind, "zmumu-inference")) for kind in ("Role", "RoleBinding")]
    assert kept(objects(asking(), *there)) == ["zmumu-inference"] * 2, "while the pod is replaced they stay"


def test_no_stateful_set_has_a_pod_of_such_a_name() -> None:
    [pod] = made(objects(asking()), "Pod")
    assert not pod["metadata"]["name"].rpartition("-")[2].isdigit()


# How it is.


def of(*pods: Body, asked: Session | None = None, **more: Any) -> Any:
    return inference.health(asked or asking(), Settled(children=pods, now=NOW, **more))


def condition(kind: str, state: str, reason: str = "Ready") -> dict[str, str]:
    return {"type": kind, "status": state, "reason": reason, "lastTransitionTime": "2026-01-01T10:02:00Z"}


READY = {"conditions": [condition("InferenceReady", "True")]}


def test_it_is_ready_with_all_replicas() -> None:
    found = of(replica(0), replica(1), asked=asking(replicas=2))
    assert found.ready
    assert found.details == {"pools": {"replicas": {"ready": 2, "desired": 2}}, "models": {"topjet": "10"}}
    assert found.endpoints == {
        "inference": "http://zmumu-inference.physics.svc:8000",
        "grpc": "zmumu-inference.physics.svc:8001",
    }
    assert found.condition is None


def test_fewer_replicas_serve_and_it_says_so() -> None:
    refused = Refusal(POD.ref("zmumu-inference-r1"), "inference", "Refused", "exceeded quota: small")
    found = of(replica(0), asked=asking(replicas=2), refused={"zmumu-inference": refused})
    assert not found.ready
    assert (found.reason, found.message) == (
        "QuotaExceeded",
        "1 of 2 replicas ready, which serve: exceeded quota: small",
    )
    assert "inference" in found.endpoints


MISSING = UNSCHEDULABLE | {"message": '0/1 nodes are available: persistentvolumeclaim "models-cms" not found.'}
CRASH = container(
    "server",
    waiting={"reason": "CrashLoopBackOff"},
    last={"exitCode": 1, "message": "loading\nmodel topjet 10: no model.onnx in /models/catalogue/topjet/10"},
)
PULL = container("server", waiting={"reason": "ImagePullBackOff", "message": "no such image"})


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ({"conditions": [UNSCHEDULABLE]}, "Unschedulable", "Insufficient"),
        ({"conditions": [MISSING]}, "VolumeClaimMissing", '"models-cms" not found.*tell the facility\'s admin'),
        ({"containerStatuses": [CRASH]}, "CrashLoopBackOff", "model topjet 10: no model.onnx in /models/catalogue"),
        ({"containerStatuses": [PULL]}, "ImagePullBackOff", "cannot be pulled"),
        ({}, "Starting", "0 of 1 replicas ready: each loads its models"),
    ],
)
def test_the_real_reason_is_said(state: dict[str, Any], reason: str, words: str) -> None:
    found = of(replica(ready=False, **state))
    assert found.reason == reason
    assert re.search(words, found.message)
    assert found.endpoints == {}


def test_a_lost_service_is_said_and_that_it_is_back() -> None:
    gone = of(replica(ready=False), asked=asking(status=READY))
    assert gone.condition == Condition("InferenceLost", True, "Away", gone.condition.message)
    assert "what asks it fails until it is back" in gone.condition.message
    lost = {"conditions": [condition("InferenceReady", "False"), condition("InferenceLost", "True", "Away")]}
    assert of(replica(ready=False), asked=asking(status=lost)).condition.true
    back = of(replica(), asked=asking(status=lost)).condition
    assert (back.true, back.reason) == (False, "Returned")
    returned = {"conditions": [condition("InferenceReady", "False"), condition("InferenceLost", "False", "Returned")]}
    assert of(replica(ready=False), asked=asking(status=returned)).condition.true


def test_a_loss_is_an_event() -> None:
    after = {"conditions": [{**condition("InferenceLost", "True", "Away"), "message": "the model service is away"}]}
    assert [event.reason for event in status.events({}, after)] == ["Away"]


@pytest.mark.parametrize("stop", [{"suspend": True}, {"finished": True}])
def test_who_stops_a_service_does_not_lose_it(stop: dict[str, bool]) -> None:
    lost = {"conditions": [condition("InferenceLost", "True", "Away")]}
    more = {"finished": Finish("Succeeded", "", NOW)} if "finished" in stop else {}
    assert of(asked=asking(status=READY, suspend="suspend" in stop), **more).condition is None
    ended = of(asked=asking(status=lost, suspend="suspend" in stop), **more).condition
    assert (ended.true, ended.reason) == (False, "Gone")
    resumed = {"conditions": [condition("InferenceReady", "False"), condition("InferenceLost", "False", "Gone")]}
    assert not of(asked=asking(status=resumed)).condition.true, "it starts"


def test_versions_in_the_status_are_bounded_whatever_a_pod_says() -> None:
    forged = "topjet=" + "9" * 100 + " other=1 topjet"
    assert "models" not in of(replica(models=forged)).details


def test_the_server_is_told_of_a_facilitys_triton() -> None:
    models = [{"name": "topjet", "version": "3"}]
    offered = facility(engine="Url", url={"grpc": "triton.example.org:8001"}, upload=False, models=models)
    config = json.loads(server.config(asking(), offered))
    assert config["backend"] == {"grpc": "triton.example.org:8001"}
    assert config["models"] == [{"name": "topjet", "version": "3"}]
