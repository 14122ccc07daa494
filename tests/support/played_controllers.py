"""What Kubernetes' controllers and a kubelet make of the objects on a bench, where there are none of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tests.support.bench import Bench
from tests.support.fake_cluster import key_of

UP: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


async def come_up(bench: Bench, rounds: int = 10) -> None:
    """Let passes and controllers have their turns until neither has anything to do."""
    for _ in range(rounds):
        await bench.settle()
        if not play(bench):
            return
    raise AssertionError(f"still changing after {rounds} rounds: {bench.cluster.writes[-5:]}")


def play(bench: Bench) -> bool:
    """Make the pods of Deployments and Jobs, run every pod, collect those without an owner; return if that was news."""
    for body in [*_pods_to_make(bench), *_pods_to_run(bench)]:
        bench.cluster._put("MODIFIED" if key_of(body) in bench.cluster.objects else "ADDED", body)
    for pod in list(_orphans(bench)):
        lose(bench, pod)
    return bench.deliver() > 0


def lose(bench: Bench, body: dict[str, Any]) -> None:
    """Delete an object as somebody else would."""
    bench.cluster.events.append(("DELETED", bench.cluster.objects.pop(key_of(body))))


def say(bench: Bench, pod: dict[str, Any], **status: Any) -> None:
    """Have the kubelet say something of a pod."""
    bench.cluster._put("MODIFIED", {**copy.deepcopy(pod), "status": status})
    bench.deliver()


def of_kind(bench: Bench, *kinds: str) -> list[dict[str, Any]]:
    """Return the objects of these kinds, by name."""
    return [body for (kind, _), body in sorted(bench.made.items()) if kind in kinds]


def _pods_to_make(bench: Bench) -> Iterator[dict[str, Any]]:
    for owner in of_kind(bench, "Deployment", "Job"):
        pod = _pod_of(owner)
        wanted = owner["spec"].get("replicas", 1) and not owner["spec"].get("suspend")
        if wanted and key_of(pod) not in bench.cluster.objects:
            yield pod


def _pod_of(owner: dict[str, Any]) -> dict[str, Any]:
    template = copy.deepcopy(owner["spec"]["template"])
    reference = {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    metadata = {
        "name": f"{owner['metadata']['name']}-0",
        "namespace": owner["metadata"]["namespace"],
        "labels": template["metadata"]["labels"],
        "ownerReferences": [{**reference, "controller": True}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _pods_to_run(bench: Bench) -> Iterator[dict[str, Any]]:
    for pod in of_kind(bench, "Pod"):
        if "status" not in pod:
            running = {"running": {"startedAt": bench.now.strftime("%Y-%m-%dT%H:%M:%SZ")}}
            names = [container["name"] for container in pod["spec"]["containers"]]
            containers = [{"name": name, "ready": True, "restartCount": 0, "state": running} for name in names]
            yield {**copy.deepcopy(pod), "status": {**UP, "containerStatuses": containers}}


def _orphans(bench: Bench) -> Iterator[dict[str, Any]]:
    there = {body["metadata"]["uid"] for body in bench.cluster.objects.values()}
    stopped = {job["metadata"]["uid"] for job in of_kind(bench, "Job") if job["spec"].get("suspend")}
    for pod in of_kind(bench, "Pod"):
        owners = {owner["uid"] for owner in pod["metadata"].get("ownerReferences", ()) if owner.get("controller")}
        if owners and (not owners & there or owners & stopped):
            yield pod
