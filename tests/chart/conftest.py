"""Renders the chart with helm, as an installation would."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_cluster import binaries
from local_cluster.progress import Progress

CHECKOUT = Path(__file__).parents[2]
CHART = CHECKOUT / "helm" / "af-operator"
NAMESPACE = "af-system"

Values = Mapping[str, Any]
Objects = list[dict[str, Any]]
Render = Callable[[Values], Objects]

DEFAULT: Values = {"image": {"operator": "registry.example.org/af-operator@sha256:0123"}}
EVERYTHING: Values = {
    "image": {
        **DEFAULT["image"],
        "hub": "registry.example.org/hub@sha256:4567",
        "pullPolicy": "Always",
        "pullSecrets": ["registry"],
    },
    "operator": {
        "replicas": 2,
        "workers": 20,
        "logLevel": "debug",
        "logFormat": "console",
        "priorityClassName": "facility",
        "topologySpread": True,
        "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "role", "operator": "Exists"}]}]
                }
            }
        },
        "podAnnotations": {"example.org/owner": "computing"},
        "serviceAccountAnnotations": {"example.org/role": "operator"},
    },
    "daskOperator": {
        "priorityClassName": "facility",
        "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "podAnnotations": {"example.org/owner": "computing"},
        "serviceAccountAnnotations": {"example.org/role": "dask"},
    },
    "watchNamespaces": ["physics", "detector"],
    "metrics": {"serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}}},
    "hub": {
        "enabled": True,
        "baseUrl": "/jupyter/",
        "namespaces": ["physics"],
        "config": {
            "JupyterHub": {
                "authenticator_class": "generic-oauth",
                "services": [{"name": "cull", "api_token": "secret"}],
            },
            "GenericOAuthenticator": {"client_id": "facility", "client_secret": "hush"},
        },
        "extraConfig": {"10-first": "c.Spawner.debug = True\n"},
        "secretEnv": ["oauth"],
        "storage": {"size": "5Gi", "storageClassName": "ceph"},
        "priorityClassName": "facility",
        "nodeSelector": {"role": "infra"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "podAnnotations": {"example.org/owner": "computing"},
        "serviceAccountAnnotations": {"example.org/role": "hub"},
        "proxy": {
            "service": {"type": "NodePort", "nodePort": 31080, "annotations": {"example.org/dns": "hub.example.org"}},
            "priorityClassName": "facility",
            "nodeSelector": {"role": "infra"},
            "podAnnotations": {"example.org/owner": "computing"},
        },
    },
    "admissionPolicies": {"trustedUsers": ["system:serviceaccount:velero:velero", "o'neil"]},
}


@pytest.fixture(scope="session")
def helm() -> str:
    """The helm of the local cluster, another one on PATH, or one built now."""
    linked = CHECKOUT / ".local" / "bin" / "helm"
    if linked.exists():
        return str(linked)
    return shutil.which("helm") or str(binaries.ensure(Progress(), binaries.HELM)["helm"])


@pytest.fixture(scope="session")
def template(
    helm: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Values], subprocess.CompletedProcess[str]]:
    """Run ``helm template`` with these values; what it says and how it ends is for the caller."""

    def run(values: Values, *arguments: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path_factory.mktemp("values") / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        command = [helm, "template", "af-operator", str(CHART), "--namespace", NAMESPACE, "--values", str(file)]
        # Said here, or the helm that was built from source takes itself for one of Kubernetes 1.20.
        command += ["--kube-version", "1.34.0", *arguments]
        # No cluster: what is in reach of this machine must not change what is tested.
        environment = os.environ | {"KUBECONFIG": os.devnull, "HELM_CACHE_HOME": str(file.parent)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)

    return run


@pytest.fixture(scope="session")
def render(template: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """Return the objects that the chart makes of these values."""

    def run(values: Values) -> Objects:
        done = template(values)
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]

    return run


@pytest.fixture(scope="session")
def default(render: Render) -> Objects:
    return render(DEFAULT)


@pytest.fixture(scope="session")
def everything(render: Render) -> Objects:
    return render(EVERYTHING)
