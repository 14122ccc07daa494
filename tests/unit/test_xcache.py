"""XCache: what is permitted, where the cache is, and what is said of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from af_operator.components import xcache
from af_operator.components.xcache import config
from af_operator.errors import InvalidSession
from af_operator.model import Keep, Manifest
from af_operator.observed import Terms
from tests.support.objects import container, live, of_component, pod, profile, session, world

SIDECAR = {"placement": "Sidecar", "size": "10Gi"}
SESSION = {"placement": "Session", "size": "10Gi"}


@pytest.mark.parametrize(
    ("spec", "changes", "reason", "words"),
    [
        (SIDECAR, {"xcache": None}, "NoXCache", "remove xcache from the session"),
        ({"size": "101Gi"}, {}, "LimitExceeded", "at most 100Gi"),
        ({"size": "2Mi"}, {}, "TooSmall", "at least 100Mi"),
    ],
)
def test_check(spec: Any, changes: Any, reason: str, words: str) -> None:
    with pytest.raises(InvalidSession, match=words) as caught:
        xcache.check(session(xcache=spec), profile(**changes))
    assert caught.value.reason == reason


def test_check_takes_the_largest_size_in_any_unit() -> None:
    xcache.check(session(xcache={"size": "102400Mi"}), profile())


def lines(size: str, origin: str = "xrootd.example.org:1094", **more: Any) -> list[str]:
    facility = profile(xcache={"image": "x", "origin": origin}).spec.xcache
    assert facility is not None
    spec = session(xcache={"placement": "Session", "size": size} | more).spec.xcache
    assert spec is not None
    return config.text(facility, spec).splitlines()


def test_exactly_the_one_origin_is_permitted_and_read_only() -> None:
    found = lines("10Gi")
    assert [line for line in found if line.startswith("pss.permit")] == ["pss.permit xrootd.example.org"]
    assert [line for line in found if line.startswith("all.export")] == ["all.export /root:/ r/o"]
    assert "pss.origin =" in found
    assert "pss.permit host" in lines("1Gi", "host")


@pytest.mark.parametrize(("size", "count"), [("100Mi", 104_857_600), ("1500M", 1_500_000_000), ("2T", 2 * 10**12)])
def test_the_plugin_is_told_the_origin_and_how_much_it_may_keep(size: str, count: int) -> None:
    found = lines(size, "xrootd.example.org:2094")
    assert "setenv AF_XCACHE_ORIGIN = xrootd.example.org:2094" in found
    assert f"setenv AF_XCACHE_DISK = {count}" in found
    assert [line for line in found if "libXrdAfCache.so" in line] == [
        "xrootd.fslib /opt/af/lib/libXrdAfCache.so",
        "pfc.osslib ++ /opt/af/lib/libXrdAfCache.so",
    ]


def test_the_disk_is_limited_a_bit_above_what_the_cache_keeps() -> None:
    volumes = {v["name"]: v for v in xcache.pod_patch(session(xcache=SIDECAR), profile(), world(), "worker").volumes}
    assert volumes["xcache-data"]["emptyDir"] == {"sizeLimit": "11Gi"}


def test_sidecar_is_all_patch() -> None:
    s = session(xcache=SIDECAR)
    patch = xcache.pod_patch(s, profile(), world(), "user")
    assert {"name": "XROOT_PROXY", "value": "root://localhost:1096//"} in patch.env
    [sidecar] = patch.sidecars
    assert {m["name"] for m in sidecar["volumeMounts"]} == {v["name"] for v in patch.volumes}
    assert [m.ref.kind for m in xcache.desired(s, profile(), world(), Terms()) if isinstance(m, Manifest)] == [
        "ConfigMap"
    ]


def test_session_cache_is_an_address_in_the_patch() -> None:
    s = session(xcache=SESSION)
    patch = xcache.pod_patch(s, profile(), world(), "user")
    address = "root://zmumu-xcache.physics.svc:1096//"
    assert {"name": "XROOT_PROXY", "value": address} in patch.env
    assert (patch.sidecars, patch.volumes) == ((), ())
    made = xcache.desired(s, profile(), world(), Terms())
    assert [m.ref.kind for m in made if isinstance(m, Manifest)] == ["ConfigMap", "Deployment", "Service"]


@pytest.mark.parametrize(
    ("results", "direct"),
    [
        ("root://results.example.org:1094//af", {"results.example.org"}),
        ("root://10.200.0.1:31094//results", {"10.200.0.1"}),
        # Where the origin is the same server its reads have to stay in the cache.
        ("root://xrootd.example.org:2094//results", set()),
        ("root://example.org//results", set()),
        ("s3://bucket/af", set()),
        (None, set()),
    ],
)
def test_what_is_written_to_where_results_go_passes_the_read_only_cache_by(results: str | None, direct: Any) -> None:
    facility = profile(results=results and {"url": results})
    env = xcache.pod_patch(session(xcache=SESSION), facility, world(), "worker").env
    assert {e["value"] for e in env if e["name"] == "XROOT_PROXY_EXCL_DOMAINS"} == direct


def test_the_cache_itself_does_not_read_through_the_cache() -> None:
    [sidecar] = xcache.pod_patch(session(xcache=SIDECAR), profile(), world(), "worker").sidecars
    assert {"XRD_PLUGINCONFDIR", "XROOT_PROXY"}.isdisjoint(e["name"] for e in sidecar["env"])


def test_another_origin_is_another_pod() -> None:
    def config_hash(origin: str) -> str:
        changed = profile(xcache={"image": "x", "origin": origin})
        found = xcache.desired(session(xcache=SESSION), changed, world(), Terms())[1]
        assert isinstance(found, Manifest)
        return str(found.body["spec"]["template"]["metadata"]["annotations"])

    assert config_hash("a:1094") == config_hash("a:1094") != config_hash("b:1094")


DECISION = SESSION | {"decision": {"model": "popularity", "thresholdPercent": 30}}


def test_the_cache_asks_a_model_only_where_the_session_says_so() -> None:
    asked = lines("10Gi", decision={"model": "popularity"})
    added = [line for line in asked if line not in lines("10Gi")]
    assert [line for line in added if not line.startswith("#")] == [
        "setenv AF_XCACHE_DECISION = /run/xcache/decision.sock"
    ]


def test_the_program_beside_the_cache_asks_the_sessions_own_service_with_its_token() -> None:
    _, deployment, service = xcache.desired(session(xcache=DECISION), profile(), world(), Terms())
    assert isinstance(deployment, Manifest)
    assert isinstance(service, Manifest)
    cache, program = deployment.body["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value", each.get("valueFrom")) for each in program["env"]}
    assert env["AF_INFERENCE_URL"] == "http://zmumu-inference.physics.svc:8000"
    # The cache outlives a suspension, the Secret does not: without it the pod must start all the same.
    volumes = deployment.body["spec"]["template"]["spec"]["volumes"]
    [token] = [each["secret"] for each in volumes if "secret" in each]
    assert token == {"secretName": "zmumu-inference", "optional": True}
    assert env["AF_INFERENCE_TOKEN_FILE"] == "/etc/inference-token/token"
    assert (env["AF_DECISION_MODEL"], env["AF_DECISION_THRESHOLD"]) == ("popularity", "0.3")
    # Both see the one directory with the socket, and the token is only where it is used.
    directory = env["AF_DECISION_SOCKET"].rpartition("/")[0]
    assert all(directory in {mount["mountPath"] for mount in each["volumeMounts"]} for each in (cache, program))
    mounted = {each["name"]: {mount["mountPath"] for mount in each["volumeMounts"]} for each in (cache, program)}
    assert [name for name, paths in mounted.items() if "/etc/inference-token" in paths] == ["decision"]
    # While the program starts again the pod is not ready: nobody is to lose the cache for that.
    assert service.body["spec"]["publishNotReadyAddresses"] is True
    assert {port["name"]: port["port"] for port in service.body["spec"]["ports"]} == {"xrootd": 1096, "metrics": 8791}


def test_a_cache_that_asks_nobody_is_as_it_was() -> None:
    _, deployment, service = xcache.desired(session(xcache=SESSION), profile(), world(), Terms())
    assert isinstance(deployment, Manifest)
    assert isinstance(service, Manifest)
    assert [each["name"] for each in deployment.body["spec"]["template"]["spec"]["containers"]] == ["xcache"]
    assert service.body["spec"].keys() == {"type", "selector", "ports"}


def test_a_cache_of_an_earlier_version_stays_as_it_was_begun_for_its_image_may_lack_the_plugin() -> None:
    s = session(xcache=SESSION)
    configuration, deployment, service = xcache.desired(s, profile(), world(), Terms())
    assert isinstance(configuration, Manifest)
    assert isinstance(deployment, Manifest)
    now = [live_from(configuration), live_from(deployment)]
    then = copy.deepcopy(now)
    then[0]["data"]["xcache.cfg"] = now[0]["data"]["xcache.cfg"].replace("libXrdAfCache", "")
    kept = xcache.desired(s, profile(), world(*then), Terms())
    assert kept == [Keep(configuration.ref), Keep(deployment.ref), service]
    assert not any(isinstance(item, Keep) for item in xcache.desired(s, profile(), world(*now), Terms()))


def live_from(manifest: Manifest) -> dict[str, Any]:
    return copy.deepcopy({**manifest.body})


def test_a_cache_is_asked_as_clients_ask_and_only_that_of_the_session_is_taken_off_its_address() -> None:
    _, deployment, _ = xcache.desired(session(xcache=SESSION), profile(), world(), Terms())
    assert isinstance(deployment, Manifest)
    [sidecar] = xcache.pod_patch(session(xcache=SIDECAR), profile(), world(), "worker").sidecars
    [own] = deployment.body["spec"]["template"]["spec"]["containers"]
    probe = own["readinessProbe"]["exec"]["command"]
    assert probe[:2] == ["xrdfs", "localhost:1096"]
    assert own["livenessProbe"]["exec"]["command"] == sidecar["livenessProbe"]["exec"]["command"] == probe
    assert "readinessProbe" not in sidecar


@pytest.mark.parametrize(("limit", "request_"), [("200Mi", "200Mi"), ("1536Mi", "256Mi")])
def test_a_cache_asks_for_no_more_memory_than_it_may_have(limit: str, request_: str) -> None:
    facility = profile(xcache={"image": "x", "origin": "o", "memory": limit})
    [sidecar] = xcache.pod_patch(session(xcache=SIDECAR), facility, world(), "worker").sidecars
    assert (sidecar["resources"]["requests"]["memory"], sidecar["resources"]["limits"]["memory"]) == (request_, limit)


def test_readers_wait_for_a_cache_that_is_started_again_and_not_much_longer() -> None:
    patch = xcache.pod_patch(session(xcache=SESSION), profile(), world(), "user")
    env = {each["name"]: each["value"] for each in patch.env}
    patience = int(env["XRD_CONNECTIONWINDOW"]) * int(env["XRD_CONNECTIONRETRY"])
    _, deployment, _ = xcache.desired(session(xcache=SESSION), profile(), world(), Terms())
    assert isinstance(deployment, Manifest)
    probe = deployment.body["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]
    hung = probe["periodSeconds"] * probe["failureThreshold"] + probe["terminationGracePeriodSeconds"]
    assert hung < patience <= 60


PULL = container("xcache", waiting={"reason": "ErrImagePull", "message": "no such image"})
SILENT = pod("c", of_component("xcache"), container("xcache", running={"startedAt": "2026-11-20T10:00:00Z"}))
SILENT["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-20T11:00:00Z"
KILLED = container("xcache", terminated={"exitCode": 137, "reason": "OOMKilled"})
REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}


@pytest.mark.parametrize(
    ("children", "ready", "reason"),
    [
        ([], False, "Starting"),
        ([pod("c", of_component("xcache"), ready=True)], True, "Ready"),
        ([pod("c", of_component("xcache"), PULL)], False, "ImagePullBackOff"),
        (
            [live("apps/v1", "Deployment", "c", of_component("xcache"), status={"conditions": [REFUSED]})],
            False,
            "QuotaExceeded",
        ),
        ([SILENT], False, "CacheSilent"),
        ([pod("c", of_component("xcache"), KILLED)], False, "OOMKilled"),
        (
            [live("apps/v1", "Deployment", "w", of_component("dask"), status={"conditions": [REFUSED]})],
            False,
            "Starting",
        ),
    ],
)
def test_health_of_the_session_cache(children: list[Any], ready: bool, reason: str) -> None:
    found = xcache.health(session(xcache=SESSION), world(*children))
    assert (found.ready, found.reason) == (ready, reason)
    assert dict(found.endpoints) == ({"xcache": "zmumu-xcache.physics.svc:1096"} if ready else {})


@pytest.mark.parametrize("placement", ["Session", "Sidecar"])
def test_a_cache_without_memory_names_the_field_that_has_more(placement: str) -> None:
    found = xcache.health(session(xcache={"placement": placement}), world(pod("c", of_component("xcache"), KILLED)))
    assert (found.reason, "profile's xcache.memory" in found.message) == ("OOMKilled", True)


@pytest.mark.parametrize(
    ("children", "ready", "reason"),
    [
        ([], True, "InPods"),
        ([pod("w", of_component("dask", "cpu"), container("xcache", running={}))], True, "InPods"),
        ([pod("w", of_component("dask", "cpu"), container("worker", terminated={"exitCode": 1}))], True, "InPods"),
        ([pod("w", of_component("dask", "cpu"), PULL)], False, "ImagePullBackOff"),
        ([pod("r", of_component("run"), initContainerStatuses=[PULL])], False, "ImagePullBackOff"),
    ],
)
def test_health_of_sidecars_is_their_own_trouble_only(children: list[Any], ready: bool, reason: str) -> None:
    found = xcache.health(session(xcache=SIDECAR), world(*children))
    assert (found.ready, found.reason) == (ready, reason)
