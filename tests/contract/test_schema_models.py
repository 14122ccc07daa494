"""Wrong model services and catalogues of models, refused by the API server itself, with words that help."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.schema import Body, Server, load, merged

pytestmark = pytest.mark.cluster

USELESS = "a model service has something to serve: name models of the profile, or write upload: true"
A_MODEL = "write a model's name: letters, digits, '-', '_' and '.', first a letter or digit"
A_VERSION = "write a model's version as text, a whole number from 1 on, such as '3'"
ONE_SOURCE = "give exactly one of volumeClaim, image and cvmfs"
A_CLAIM = "write the name of a PersistentVolumeClaim that begins with models or cvmfs"
FIXED = "cannot be changed, only replicas: create a new session"


def asking(**found: Any) -> Body:
    return {"spec": {"inference": {"models": [{"name": "topjet"}], **found}}}


def named(name: Any = "topjet", **more: Any) -> Body:
    return asking(models=[{"name": name, **more}])


def cached(xcache: Body) -> Body:
    return {"spec": {"xcache": xcache}}


SESSIONS: dict[str, tuple[Body, str]] = {
    "nothing to serve": ({"spec": {"inference": {}}}, USELESS),
    "an empty list": (asking(models=[]), USELESS),
    "no upload": ({"spec": {"inference": {"upload": False, "replicas": 2}}}, USELESS),
    "a path": (named("../topjet"), A_MODEL),
    "a name with a slash": (named("a/b"), A_MODEL),
    "a hidden name": (named(".topjet"), A_MODEL),
    "a name of dots": (named("a.."), A_MODEL),
    "a name with a space": (named("top jet"), A_MODEL),
    "a name of two alphabets": (named("tорjet"), A_MODEL),  # noqa: RUF001  Cyrillic
    "an empty name": (named(""), "name in body should be at least 1 chars long"),
    "a long name": (named("a" * 64), "Too long: may not be more than 63"),
    "one name twice": (asking(models=[{"name": "a"}, {"name": "a", "version": "2"}]), "Duplicate value"),
    "33 models": (asking(models=[{"name": f"m{n}"} for n in range(33)]), "Too many: 33: must have at most 32 items"),
    "a version that is a number": (named(version=3), 'version in body must be of type string: "integer"'),
    "version 0": (named(version="0"), A_VERSION),
    "version 03": (named(version="03"), A_VERSION),
    "a version in words": (named(version="latest"), A_VERSION),
    "a version of ten digits": (named(version="1" * 10), "Too long: may not be more than 9"),
    "a model of a path": (named(path="/models"), 'unknown field "spec.inference.models[0].path"'),
    "an image": (asking(image="evil"), 'unknown field "spec.inference.image"'),
    "no replicas": (asking(replicas=0), "replicas in body should be greater than or equal to 1"),
    "1000 replicas": (asking(replicas=1000), "replicas in body should be less than or equal to 100"),
    "GPUs of no node pool": (asking(gpusPerReplica=1), "gpusPerReplica needs nodePool"),
    "17 GPUs": (asking(nodePool="gpu", gpusPerReplica=17), "should be less than or equal to 16"),
    "decision of a sidecar": (
        cached({"decision": {"model": "popularity"}}),
        "decision needs placement: Session; the cache of one pod sees too few opens to decide by",
    ),
    "decision without a model": (
        cached({"placement": "Session", "decision": {}}),
        "spec.xcache.decision.model: Required value",
    ),
    "decision without a model service": (
        cached({"placement": "Session", "decision": {"model": "popularity"}}),
        "decision needs inference: it is a model of the session's own service that decides",
    ),
    "decision by a model that is not served": (
        merged(cached({"placement": "Session", "decision": {"model": "popularity"}}), asking()),
        "no model of this name can be served: name it in inference.models too, or write inference.upload: true",
    ),
    "decision over a hundred percent": (
        cached({"placement": "Session", "decision": {"model": "popularity", "thresholdPercent": 101}}),
        "spec.xcache.decision.thresholdPercent in body should be less than or equal to 100",
    ),
    "a variable of TFaaS": ({"spec": {"env": [{"name": "TFAAS_URL", "value": "x"}]}}, "are set by the session itself"),
    "a variable of ours": (
        {"spec": {"env": [{"name": "AF_INFERENCE_TOKEN", "value": "x"}]}},
        "are set by the session itself",
    ),
}


def offering(**found: Any) -> Body:
    return {"spec": {"inference": {"image": "registry.example.org/inference:1", **found}}}


def sourced(**source: Any) -> Body:
    return offering(models=[{"name": "topjet", "version": "1", "source": source}])


def claimed(**claim: Any) -> Body:
    return sourced(volumeClaim={"claimName": "models", **claim})


TRITON = {"engine": "Url", "url": {"grpc": "triton.example.org:8001"}}
PROFILES: dict[str, tuple[Body, str]] = {
    "no image": ({"spec": {"inference": {"upload": True}}}, "spec.inference.image: Required value"),
    "an engine unknown": (offering(engine="Triton"), 'supported values: "Builtin", "Url"'),
    "Url without url": (offering(engine="Url"), "url is for engine: Url, and that needs it"),
    "url without Url": (offering(url={"grpc": "a:1"}), "url is for engine: Url, and that needs it"),
    "an URL": (offering(engine="Url", url={"grpc": "http://a:1"}), "write host:port, such as triton.example.org:8001"),
    "no port": (offering(engine="Url", url={"grpc": "a"}), "write host:port, such as triton.example.org:8001"),
    "uploads to a Triton": (offering(**TRITON, upload=True), "engine: Url takes no uploads"),
    "a source beside a Triton": (
        offering(**TRITON, models=[{"name": "a", "version": "1", "source": {"volumeClaim": {"claimName": "models"}}}]),
        "each model needs a source with engine: Builtin, and has none with Url",
    ),
    "no source": (offering(models=[{"name": "a", "version": "1"}]), "each model needs a source with engine: Builtin"),
    "a source of nothing": (sourced(), ONE_SOURCE),
    "two sources": (
        sourced(volumeClaim={"claimName": "models"}, image={"reference": "a", "path": "/a"}),
        ONE_SOURCE,
    ),
    "no version": (offering(models=[{"name": "a"}]), "spec.inference.models[0].version: Required value"),
    "a version twice": (
        offering(models=[{"name": "a", "version": "1", "source": {"volumeClaim": {"claimName": "models"}}}] * 2),
        "Duplicate value",
    ),
    "a name that no server takes": (offering(models=[{"name": "a/b", "version": "1"}]), A_MODEL),
    "anybody's claim": (claimed(claimName="home-alice"), A_CLAIM),
    "a claim elsewhere": (claimed(claimName="models/other"), A_CLAIM),
    "a path upwards": (claimed(subPath="../../etc"), "write a path of letters, digits and . _ - without '/'"),
    "an absolute sub-path": (claimed(subPath="/etc"), "write a path of letters, digits and . _ - without '/'"),
    "a hidden path": (claimed(subPath="a/.git"), "write a path of letters, digits and . _ - without '/'"),
    "an option as a path": (
        sourced(image={"reference": "a", "path": "--target-directory=/tmp"}),
        "write an absolute path of letters, digits and . _ -",
    ),
    "a path upwards in an image": (sourced(image={"reference": "a", "path": "/a/../b"}), "write an absolute path"),
    "CVMFS elsewhere": (
        sourced(cvmfs={"claimName": "cvmfs", "path": "/etc/passwd"}),
        "write a path below /cvmfs, such as /cvmfs/cms.example.org/models/topjet",
    ),
    "a host path": (sourced(hostPath={"path": "/"}), 'unknown field "spec.inference.models[0].source.hostPath"'),
    "a store without unit": (offering(store={"size": "10"}), "this is less than 1Mi: add a unit, such as 10Gi"),
    "a store of an empty class": (offering(store={"storageClassName": ""}), "should be at least 1 chars long"),
}
CHANGES: dict[str, tuple[Body, str]] = {
    "models": (asking(models=[{"name": "other"}]), f"models {FIXED}"),
    "models removed": ({"spec": {"inference": {"models": None}}}, f"models {FIXED}"),
    "upload": ({"spec": {"inference": {"upload": False}}}, f"upload {FIXED}"),
    "size": ({"spec": {"inference": {"size": "medium"}}}, f"size {FIXED}"),
    "size removed": ({"spec": {"inference": {"size": None}}}, f"size {FIXED}"),
    "node pool": ({"spec": {"inference": {"nodePool": "cpu"}}}, f"nodePool {FIXED}"),
    "GPUs": ({"spec": {"inference": {"gpusPerReplica": 2}}}, f"gpusPerReplica {FIXED}"),
    "all of it": ({"spec": {"inference": None}}, "inference cannot be added or removed, only its replicas changed"),
}


@pytest.mark.parametrize("case", SESSIONS)
def test_a_wrong_session_is_refused(server: Server, case: str) -> None:
    patch, says = SESSIONS[case]
    answer = server.create(merged(load("session-minimal.yaml"), patch))
    assert answer.code in {400, 422}, answer.body
    assert says in answer.message


@pytest.mark.parametrize("case", PROFILES)
def test_a_wrong_profile_is_refused(server: Server, case: str) -> None:
    patch, says = PROFILES[case]
    answer = server.create(merged(load("profile-minimal.yaml"), patch))
    assert answer.code in {400, 422}, answer.body
    assert says in answer.message


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_what_is_immutable_is_refused(server: Server, full: str, case: str) -> None:
    patch, says = CHANGES[case]
    answer = server.patch(full, patch)
    assert answer.code == 422, answer.body
    assert says in answer.message


def test_a_service_cannot_be_added_later(server: Server, stored: str) -> None:
    answer = server.patch(stored, asking())
    assert answer.code == 422, answer.body
    assert "inference cannot be added or removed" in answer.message


@pytest.mark.parametrize("number", [1, 7])
def test_replicas_may_be_edited(server: Server, full: str, number: int) -> None:
    answer = server.patch(full, {"spec": {"inference": {"replicas": number}}})
    assert answer.code == 200, answer.message


def test_the_server_fills_in_defaults(server: Server) -> None:
    found = server.create(load("session-upload.yaml")).body["spec"]["inference"]
    assert found == {"upload": True, "replicas": 1, "gpusPerReplica": 0}
    profile = server.create(merged(load("profile-minimal.yaml"), offering())).body["spec"]["inference"]
    assert (profile["engine"], profile["upload"]) == ("Builtin", False)
    assert profile["store"] == {"size": "1Gi", "accessMode": "ReadWriteOnce"}
