"""The operator's pods: which one leads, how to kill it, and what its metrics say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any

from local_cluster.facility import SYSTEM_NAMESPACE
from tests.support import signals
from tests.support.local_operator import samples
from tests.support.tenant import ENVIRONMENT, Body, kubectl, poll

NAME = "af-operator"
SELECTOR = "app.kubernetes.io/name=af-operator"


def system(*args: str, **more: Any) -> str:
    """Run kubectl in the operators' namespace."""
    return kubectl("--namespace", SYSTEM_NAMESPACE, *args, **more)


def leader() -> str:
    """Return the name of the pod that holds the Lease, or an empty string."""
    lease = json.loads(system("get", "lease", NAME, "-o", "json"))
    return str(lease["spec"].get("holderIdentity") or "")


def pods() -> dict[str, Body]:
    """Return the operator's pods that nobody has asked to go, by name."""
    found = json.loads(system("get", "pods", "-l", SELECTOR, "-o", "json"))["items"]
    return {p["metadata"]["name"]: p for p in found if "deletionTimestamp" not in p["metadata"]}


def setting(name: str) -> str:
    """Return one of the operator's settings, as its Deployment says it."""
    pod = json.loads(system("get", f"deployment/{NAME}", "-o", "json"))["spec"]["template"]["spec"]
    return str(next(v["value"] for v in pod["containers"][0]["env"] if v["name"] == f"AF_OPERATOR_{name}"))


def restarts(pod: str) -> int:
    """Return how often the operator's container in this pod was started again."""
    return int(pods()[pod]["status"]["containerStatuses"][0]["restartCount"])


def ready() -> list[str]:
    """Return the names of the pods that are ready."""
    return [n for n, p in pods().items() if p["status"].get("containerStatuses", [{}])[0].get("ready")]


def scale(replicas: int) -> None:
    """Set the number of replicas, and wait until that many are ready and none is left over."""
    system("scale", f"deployment/{NAME}", f"--replicas={replicas}")
    poll(lambda: len(ready()) == replicas == len(pods()), f"{replicas} ready operators", 90)
    if not replicas:  # one that is asked to go still works until it has heard of that
        poll(lambda: not system("get", "pods", "-l", SELECTOR, "-o", "name"), "no operator", 90)


def replace() -> str:
    """Delete the leading pod; return the name of the next, once it leads."""
    old = leader()
    system("delete", "pod", old, "--wait=false")
    return str(poll(lambda: (now := leader()) != old and now in ready() and now, "another leader", 90))


def metrics(pod: str) -> dict[str, float]:
    """Return the samples that a pod exports, by name with labels."""
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{pod}:8080/proxy/metrics")
    return samples(text)


@contextmanager
def armed(pod: str, which: Signals) -> Iterator[Any]:
    """Give a function that sends a signal to the operator's process at once: all that is slow is done before."""
    argv = ["kubectl", "-n", SYSTEM_NAMESPACE, "exec", "-i", pod, "--", *signals.argv("af_operator", which, "armed")]
    process = subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout

    def fire() -> None:
        assert process.stdin
        process.stdin.write("now\n")
        process.stdin.flush()

    try:
        said = process.stdout.readline()
        assert said == "armed\n", f"kubectl exec in {pod}: {said!r}"
        yield fire
        process.wait(30)
    finally:
        process.kill()
        process.communicate()
