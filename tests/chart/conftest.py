"""Renders the chart with helm, as an installation would."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import chart
from tests.support.chart import Objects, Values

CHECKOUT = Path(__file__).parents[2]
NAMESPACE = "af-system"

Render = Callable[[Values], Objects]

DEFAULT: Values = {"image": {"operator": chart.IMAGE}, "watchNamespaces": ["*"]}
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
        "enabled": True,
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
        "existingSecret": "of-the-facility",
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
def template() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``helm template`` with these values; what it says and how it ends is for the caller."""
    return lambda values, *arguments: chart.template(values, NAMESPACE, *arguments)


@pytest.fixture(scope="session")
def render() -> Render:
    """Return the objects that the chart makes of these values."""
    return lambda values: chart.rendered(values, NAMESPACE)


@pytest.fixture(scope="session")
def default(render: Render) -> Objects:
    return render(DEFAULT)


@pytest.fixture(scope="session")
def everything(render: Render) -> Objects:
    return render(EVERYTHING)


@pytest.fixture(scope="session")
def with_dask(render: Render) -> Objects:
    """The Dask operator, too, with what is said of it left out."""
    return render({**DEFAULT, "daskOperator": {"enabled": True}})
