"""XCache: what is permitted, where the cache is, and what is said of it."""

from __future__ import annotations

import base64
import copy
import re
from typing import Any

import pytest

from af_operator.components import xcache
from af_operator.components._shared import pod_spec
from af_operator.components._shared.pod_spec import Place
from af_operator.components.xcache import config
from af_operator.errors import InvalidSession
from af_operator.model import Keep, Manifest, Session
from af_operator.observed import Terms
from tests.support.objects import container, live, of_component, ours, pod, profile, session, world

SIDECAR = {"placement": "Sidecar", "size": "10Gi"}
SESSION = {"placement": "Session", "size": "10Gi"}


def made(asked: Session, *children: Any, nonce: str = "1" * 64) -> dict[str, Any]:
    """Return what is made for a session, by kind: one of each."""
    found = xcache.desired(asked, profile(), world(*children, nonce=nonce), Terms())
    return {item.ref.kind: item.body for item in found if isinstance(item, Manifest)}


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
    assert made(s).keys() == {"Secret", "ConfigMap"}


def test_session_cache_is_an_address_in_the_patch() -> None:
    s = session(xcache=SESSION)
    patch = xcache.pod_patch(s, profile(), world(), "user")
    address = "root://zmumu-xcache.physics.svc:1096//"
    assert {"name": "XROOT_PROXY", "value": address} in patch.env
    assert (patch.sidecars, [volume["name"] for volume in patch.volumes]) == ((), ["xcache-key"])
    assert made(s).keys() == {"Secret", "ConfigMap", "Deployment", "Service"}


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
        [found] = [
            item.body
            for item in xcache.desired(session(xcache=SESSION), changed, world(), Terms())
            if isinstance(item, Manifest) and item.ref.kind == "Deployment"
        ]
        return str(found["spec"]["template"]["metadata"]["annotations"])

    assert config_hash("a:1094") == config_hash("a:1094") != config_hash("b:1094")


DECISION = SESSION | {"decision": {"model": "popularity", "thresholdPercent": 30}}


def test_the_cache_asks_a_model_only_where_the_session_says_so() -> None:
    asked = lines("10Gi", decision={"model": "popularity"})
    added = [line for line in asked if line not in lines("10Gi")]
    assert [line for line in added if not line.startswith("#")] == [
        "setenv AF_XCACHE_DECISION = /run/xcache/decision.sock"
    ]


def test_the_program_beside_the_cache_asks_the_sessions_own_service_with_its_token() -> None:
    found = made(session(xcache=DECISION))
    pod_of_cache, service = found["Deployment"]["spec"]["template"]["spec"], found["Service"]["spec"]
    cache, program = pod_of_cache["containers"]
    env = {each["name"]: each.get("value", each.get("valueFrom")) for each in program["env"]}
    assert env["AF_INFERENCE_URL"] == "http://zmumu-inference.physics.svc:8000"
    # The cache outlives a suspension, the Secret does not: without it the pod must start all the same.
    [token] = [each["secret"] for each in pod_of_cache["volumes"] if each["name"] == "inference-token"]
    assert token == {"secretName": "zmumu-inference", "optional": True}
    assert env["AF_INFERENCE_TOKEN_FILE"] == "/etc/inference-token/token"
    assert (env["AF_DECISION_MODEL"], env["AF_DECISION_THRESHOLD"]) == ("popularity", "0.3")
    # Both see the one directory with the socket, and the token is only where it is used.
    directory = env["AF_DECISION_SOCKET"].rpartition("/")[0]
    assert all(directory in {mount["mountPath"] for mount in each["volumeMounts"]} for each in (cache, program))
    mounted = {each["name"]: {mount["mountPath"] for mount in each["volumeMounts"]} for each in (cache, program)}
    assert [name for name, paths in mounted.items() if "/etc/inference-token" in paths] == ["decision"]
    # While the program starts again the pod is not ready: nobody is to lose the cache for that.
    assert service["publishNotReadyAddresses"] is True
    assert {port["name"]: port["port"] for port in service["ports"]} == {"xrootd": 1096, "metrics": 8791}


def test_a_cache_that_asks_nobody_is_as_it_was() -> None:
    found = made(session(xcache=SESSION))
    assert [each["name"] for each in found["Deployment"]["spec"]["template"]["spec"]["containers"]] == ["xcache"]
    assert found["Service"]["spec"].keys() == {"type", "selector", "ports"}


