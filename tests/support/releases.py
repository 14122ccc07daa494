"""The chart installed by helm into a control plane without nodes, and who runs helm's hooks there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from local_cluster.control_plane import ADMIN, ControlPlane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from tests.support.chart import CHART, helm

Body = dict[str, Any]
Done = subprocess.CompletedProcess[str]
HOOK_SECONDS = 60.0
HELM_SECONDS = 120.0


class Releases:
    """What ``helm`` does in one control plane; its files are in `directory`."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.plane = plane
        self._directory = directory

    def helm(self, *arguments: str) -> Done:
        """Run helm as the administrator; how it ends is for the caller."""
        home = {f"HELM_{what}_HOME": str(self._directory / what) for what in ("CACHE", "CONFIG", "DATA")}
        environment = os.environ | home | {"KUBECONFIG": str(self.plane.kubeconfig(ADMIN))}
        argv = [helm(), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=HELM_SECONDS)

    def install(self, name: str, namespace: str, values: Body, *arguments: str) -> Done:
        """Install or upgrade a release of the chart, without its definitions, which are there."""
        file = self._directory / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        where = (f"--namespace={namespace}", "--create-namespace", "--skip-crds", f"--values={file}")
        return self.helm("upgrade", "--install", name, str(CHART), *where, *arguments)

    def uninstall(self, name: str, namespace: str, *arguments: str) -> tuple[Done, Done | None]:
        """Uninstall a release; return how helm ended, and how the hook's program, if there was one."""
        with ThreadPoolExecutor(1) as pool:
            played = pool.submit(self._play_hook, namespace, "--no-hooks" not in arguments)
            done = self.helm("uninstall", name, f"--namespace={namespace}", "--timeout=90s", *arguments)
            return done, played.result()

    def _play_hook(self, namespace: str, expected: bool) -> Done | None:
        """Be Job controller and kubelet of the hook: run its command as its account, and say how it ended."""
        if not expected:
            return None
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/af-operator-uninstall"
        begun = time.time()
        job = self._await(lambda: _newer(self.plane.request("GET", path), begun))
        pod = job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        command = [sys.executable, *container["command"][1:], *container["args"]]
        told = {each["name"]: each.get("value", "") for each in container["env"]}
        environment = os.environ | told | {"KUBECONFIG": str(self.account(namespace, pod["serviceAccountName"]))}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=HELM_SECONDS
        )
        self.plane.request("PATCH", f"{path}/status", {"status": _ended(done.returncode == 0)})
        return done

    def account(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        config = yaml.safe_load(self.plane.kubeconfig(ADMIN).read_text())
        config["users"][0]["user"] = {"token": self.plane.request("POST", path, request)["status"]["token"]}
        file = self._directory / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return file

    @staticmethod
    def _await(look: Callable[[], Body | None]) -> Body:
        found: list[Body] = []

        def there() -> bool:
            try:
                found[:] = [one for one in [look()] if one]
            except ClusterError:
                return False
            return bool(found)

        assert poll(there, HOOK_SECONDS), "helm has not made the hook's Job"
        return found[0]


def _newer(job: Body, begun: float) -> Body | None:
    """Return a Job that was made after a time, but for the second that the API server leaves out, and has not ended."""
    made = datetime.fromisoformat(job["metadata"]["creationTimestamp"]).timestamp()
    return job if made > begun - 2 and not job.get("status", {}).get("conditions") else None


def _ended(succeeded: bool) -> Body:
    """Return the status of a Job as its controller writes it, in the order that the API server insists on."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kinds = ("SuccessCriteriaMet", "Complete") if succeeded else ("FailureTarget", "Failed")
    reason = "CompletionsReached" if succeeded else "BackoffLimitExceeded"
    conditions = [
        {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now, "lastProbeTime": now}
        for kind in kinds
    ]
    times = {"startTime": now, **({"completionTime": now} if succeeded else {})}
    return {**times, "conditions": conditions, "succeeded" if succeeded else "failed": 1}
