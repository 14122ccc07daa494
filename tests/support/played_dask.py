"""What dask-kubernetes and a kubelet would make of a session's DaskCluster and groups, where there is neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from af_operator.model import Kind
from tests.support.site import Body, Site

CLUSTER = Kind("kubernetes.dask.org/v1", "DaskCluster", "daskclusters")
GROUP = Kind("kubernetes.dask.org/v1", "DaskWorkerGroup", "daskworkergroups")
IMAGE = "registry.example.org/analysis:1"


def play(site: Site, namespace: str, session: str) -> None:
    """Make the scheduler and a worker for each pool, all of them ready."""
    cluster = site.get(CLUSTER, namespace, session)
    groups = site.of(session, GROUP).values()
    scheduler = f"{session}-scheduler"
    component = {"dask.org/cluster-name": session, "dask.org/component": "scheduler"}
    _program(site, scheduler, cluster, component)
    service = {"spec": {"selector": component, "ports": [{"name": "tcp-comm", "port": 8786}]}}
    site.create([_object("v1", "Service", scheduler, cluster, component, **service)])
    for group in groups:
        worker = {"dask.org/workergroup-name": group["metadata"]["name"], "dask.org/component": "worker"}
        _program(site, f"{group['metadata']['name']}-worker-1", group, worker)
    _running(site, cluster)


def _running(site: Site, cluster: Body) -> None:
    """Make the group that dask-kubernetes makes by itself, and say that all is done.

    Said before there is a scheduler, it would mean that the scheduler is lost.
    """
    metadata = cluster["metadata"]
    spec = {"cluster": metadata["name"], "worker": {"replicas": 0, **cluster["spec"]["worker"]}}
    site.create([_object(CLUSTER.api_version, GROUP.kind, f"{metadata['name']}-default", cluster, {}, spec=spec)])
    path = f"/apis/{CLUSTER.api_version}/namespaces/{metadata['namespace']}/{CLUSTER.plural}/{metadata['name']}"
    site.plane.request("PUT", path, {**cluster, "status": {"phase": "Running"}})


def _program(site: Site, name: str, owner: Body, labels: dict[str, str]) -> None:
    spec = {"containers": [{"name": "program", "image": IMAGE}]}
    pod = _object("v1", "Pod", f"{name}-0", owner, labels, spec=spec)
    template = {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": spec}
    deployment = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    site.create([_object("apps/v1", "Deployment", name, owner, labels, spec=deployment)])
    site.put(pod, **ready())


def ready() -> dict[str, Any]:
    """Return the status of a pod that is ready."""
    container = {"name": "program", "image": IMAGE, "imageID": "", "ready": True, "restartCount": 0, "state": {}}
    conditions = [{"type": "Ready", "status": "True"}]
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}


def _object(api_version: str, kind: str, name: str, owner: Body, labels: dict[str, str], **more: Any) -> Body:
    metadata = owner["metadata"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"]}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": dict(_inherited(metadata["labels"])) | labels,
            "ownerReferences": [{**reference, "uid": metadata["uid"], "controller": True}],
        },
        **more,
    }


def _inherited(labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the labels that say whose an object is."""
    return ((key, value) for key, value in labels.items() if not key.startswith("app.kubernetes.io/"))
