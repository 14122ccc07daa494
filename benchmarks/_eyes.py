"""Looks at one Dask cluster from outside: what its scheduler knows, and what the API server has."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributed import Client, Security
from distributed.versions import VersionMismatchWarning
from kubernetes import client as kube
from kubernetes import config

from benchmarks import _inside
from benchmarks._ways import Names
from local_cluster.settings import KUBECONFIG
from tests.support.tenant import ENVIRONMENT, kubectl

HOLD = 10.0
"""Seconds for which it must stay right; what is written late is written within them."""
PACE = 0.25
# Of compression that is only in the image, and of a patch level of Python: neither matters to what is sent.
warnings.simplefilter("ignore", VersionMismatchWarning)


@dataclass(frozen=True)
class Settled:
    """Seconds until it was right and stayed so; None where it was not within the limit."""

    scheduler: float | None
    cluster: float | None


class Eyes:
    """One Dask cluster in one namespace; `client` is connected to its scheduler."""

    def __init__(self, client: Client, namespace: str, names: Names) -> None:
        self.client = client
        api = config.new_client_from_config(str(KUBECONFIG))
        self._namespace, self.names = namespace, names
        self._core, self._apps = kube.CoreV1Api(api), kube.AppsV1Api(api)

    def in_scheduler(self) -> Counter[str]:
        """Count the workers of each pool that the scheduler knows."""
        return self._by_pool(self.client.run_on_scheduler(_inside.workers))

    def settle(self, wanted: Mapping[str, int], begin: float, limit: float) -> Settled:
        """Wait until each pool has so many workers, no more and no less, and has had them for `HOLD` seconds.

        `begin` is Unix time: that of the scheduler, whose pod has the same clock on a cluster of one machine.
        """
        right: dict[str, float | None] = {"scheduler": None, "cluster": None}
        goal = Counter(wanted)
        while (now := time.time()) < begin + limit:
            seen = {"scheduler": self.in_scheduler() == goal, "cluster": self._cluster_has(goal)}
            right = {what: (right[what] or now) if good else None for what, good in seen.items()}
            since = [moment for moment in right.values() if moment is not None]
            if len(since) == len(right) and now - max(since) >= HOLD:
                break
            time.sleep(PACE)
        if right["scheduler"] is not None:
            # Since it is right and stays so, the last that came or went made it so: to the millisecond.
            right["scheduler"] = self.client.run_on_scheduler(_inside.last_change, since=begin) or begin
        return Settled(**{what: moment and round(moment - begin, 2) for what, moment in right.items()})

    def _cluster_has(self, goal: Counter[str]) -> bool:
        """Return whether there are so many pods, all of them ready and none on its way out; and as many Deployments."""
        pods = self._core.list_namespaced_pod(self._namespace, label_selector=self.names.workers).items
        if self._by_pool(pod.metadata.name for pod in pods if _is_ready(pod)) != goal or len(pods) != goal.total():
            return False
        if not self.names.deployments:
            return True
        found = self._apps.list_namespaced_deployment(self._namespace, label_selector=self.names.workers).items
        return self._by_pool(deployment.metadata.name for deployment in found) == goal

    def _by_pool(self, workers: Iterable[str]) -> Counter[str]:
        return Counter(map(self.names.pool_of, workers))


def _is_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())


def _credentials(namespace: str, secret: str) -> tuple[str, Security | None]:
    """Return how a scheduler is spoken to: by its session's certificates, where it is one of a session."""
    found = kubectl("--namespace", namespace, "get", "secret", secret, "--ignore-not-found", "--output=json")
    if not found:
        return "tcp", None
    data = {key: base64.b64decode(value).decode() for key, value in json.loads(found)["data"].items()}
    files = {"tls_ca_file": "ca.crt", "tls_client_cert": "tls.crt", "tls_client_key": "tls.key"}
    return "tls", Security(require_encryption=True, **{field: data[key] for field, key in files.items()})


@contextmanager
def opened(namespace: str, names: Names) -> Iterator[Eyes]:
    """Connect to a cluster's scheduler through the API server, which works on any cluster."""
    argv = ["kubectl", "--namespace", namespace, "port-forward", f"service/{names.cluster}-scheduler", ":8786"]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            port = re.search(r"127\.0\.0\.1:(\d+)", line)
            if port is None:
                raise RuntimeError(f"kubectl {' '.join(argv[3:])} does not say where it listens: {line!r}")
            scheme, security = _credentials(namespace, f"{names.cluster}-scheduler")
            with Client(f"{scheme}://127.0.0.1:{port[1]}", timeout=30, security=security) as client:
                client.register_plugin(_inside.Record())
                yield Eyes(client, namespace, names)
        finally:
            forward.terminate()
