"""Looks at one Dask cluster from outside: what its scheduler knows, and what the API server has."""

from __future__ import annotations

import re
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributed import Client
from distributed.versions import VersionMismatchWarning
from kubernetes import client as kube
from kubernetes import config

from benchmarks import _inside
from local_cluster.settings import KUBECONFIG
from tests.support.tenant import ENVIRONMENT

GROUP = "dask.org/workergroup-name"
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

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        api = config.new_client_from_config(str(KUBECONFIG))
        self._namespace, self._core, self._apps = namespace, kube.CoreV1Api(api), kube.AppsV1Api(api)

    def in_scheduler(self) -> Counter[str]:
        """Count the workers of each group that the scheduler knows."""
        names = self.client.run_on_scheduler(_inside.workers)
        return Counter(name.rpartition("-worker-")[0] for name in names)

    def deployments(self) -> list[str]:
        """Return the names of the workers' Deployments."""
        found = self._apps.list_namespaced_deployment(self._namespace, label_selector=GROUP).items
        return [d.metadata.name for d in found]

    def settle(self, wanted: Mapping[str, int], begin: float, limit: float) -> Settled:
        """Wait until each group has so many workers, no more and no less, and has had them for `HOLD` seconds."""
        right: dict[str, float | None] = {"scheduler": None, "cluster": None}
        goal = Counter(wanted)
        while (now := time.monotonic()) < begin + limit:
            seen = {"scheduler": self.in_scheduler() == goal, "cluster": self._cluster_has(goal)}
            right = {what: (right[what] or now) if good else None for what, good in seen.items()}
            since = [moment for moment in right.values() if moment is not None]
            if len(since) == len(right) and now - max(since) >= HOLD:
                break
            time.sleep(PACE)
        return Settled(**{what: moment and round(moment - begin, 1) for what, moment in right.items()})

    def _cluster_has(self, goal: Counter[str]) -> bool:
        """Return whether there are so many Deployments, and as many pods, all of them ready and none on its way out."""
        pods = self._core.list_namespaced_pod(self._namespace, label_selector=GROUP).items
        ready = Counter(pod.metadata.labels[GROUP] for pod in pods if _is_ready(pod))
        if ready != goal or len(pods) != goal.total():
            return False
        return Counter(name.rpartition("-worker-")[0] for name in self.deployments()) == goal


def _is_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())


@contextmanager
def opened(namespace: str, cluster: str) -> Iterator[Eyes]:
    """Connect to a cluster's scheduler through the API server, which works on any cluster."""
    argv = ["kubectl", "--namespace", namespace, "port-forward", f"service/{cluster}-scheduler", ":8786"]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            port = re.search(r"127\.0\.0\.1:(\d+)", line)
            if port is None:
                raise RuntimeError(
                    f"kubectl port-forward to {cluster}-scheduler does not say where it listens: {line!r}"
                )
            with Client(f"tcp://127.0.0.1:{port[1]}", timeout=30) as client:
                client.register_plugin(_inside.Record())
                yield Eyes(client, namespace)
        finally:
            forward.terminate()
