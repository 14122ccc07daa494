"""What the schema tests share: talking to the server about our two kinds, as a value that can be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from af_operator.api import API_VERSION, GROUP, VERSION

Body = dict[str, Any]

OBJECTS = Path(__file__).parent / "objects"
NO_PROFILE = "no-such-profile"
MERGE_PATCH = "application/merge-patch+json"


def load(name: str) -> Body:
    found: Body = yaml.safe_load((OBJECTS / name).read_text())
    return found


def merged(base: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386): None deletes."""
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return patch
    both = {**base, **{k: merged(base.get(k), v) for k, v in patch.items()}}
    return {k: v for k, v in both.items() if not (k in patch and patch[k] is None)}


@dataclass(frozen=True)
class Answer:
    """What the server said: an object, or why not."""

    code: int
    body: Body

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Server:
    """Both kinds on a real API server. Nothing is stored unless `keep` says so."""

    api: client.CustomObjectsApi
    namespace: str

    def keep(self, body: Body) -> str:
        """Store a session under a name of its own, and return that: the same object is also created without a trace.

        No such profile: an operator that may be here starts nothing.
        """
        own = {"metadata": {"name": f"kept-{body['metadata']['name']}"}, "spec": {"profile": NO_PROFILE}}
        made = self.create(merged(body, own), keep=True)
        assert made.code == 200, made.message
        return str(made.body["metadata"]["name"])

    def create(self, body: Body, *, keep: bool = False, validation: str = "Strict") -> Answer:
        how: Body = {"field_validation": validation} | ({} if keep else {"dry_run": "All"})
        if body["kind"] == "AnalysisProfile":
            return self._answer("create_cluster_custom_object", plural="analysisprofiles", body=body, **how)
        return self._answer(
            "create_namespaced_custom_object", namespace=self.namespace, plural="analysissessions", body=body, **how
        )

    def patch(self, name: str, patch: Body, *, subresource: str = "", accept: str = "application/json") -> Answer:
        return self._answer(
            f"patch_namespaced_custom_object{subresource}",
            namespace=self.namespace,
            plural="analysissessions",
            name=name,
            body=patch,
            dry_run="All",
            field_validation="Strict",
            _content_type=MERGE_PATCH,
            _headers={"Accept": accept},
        )

    def _answer(self, verb: str, **arguments: Any) -> Answer:
        try:
            return Answer(200, getattr(self.api, verb)(group=GROUP, version=VERSION, **arguments))
        except client.ApiException as refused:
            return Answer(refused.status, json.loads(refused.body))


def session(name: str, **spec: Any) -> Body:
    return {"apiVersion": API_VERSION, "kind": "AnalysisSession", "metadata": {"name": name}, "spec": spec}
