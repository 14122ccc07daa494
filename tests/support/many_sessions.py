"""Sessions by the hundred, and the children that the operator plans for them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from af_operator import plan
from af_operator.api import API_VERSION, ProfileSpec
from af_operator.components import shipped
from af_operator.model import Profile
from af_operator.observed import Observed
from af_operator.views import ClusterNetwork
from af_operator.world import parse_session
from tests.support.networks import NETWORK

Body = dict[str, Any]
PROFILE = "default"
CHILDREN = 13
"""What a run with two pools and a cache of its own is made of."""
POOL = {"nodePool": "cpu", "size": "small", "workers": {"min": 1, "max": 1}}
DASK = {"pools": [{"name": "cpu", **POOL}, {"name": "more", **POOL}]}
RUN = {
    "mode": "Headless",
    "run": {"command": ["python", "main.py"], "source": {"files": {"main.py": "print(sum(range(1_000_000)))\n"}}},
    "dask": DASK,
    "xcache": {"placement": "Session", "size": "10Gi"},
}
NOTEBOOK = {"mode": "Interactive", "notebook": {"size": "small"}, "dask": DASK}
GOLDEN = Path(__file__).parents[1] / "golden" / "profile.yaml"


def profile(engine: str = "Native") -> Body:
    """Return the catalogue of all of them, which also has homes for notebooks."""
    body: Body = yaml.safe_load(GOLDEN.read_text())
    changes = {"storage": {"home": {"storageClassName": "standard", "size": "10Gi"}}, "dask": {"engine": engine}}
    return {**body, "metadata": {"name": PROFILE}, "spec": body["spec"] | changes}


def namespace(name: str) -> Body:
    """Return a namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def session(name: str, where: str, spec: Body, user: str = "alice") -> Body:
    """Return a session to be created."""
    metadata = {"name": name, "namespace": where}
    spec = {"profile": PROFILE, "user": user, **spec}
    return {"apiVersion": API_VERSION, "kind": "AnalysisSession", "metadata": metadata, "spec": spec}


def spread(number: int, namespaces: Iterable[str], spec: Body) -> list[Body]:
    """Return so many sessions, each of a user of its own, in turn in these namespaces."""
    places = list(namespaces)
    return [session(f"s{n:05}", places[n % len(places)], spec, f"user{n:05}") for n in range(number)]


def children_of(body: Body) -> list[Body]:
    """Return what the operator makes for a session, as it would if the session were there."""
    stored = json.loads(json.dumps(body))
    now = datetime.now(UTC)
    stored["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now.isoformat()}
    catalogue = Profile(PROFILE, ProfileSpec.model_validate(profile()["spec"]))
    known = Observed(nonce=uuid.uuid4().hex * 2, network=ClusterNetwork.model_validate(NETWORK))
    planned = plan.build(shipped(), parse_session(stored), catalogue, known, now)
    return [json.loads(json.dumps(manifest.body)) for manifest in planned.desired]
