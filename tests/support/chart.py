"""The chart as helm renders it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from local_cluster import binaries
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, LOCAL

CHART = CHECKOUT / "helm" / "af-operator"
IMAGE = "registry.example.org/af-operator@sha256:0123"

Values = Mapping[str, Any]
Objects = list[dict[str, Any]]


def helm() -> str:
    """Return the helm of the local cluster, another one on PATH, or one built now."""
    linked = LOCAL / "bin" / "helm"
    if linked.exists():
        return str(linked)
    return shutil.which("helm") or str(binaries.ensure(Progress(), binaries.HELM)["helm"])


def template(values: Values, namespace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``helm template`` with these values; what it says and how it ends is for the caller."""
    with tempfile.TemporaryDirectory(prefix="af-values-") as directory:
        file = Path(directory) / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        command = [helm(), "template", "af-operator", str(CHART), "--namespace", namespace, "--values", str(file)]
        # Said here, or the helm that was built from source takes itself for one of Kubernetes 1.20.
        command += ["--kube-version", "1.34.0", *arguments]
        # No cluster: what is in reach of this machine must not change what is tested.
        environment = os.environ | {"KUBECONFIG": os.devnull, "HELM_CACHE_HOME": directory}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def rendered(values: Values, namespace: str) -> Objects:
    """Return the objects that the chart makes of these values."""
    done = template(values, namespace)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]