def test_a_cache_asks_everybody_for_the_sessions_key_and_its_page_for_the_sessions_token() -> None:
    found = made(session(xcache=DECISION))
    [protocol] = [line for line in lines("10Gi") if line.startswith("sec.protocol ")]
    assert "sec.protbind * only sss" in lines("10Gi")
    pod_of_cache = found["Deployment"]["spec"]["template"]["spec"]
    cache, program = pod_of_cache["containers"]
    variables = {each["name"]: each["value"] for each in cache["env"] + program["env"]}
    assert f" -s {variables['XrdSecSSSKT']} " in protocol
    for path in (variables["XrdSecSSSKT"], variables["AF_DECISION_TOKEN_FILE"]):
        directory, _, key = path.rpartition("/")
        assert key in found["Secret"]["data"]
        for each in (cache, program):
            [mount] = [m for m in each["volumeMounts"] if m["mountPath"] == directory]
            [volume] = [v for v in pod_of_cache["volumes"] if v["name"] == mount["name"]]
            assert volume["secret"]["secretName"] == found["Secret"]["metadata"]["name"] == "zmumu-xcache"
    health = {each["livenessProbe"].get("httpGet", {}).get("path") for each in (cache, program)}
    assert health == {None, "/health"}, "a kubelet has no token; in the cache's container xrdfs has the key"


@pytest.mark.parametrize("asked", [SESSION, SIDECAR])
@pytest.mark.parametrize("audience", ["user", "worker"])
def test_whoever_reads_has_the_key_as_a_file_that_nobody_else_in_its_pod_may_read(asked: Any, audience: Any) -> None:
    patch = xcache.pod_patch(session(xcache=asked), profile(), world(), audience)
    [volume] = [each for each in patch.volumes if "secret" in each]
    assert volume["secret"] == {"secretName": "zmumu-xcache", "defaultMode": 0o440}
    [variable] = [each["value"] for each in patch.env if each["name"] == "XrdSecSSSKT"]
    # XRootD takes a key that a group may read only from a file of such a name.
    assert variable == f"{patch.mounts[0]['mountPath']}/keytab.grp"
    assert pod_spec.pod([], patch.volumes, Place())["securityContext"]["fsGroup"] == 1000
    assert "fsGroup" not in pod_spec.pod([], [{"name": "x", "secret": {"secretName": "x"}}], Place())["securityContext"]


def test_the_key_is_made_once_and_is_another_for_each_session() -> None:
    first = made(session(xcache=SESSION))["Secret"]
    data = {name: base64.b64decode(value).decode() for name, value in first["data"].items()}
    [key] = re.findall(r"^0 u:\S+ g:\S+ n:\S+ N:1 c:1 e:0 f:0 k:([0-9a-f]{64})\n$", data["keytab.grp"])
    assert len({key, data["token"]}) == 2
    again = made(session(xcache=SESSION), ours(owned(first)), nonce="2" * 64)["Secret"]
    assert again["data"] == first["data"]
    other = made(session(xcache=SESSION), nonce="2" * 64)["Secret"]
    assert set(other["data"].values()).isdisjoint(first["data"].values())


def test_a_key_that_somebody_else_has_laid_there_is_not_taken() -> None:
    first = made(session(xcache=SESSION))["Secret"]
    found = made(session(xcache=SESSION), owned(first), nonce="2" * 64)["Secret"]
    assert set(found["data"].values()).isdisjoint(first["data"].values())


@pytest.mark.parametrize("asked", [SESSION, SIDECAR])
def test_a_cache_that_an_earlier_version_has_begun_stays_open_for_its_readers_have_no_key(asked: Any) -> None:
    found = made(session(xcache=asked))
    then = copy.deepcopy(found["ConfigMap"])
    then["data"]["xcache.cfg"] = then["data"]["xcache.cfg"].replace("sec.protbind * only sss\n", "")
    begun = [then, *([found["Deployment"]] if "Deployment" in found else [])]
    kept = xcache.desired(session(xcache=asked), profile(), world(*begun), Terms())
    assert [item.ref.kind for item in kept if isinstance(item, Keep)] == [body["kind"] for body in begun]
    assert {item.ref.kind for item in kept if isinstance(item, Manifest)} <= {"Service"}
    patch = xcache.pod_patch(session(xcache=asked), profile(), world(*begun), "worker")
    assert not [each for each in patch.env if each["name"] == "XrdSecSSSKT"]
    assert not [each for each in patch.volumes if "secret" in each]
    assert not [mount for each in patch.sidecars for mount in each["volumeMounts"] if mount["name"] == "xcache-key"]
    now = xcache.desired(session(xcache=asked), profile(), world(*found.values()), Terms())
    assert not any(isinstance(item, Keep) for item in now)


def owned(body: Any) -> dict[str, Any]:
    """Return a manifest as the API server has it, of an owner that is not said."""
    return live(body["apiVersion"], body["kind"], body["metadata"]["name"], of_component("xcache")) | {
        "data": body["data"]
    }


def test_a_cache_is_asked_as_clients_ask_and_only_that_of_the_session_is_taken_off_its_address() -> None:
    deployment = made(session(xcache=SESSION))["Deployment"]
    [sidecar] = xcache.pod_patch(session(xcache=SIDECAR), profile(), world(), "worker").sidecars
    [own] = deployment["spec"]["template"]["spec"]["containers"]
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
    deployment = made(session(xcache=SESSION))["Deployment"]
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]
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
