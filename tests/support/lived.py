"""The golden cases as they look when they live: what was planned, what controllers made of it, and its end."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from af_operator import names, plan
from af_operator.api import ProfileSpec
from af_operator.components import shipped
from af_operator.components.dask.dask_kubernetes.replicas import HANDLED, WORKER_GROUP
from af_operator.components.dask.groups import DaskAnswer
from af_operator.model import Body, Profile, Session, label_of, ref_of
from af_operator.observed import Children, Observed
from af_operator.views import AgentView, ClusterNetwork, HubView, PoolAnswer
from af_operator.world import parse_session

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(p.parent.name for p in GOLDEN.glob("*/session.yaml"))
NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
MADE, BEGAN, CHANGED = "2026-01-01T10:00:30Z", "2026-01-01T10:01:00Z", "2026-01-01T10:05:00Z"
REPORT = {
    "exitCode": 1,
    "wallSeconds": 1.5,
    "peakMemoryBytes": 1000,
    "results": {"url": "root://x//r", "count": 1, "bytes": 1, "files": [{"url": "u", "bytes": 1, "adler32": "0" * 8}]},
    "error": "upload failed",
}
NOWHERE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: affinity."}


@dataclass(frozen=True)
class Life:
    """What a pass gets."""

    session: Session
    profile: Profile
    observed: Observed


@cache
def lives(case: str) -> dict[str, Life]:
    """Return the case in each stage of its life: all is well, all is in trouble, over, and over with nothing left."""
    given = _given(case)
    up = _settled(given, "up")
    over = _settled(given, "over")
    kept = [b for b in over.observed.children if b["kind"] == "ConfigMap"]
    return {
        "up": up,
        "trouble": _one_short(_settled(given, "trouble")),
        "over": over,
        "gone": replace(over, observed=replace(over.observed, children=Children(kept))),
    }


def _one_short(life: Life) -> Life:
    """Return the case without one of the workers that are pods of its own: another is to be made."""
    there = life.observed.children
    lost = next((body for body in there if label_of(body, names.WORKER_GROUP)), None)
    return replace(life, observed=replace(life.observed, children=Children(b for b in there if b is not lost)))


def _given(case: str) -> Life:
    common = yaml.safe_load((GOLDEN / "profile.yaml").read_text())
    hub, network = _load(case, "hub.yaml", None), _load(case, "network.yaml", None)
    observed = Observed(
        children=tuple(_load(case, "observed.yaml", [])),
        shared=tuple(_load(case, "shared.yaml", [])),
        hub=HubView(**hub) if hub else None,
        network=ClusterNetwork.model_validate(network) if network else None,
        read={ref_of(body): body for body in _load(case, "read.yaml", [])},
        nonce="0" * 64,
    )
    spec = ProfileSpec.model_validate(_load(case, "profile.yaml", common)["spec"])
    return Life(parse_session(_load(case, "session.yaml", None)), Profile("default", spec), observed)


def _load(case: str, name: str, default: Any) -> Any:
    path = GOLDEN / case / name
    return yaml.safe_load(path.read_text()) if path.exists() else default


def _settled(given: Life, stage: str) -> Life:
    """Return the case when what it plans is there, and the record of its end with it."""
    observed = given.observed
    for _ in range(3):
        log = "last words" if stage == "over" else None
        todo = plan.build(shipped(), given.session, given.profile, replace(observed, log_tail=log), NOW)
        made = [_live(manifest.body, stage) for manifest in todo.desired if not manifest.shared]
        there = {(b["kind"], b["metadata"]["name"]): b for b in (*observed.children, *made)}
        all_of_it = there | {(b["kind"], b["metadata"]["name"]): b for o in there.values() for b in _made_of(o, stage)}
        groups = filter(None, map(_group_of, all_of_it.values()))
        view = AgentView(DaskAnswer(pools=dict.fromkeys(groups, PoolAnswer(wanted=1))))
        claims = [_live(m.body, stage) for m in todo.desired if m.shared] or list(observed.shared)
        observed = replace(observed, children=Children(all_of_it.values()), shared=tuple(claims), agents={"dask": view})
    return replace(given, observed=observed)


def _group_of(body: Body) -> str | None:
    """Return the group of workers that an object is, or that it is one of."""
    name: str = body["metadata"]["name"]
    of_pool = body["kind"] == "DaskWorkerGroup" and label_of(body, names.POOL)
    return name if of_pool else label_of(body, names.WORKER_GROUP)


def _live(body: Body, stage: str) -> dict[str, Any]:
    """Return a planned object as the API server has it, with the status that its controller would write."""
    found = copy.deepcopy(dict(body))
    found["metadata"] |= {
        "uid": f"uid-of-{body['kind']}-{body['metadata']['name']}",
        "creationTimestamp": MADE,
        "resourceVersion": "1",
        "managedFields": [{"manager": names.MANAGER, "operation": "Apply"}],
    }
    status = _status(body["kind"], stage)
    if body["kind"] == "Pod":
        found["spec"], status = _run_by_kubelet(body["spec"], stage)
    if body["kind"] == "Job":
        found["spec"]["suspend"] = False
    if body["kind"] == "DaskWorkerGroup":
        found["spec"]["worker"]["replicas"] = 3
        found["metadata"]["annotations"][HANDLED] = json.dumps({"spec": {"worker": {"replicas": 3}}})
    return found | ({"status": status} if status else {})


def _status(kind: str, stage: str) -> dict[str, Any]:
    well = stage == "up"
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    complete = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
    return {
        "Deployment": {"conditions": [{**complete, "lastUpdateTime": CHANGED}] if well else [refused]},
        "Job": {"active": 1} if stage != "over" else {"failed": 1, "conditions": [{**failed, **_at(CHANGED)}]},
        "DaskCluster": {"phase": "Running"},
        "StatefulSet": {"replicas": 1, "updateRevision": "newest"},
        "PersistentVolumeClaim": {"phase": "Bound" if well else "Pending"},
    }.get(kind, {})


def _at(time: str) -> dict[str, str]:
    return {"lastTransitionTime": time}


def _made_of(body: Body, stage: str) -> Iterator[dict[str, Any]]:
    """Yield what controllers make of an object: pods, and what the Dask operator makes."""
    name, labels = body["metadata"]["name"], body["metadata"].get("labels", {})
    if body["kind"] in ("Job", "StatefulSet", "Deployment") and labels.get("dask.org/component") is None:
        template = body["spec"].get("template", {"spec": {"containers": []}})
        of = {**labels, **template.get("metadata", {}).get("labels", {})}
        yield _pod(f"{name}-0", of, template["spec"], stage)
    elif body["kind"] == "DaskCluster":
        of = labels | {"dask.org/component": "scheduler"}
        yield _deployment(f"{name}-scheduler", of, body, body["spec"]["scheduler"]["spec"], stage)
        yield _pod(f"{name}-scheduler-5c7-x", of, body["spec"]["scheduler"]["spec"], stage)
        yield _by_dask({"apiVersion": "v1", "kind": "Service"}, f"{name}-scheduler", of, body)
        yield _by_dask({"apiVersion": body["apiVersion"], "kind": "DaskWorkerGroup"}, f"{name}-default", labels, body)
    elif body["kind"] == "DaskWorkerGroup" and names.POOL in labels:
        of = labels | {"dask.org/component": "worker", WORKER_GROUP: name}
        for index in range(3):
            worker = f"{name}-worker-{index}"
            spec = body["spec"]["worker"]["spec"]
            yield _deployment(worker, of, body, spec, stage)
            yield _pod(f"{worker}-5c7-x", of, spec, stage, nowhere=index == 1)


def _by_dask(body: dict[str, Any], name: str, labels: dict[str, str], owner: Body, **more: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "uid": f"uid-of-{body['kind']}-{name}",
        "creationTimestamp": MADE,
        "labels": dict(labels),
        "ownerReferences": [{"kind": owner["kind"], "uid": owner["metadata"]["uid"], "controller": True}],
    }
    return {**body, "metadata": metadata, **more}


def _deployment(name: str, labels: dict[str, str], owner: Body, pod: Body, stage: str) -> dict[str, Any]:
    spec = {"replicas": 1, "template": {"metadata": {"labels": dict(labels)}, "spec": copy.deepcopy(pod)}}
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return _by_dask(kind, name, labels, owner, spec=spec, status=_status("Deployment", stage))


def _pod(name: str, labels: dict[str, str], spec: Body, stage: str, *, nowhere: bool = False) -> dict[str, Any]:
    pod, status = _run_by_kubelet(spec, stage, nowhere=nowhere and stage == "trouble")
    owner = {"kind": "ReplicaSet", "name": name.rpartition("-")[0], "uid": "uid-of-rs", "controller": True}
    metadata = {"name": name, "uid": f"uid-of-pod-{name}", "creationTimestamp": BEGAN, "labels": dict(labels)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "namespace": "physics", "ownerReferences": [owner]},
        "spec": pod,
        "status": status,
    }


def _run_by_kubelet(spec: Body, stage: str, *, nowhere: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return spec and status of a pod in this stage."""
    pod = copy.deepcopy(dict(spec))
    if not nowhere:
        pod["nodeName"] = "n1"
    statuses = {
        f"{kind}Statuses": [_container(each, stage) for each in pod[f"{kind}s"]]
        for kind in ("container", "initContainer")
        if pod.get(f"{kind}s") and not nowhere
    }
    ready = {"type": "Ready", "status": "True" if stage == "up" else "False", **_at(CHANGED)}
    conditions = [NOWHERE, ready] if nowhere else [ready]
    return pod, {"phase": "Running", "conditions": conditions, **statuses}


def _container(container: Body, stage: str) -> dict[str, Any]:
    times = {"startedAt": BEGAN, "finishedAt": CHANGED}
    ended = {"exitCode": 1, "reason": "Error", "message": json.dumps(REPORT), **times}
    found = {"name": container["name"], "image": container["image"], "imageID": "", "ready": False, "restartCount": 0}
    if stage == "over":
        return {**found, "state": {"terminated": ended}}
    if stage == "up" or container["name"] == "scheduler":  # in trouble it is silent: it runs, and is not ready
        return {**found, "ready": stage == "up", "state": {"running": {"startedAt": BEGAN}}}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    return {**found, "restartCount": 1, "state": {"waiting": waiting}, "lastState": {"terminated": ended}}
