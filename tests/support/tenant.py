"""A tenant's namespace on the real cluster: sessions go in, waits are on events, failures explain themselves."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes import client, config, dynamic, watch

from local_cluster import facility as demo
from local_cluster.settings import KUBECONFIG

Body = dict[str, Any]
T = TypeVar("T")
API = "analysisfacility.io/v1alpha1"
SESSION_UID = "analysisfacility.io/session-uid"
ENVIRONMENT = demo.environment()

HEADLESS: Body = {
    "profile": "default",
    "user": "admin",
    "mode": "Headless",
    "run": {"command": ["python", "-c", "print('done')"]},
}
DASK: Body = {"pools": [{"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 1}}]}


def kubectl(*args: str, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl as the administrator and return what it prints (with `check=False` also what it complains)."""
    done = subprocess.run(
        ["kubectl", *args], input=stdin, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr}")
    return done.stdout if check else done.stdout + done.stderr


def poll(check: Callable[[], T], what: str, seconds: float = 60) -> T:
    """Return the first true value of `check`; for what cannot be watched."""
    begin = time.monotonic()
    while (spent := time.monotonic() - begin) < seconds:
        found = check()
        if found:
            return found
        # Ever more seldom: kubectl takes a core for a tenth of a second, from what is waited for.
        time.sleep(min(1.0, 0.2 + spent / 20))
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Tenant:
    """One namespace with PSA `restricted`."""

    namespace: str
    api: client.ApiClient
    facility: demo.Facility

    @classmethod
    def create(cls, facility: demo.Facility) -> Tenant:
        """Make a namespace with a name of its own."""
        api = config.new_client_from_config(str(KUBECONFIG))
        name = f"e2e-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name, "labels": labels}})
        return cls(name, api, facility)

    def delete(self) -> None:
        """Delete the namespace; its end is not waited for (a test of its own does that)."""
        kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")

    def kubectl(self, *args: str, **more: Any) -> str:
        """Run kubectl in this namespace as the administrator."""
        return kubectl("--namespace", self.namespace, *args, **more)

    def apply(self, name: str, spec: Mapping[str, Any]) -> Body:
        """Create a session."""
        body = {"apiVersion": API, "kind": "AnalysisSession", "metadata": {"name": name}, "spec": dict(spec)}
        return self._sessions().create(copy.deepcopy(body), namespace=self.namespace).to_dict()

    def patch(self, name: str, **spec: Any) -> Body:
        """Edit a session's spec."""
        patch = {"spec": spec}
        kind = "application/merge-patch+json"
        return self._sessions().patch(patch, name=name, namespace=self.namespace, content_type=kind).to_dict()

    def session(self, name: str) -> Body:
        """Return a session."""
        return self._sessions().get(name=name, namespace=self.namespace).to_dict()

    def wait(self, name: str, until: Callable[[Body], bool], seconds: float = 120, what: str = "") -> Body:
        """Return the session as soon as `until` is true of it; waits on watch events."""
        last: Body = {}
        for last in self._changes(name, seconds):
            if until(last):
                return last
        said = yaml.safe_dump(last.get("status", "no status"), sort_keys=False)
        raise AssertionError(f"session {name}: not {what or until} within {seconds} s:\n{said}")

    def wait_condition(self, name: str, kind: str, status: str = "True", seconds: float = 120, **of: str) -> Body:
        """Wait for a condition, e.g. ``wait_condition("s", "Ready", reason="Ready")``; return it."""

        def there(body: Body) -> bool:
            found = condition(body, kind)
            return found.get("status") == status and of.items() <= found.items()

        return condition(self.wait(name, there, seconds, f"{kind}={status} {of or ''}"), kind)

    def children(self, uid: str) -> dict[tuple[str, str], Body]:
        """Return everything that carries a session's uid, over all namespaced kinds, by (kind, name)."""
        kinds = kubectl("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
        kinds = [k for k in kinds if k not in ("events", "events.events.k8s.io")]
        found = json.loads(self.kubectl("get", ",".join(kinds), "-l", f"{SESSION_UID}={uid}", "-o", "json"))
        return {(b["kind"], b["metadata"]["name"]): b for b in found["items"]}

    def _sessions(self) -> Any:
        return dynamic.DynamicClient(self.api).resources.get(api_version=API, kind="AnalysisSession")

    def _changes(self, name: str, seconds: float) -> Iterator[Body]:
        custom, end = client.CustomObjectsApi(self.api), time.monotonic() + seconds
        where = ("analysisfacility.io", "v1alpha1", self.namespace, "analysissessions")
        while (left := end - time.monotonic()) > 0:
            stream = watch.Watch().stream(
                custom.list_namespaced_custom_object,
                *where,
                field_selector=f"metadata.name={name}",
                timeout_seconds=max(1, int(left)),
            )
            yield from (event["object"] for event in stream)


def condition(session: Body, kind: str) -> Body:
    """Return one condition of a session, or an empty mapping."""
    return next((c for c in session.get("status", {}).get("conditions", ()) if c["type"] == kind), {})


def dump(tenant: Tenant) -> str:
    """Return what there is in a namespace, and the operators' last words."""
    kinds = "analysissessions,jobs,daskclusters,daskworkergroups,deployments,pods"
    commands = (
        ("-n", tenant.namespace, "get", kinds, "-o", "wide"),
        ("-n", tenant.namespace, "get", "analysissessions", "-o", "yaml"),
        ("-n", tenant.namespace, "get", "events", "--sort-by=.lastTimestamp"),
        ("-n", demo.SYSTEM_NAMESPACE, "logs", "deployment/af-operator", "--tail=60"),
        ("-n", demo.SYSTEM_NAMESPACE, "logs", "deployment/dask-operator", "--tail=30"),
    )
    return "\n".join(f"--- kubectl {' '.join(args)}\n{kubectl(*args, check=False)}" for args in commands)


def audit_log() -> Path:
    """Return the API server's audit log."""
    done = subprocess.run(
        [sys.executable, "-m", "local_cluster", "audit-log"],
        cwd=demo.CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())
