"""The real API server: a client for it, kubectl, and a namespace to throw away."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from af_operator import crdgen
from af_operator.api import API_VERSION
from tests.contract.schema import Server, load

ROOT = Path(__file__).parents[2]
Kubectl = Callable[..., str]


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    path = os.environ.get("KUBECONFIG") or str(ROOT / ".local/kubeconfig")
    if not Path(path).exists():
        pytest.fail(f"no cluster: {path} does not exist; run `make cluster`, or set KUBECONFIG")
    return path


@pytest.fixture(scope="session")
def api_client(kubeconfig: str) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(kubeconfig) as found:
        yield found


@pytest.fixture(scope="session")
def kubectl(kubeconfig: str) -> Kubectl:
    def run(*args: str) -> str:
        local = ROOT / ".local/bin"
        env = os.environ | {"KUBECONFIG": kubeconfig, "PATH": f"{local}:{os.environ['PATH']}"}
        done = subprocess.run(["kubectl", *args], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def namespace(api_client: client.ApiClient) -> Iterator[str]:
    """A namespace of this test run; deleted at its end, without waiting for it."""
    core = client.CoreV1Api(api_client)
    made = core.create_namespace({"metadata": {"generateName": "contract-"}})
    yield made.metadata.name
    core.delete_namespace(made.metadata.name)


@pytest.fixture(scope="session")
def server(api_client: client.ApiClient, kubectl: Kubectl, namespace: str) -> Server:
    """The API server, with the CRDs as they are in this checkout."""
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=contract-tests", "-f", str(ROOT / "crds"))
    await_published(kubectl)
    return Server(client.CustomObjectsApi(api_client), namespace)


def await_published(kubectl: Kubectl) -> None:
    """Wait until the server publishes our schemas: by then it validates with them, and kubectl can explain them."""
    expected = {kind.kind: open_api(kind) for kind in crdgen.KINDS}
    deadline = time.monotonic() + 30
    while (found := published(kubectl)) != expected:
        assert time.monotonic() < deadline, f"the server does not publish our schemas: {differing(found, expected)}"
        time.sleep(0.2)


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    parts = [(kind, part) for kind, schema in expected.items() for part in schema]
    return [f"{kind}.{part} differs" for kind, part in parts if found.get(kind, {}).get(part) != expected[kind][part]]


def published(kubectl: Kubectl) -> dict[str, Any]:
    groups = json.loads(kubectl("get", "--raw", "/openapi/v3"))["paths"]
    if (path := f"apis/{API_VERSION}") not in groups:
        return {}
    schemas = json.loads(kubectl("get", "--raw", f"/openapi/v3/{path}"))["components"]["schemas"].values()
    kinds = {s["x-kubernetes-group-version-kind"][0]["kind"]: s for s in schemas if "spec" in s.get("properties", {})}
    return {kind: {part: s["properties"].get(part) for part in ("spec", "status")} for kind, s in kinds.items()}


def open_api(kind: crdgen.CustomKind) -> dict[str, Any]:
    schema = crdgen.custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return {part: schema["properties"].get(part) for part in ("spec", "status")}


@pytest.fixture(scope="session")
def stored(server: Server) -> str:
    """The name of a session that says only what it must."""
    return server.keep(load("session-minimal.yaml"))


@pytest.fixture(scope="session")
def full(server: Server) -> str:
    """The name of a session that says everything."""
    return server.keep(load("session-everything.yaml"))
