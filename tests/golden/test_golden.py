"""Every case: a session, a profile and perhaps a world in; all objects that should exist out, to the last field."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from af_operator import plan
from af_operator.api import ProfileSpec
from af_operator.components import shipped
from af_operator.model import Profile, ref_of
from af_operator.observed import Observed
from af_operator.views import ClusterNetwork, HubView
from af_operator.world import parse_session

HERE = Path(__file__).parent
VENDOR = HERE.parent.parent / "crds" / "vendor"
# It reads its definitions (1 MB) anew for every object.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
CASES = sorted(p.parent.name for p in HERE.glob("*/session.yaml"))
NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
# What the chart supports, its newest and oldest, and the version of the local cluster.
VERSIONS = ("1.31", "1.34", kubernetes_validate.latest_version())


def load(case: str, name: str, default: Any = None) -> Any:
    path = HERE / case / name
    return yaml.safe_load(path.read_text()) if path.exists() else default


def planned(case: str, engine: str | None = None) -> list[dict[str, Any]]:
    common = yaml.safe_load((HERE / "profile.yaml").read_text())
    profile = load(case, "profile.yaml", common)
    profile["spec"] |= {"dask": {"engine": engine}} if engine else {}
    session = parse_session(load(case, "session.yaml"))
    hub, network = load(case, "hub.yaml"), load(case, "network.yaml")
    observed = Observed(
        children=tuple(load(case, "observed.yaml", [])),
        shared=tuple(load(case, "shared.yaml", [])),
        hub=HubView(**hub) if hub else None,
        network=ClusterNetwork.model_validate(network) if network else None,
        read={ref_of(body): body for body in load(case, "read.yaml", [])},
        nonce="0" * 64,
    )
    found = plan.build(
        shipped(), session, Profile("default", ProfileSpec.model_validate(profile["spec"])), observed, NOW
    )
    assert found.rejected is None or session.spec.suspend
    return [shortened(json.loads(json.dumps(manifest.body))) for manifest in found.desired]


def shortened(body: dict[str, Any]) -> dict[str, Any]:
    """Leave out the code of agents, which is in files of their own, keys and certificates, and the hash of these."""
    kind, name = body["kind"], body["metadata"]["name"]
    if name.endswith(("-dask-agent", "-spark-agent")) or (kind == "Secret" and "tls.key" in body["data"]):
        body["data"] = dict.fromkeys(body["data"], "…" if kind == "ConfigMap" else "4oCm")
        body["metadata"]["annotations"] = dict.fromkeys(body["metadata"]["annotations"], "…")
    return body


@pytest.mark.parametrize("case", CASES)
def test_expected(case: str, update_golden: bool) -> None:
    found, path = planned(case), HERE / case / "expected.yaml"
    if update_golden:
        path.write_text(yaml.safe_dump_all(found, sort_keys=False, allow_unicode=True, width=120))
    assert found == list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_api_server_would_take_it(case: str, version: str) -> None:
    for body in planned(case):
        if body["apiVersion"].startswith("kubernetes.dask.org/"):
            vendor(body["kind"]).validate(body)
        else:
            kubernetes_validate.validate(body, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_the_server_would_drop(case: str) -> None:
    """The server drops empty lists and strings of its own kinds: they would be applied again in every pass."""
    for body in planned(case):
        if not body["apiVersion"].startswith("kubernetes.dask.org/"):
            assert list(empties(body)) == []


def empties(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for k, v in value.items() for found in empties(v, f"{path}.{k}")] or (
            [path] if not value and not path.endswith(".emptyDir") else []
        )
    if isinstance(value, list):
        return [found for i, v in enumerate(value) for found in empties(v, f"{path}[{i}]")] or ([] if value else [path])
    # "" is an API group, too.
    return [path] if value in (None, "") and ".data." not in path and ".apiGroups[" not in path else []


@pytest.mark.parametrize("case", CASES)
def test_pods_fit_pod_security_restricted(case: str) -> None:
    for spec in (s for body in planned(case) for s in pod_specs(body)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
        assert {next(k for k in v if k != "name") for v in spec.get("volumes", ())} <= {
            "configMap",
            "emptyDir",
            "persistentVolumeClaim",
            "secret",
        }
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def pod_specs(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for v in value for found in pod_specs(v)]
    if not isinstance(value, dict):
        return []
    return [value] if "containers" in value else [found for v in value.values() for found in pod_specs(v)]


@cache
def vendor(kind: str) -> jsonschema.Draft202012Validator:
    """Judge a foreign kind by its schema, made strict: its API server would prune what it does not know."""
    texts = (path.read_text() for path in VENDOR.glob("*.yaml") if f"kind: {kind}\n" in path.read_text())
    crd = next(body for text in texts for body in yaml.load_all(text, yaml.CSafeLoader))
    schema = copy.deepcopy(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}}
    strict(schema)
    jsonschema.Draft202012Validator.check_schema(schema)  # once: it takes a second
    return jsonschema.Draft202012Validator(schema)


def strict(schema: Any) -> None:
    if isinstance(schema, dict):
        if "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        if schema.get("x-kubernetes-int-or-string"):
            schema.pop("type", None)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)


def test_strict_schema_refuses_native_sidecars() -> None:
    """That CRD prunes the field, so a golden object with it must fail here rather than lose it on the server."""
    body = next(b for b in planned("zmumu") if b["kind"] == "DaskWorkerGroup")
    pod = body["spec"]["worker"]["spec"]
    pod["initContainers"] = [{"name": "xcache", "restartPolicy": "Always"}]
    with pytest.raises(jsonschema.ValidationError, match="restartPolicy"):
        vendor("DaskWorkerGroup").validate(body)
