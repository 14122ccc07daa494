"""Sessions, profiles, and objects as an API server would send them, for tables of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from af_operator import names
from af_operator.api import ProfileSpec
from af_operator.model import Body, Profile, Session
from af_operator.observed import Settled
from af_operator.views import AgentView
from af_operator.world import parse_session

UID = "5e551011-0000-4000-8000-000000000000"
RUN = {"command": ["python", "-V"]}
DASK = {"pools": [{"name": "cpu", "nodePool": "cpu", "workers": {"min": 1, "max": 2}}]}


def session(name: str = "zmumu", **spec: Any) -> Session:
    spec = {"profile": "default", "user": "alice", "mode": "Headless" if "run" in spec else "Interactive", **spec}
    metadata = {"name": name, "namespace": "physics", "uid": UID, "creationTimestamp": "2026-01-01T10:00:00Z"}
    return parse_session({"metadata": metadata, "spec": spec})


def profile(**changes: Any) -> Profile:
    golden = Path(__file__).parent.parent / "golden" / "profile.yaml"
    spec = yaml.safe_load(golden.read_text())["spec"] | changes
    return Profile("default", ProfileSpec.model_validate({k: v for k, v in spec.items() if v is not None}))


def world(*children: Body, dask: AgentView | None = None, **more: Any) -> Settled:
    """Return what is observed; `dask` is what the agent in the scheduler said last."""
    return Settled(children=children, agents={"dask": dask} if dask else {}, **more)


def live(api_version: str, kind: str, name: str, labels: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "physics", "uid": f"uid-of-{name}", "labels": labels or {}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def ours(body: Body, owner: str = UID) -> dict[str, Any]:
    """Return an object as if the operator had made it, for the session or for the child of it with that uid."""
    made = {
        "ownerReferences": [{"uid": owner, "controller": True}],
        "managedFields": [{"manager": names.MANAGER, "operation": "Update"}],
    }
    return {**body, "metadata": {**body["metadata"], **made}}


def of_component(component: str, pool: str | None = None, **more: str) -> dict[str, str]:
    return names.labels(session(), component, pool) | more


def pod(name: str, labels: dict[str, str], *containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    ready = status.pop("ready", False)
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}, *status.pop("conditions", ())]
    found = live("v1", "Pod", name, labels, spec={"containers": []})
    found["metadata"]["creationTimestamp"] = "2026-01-01T10:01:00Z"
    found["status"] = {"phase": "Running", "conditions": conditions, "containerStatuses": list(containers), **status}
    return found


def container(name: str, **state: Any) -> dict[str, Any]:
    """Return a container status; `state` is one of waiting, running, terminated, and perhaps last (terminated)."""
    last = {"lastState": {"terminated": state.pop("last")}} if "last" in state else {}
    return {"name": name, "image": "registry.example.org/analysis:1", "state": state, **last}


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
}
