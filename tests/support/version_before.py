"""Two sessions as the version before Dask's two engines made them: their objects and status, in files.

The files are its own plan and status, word for word, of a notebook and a run on the local cluster.
What follows from a session's uid, its namespace and the facility's catalogue stands there as ``<uid>`` and so on;
hashes are computed here as that version did. All is written in the name of the operator's account, so that the API
server's policies judge it as they judge the operator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.support.audit import OPERATOR
from tests.support.catalogue import default_spec
from tests.support.pools import PROGRAM
from tests.support.tenant import Body, Tenant

FILES = Path(__file__).parent.parent / "e2e" / "upgrade"
AS_THE_OPERATOR = (f"--as={OPERATOR}", "--field-manager=af-operator", "--validate=false")
AS_THE_ADMINISTRATOR = ("--as=kubernetes-admin", "--as-group=system:masters")
HASH = "analysisfacility.io/applied-hash"
TEMPLATE_HASH = "analysisfacility.io/template-hash"


@dataclass(frozen=True)
class Before:
    """A session of that version.

    Attributes
    ----------
    values
        What stands in the files as ``<name>``.
    """

    tenant: Tenant
    name: str
    values: Mapping[str, str]

    @classmethod
    def begin(cls, tenant: Tenant, name: str) -> Before:
        """Create the session, and what that version made for it at first: a run's Job waits for the workers."""
        session, *_ = _documents(name)
        values = {"namespace": tenant.namespace, **_of_catalogue()}
        uid = tenant.apply(name, _filled(session["spec"], values))["metadata"]["uid"]
        found = cls(tenant, name, values | {"uid": uid})
        for body in found.objects(released=False):
            # Its DaskClusters find pods by labels of Dask's: the policies of now would refuse that, and came later.
            found._kubectl("create", body, way=() if body["kind"] != "DaskCluster" else AS_THE_ADMINISTRATOR)
        return found

    def release(self) -> None:
        """Let the Job go, as that version did when the workers were there."""
        jobs = [body for body in self.objects(released=True) if body["kind"] == "Job"]
        self._kubectl("apply", *jobs, way=("--server-side", "--force-conflicts"))

    def tell(self) -> None:
        """Write the status that that version had come to; the pod of a run is there."""
        session, *_ = _documents(self.name)
        status = _filled(session["status"], {**self.values, "now": _stamp(datetime.now(UTC)), **self._of_run()})
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        # By the administrator: kubectl reads a status before, which the operator's account may not.
        self.tenant.kubectl("patch", "analysissession", self.name, "--field-manager=af-operator", *patch)

    def objects(self, *, released: bool) -> Iterator[Body]:
        """Yield what that version made, in its order, with the hashes that it had."""
        _, *bodies = _documents(self.name)
        for body in _filled(bodies, self.values):
            if body["kind"] == "Job":
                body["spec"]["suspend"] = not released
            yield _hashed(body)

    def _of_run(self) -> dict[str, str]:
        found = json.loads(self.tenant.kubectl("get", "pods", "-l", f"job-name={self.name}-run", "-o", "json"))["items"]
        pods = [(pod, pod["status"]["containerStatuses"][0]["state"]["running"]) for pod in found]
        return next(({"pod": p["metadata"]["name"], "started": state["startedAt"]} for p, state in pods), {})

    def _kubectl(self, verb: str, *bodies: Body, way: tuple[str, ...] = ()) -> None:
        if bodies:
            self.tenant.kubectl(verb, *AS_THE_OPERATOR, *way, "--filename=-", stdin=yaml.safe_dump_all(bodies))


def _documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FILES / f"{name}.yaml").read_text()))


def _of_catalogue() -> dict[str, str]:
    spec = default_spec()
    images = {f"image:{image['name']}": image["image"] for image in spec["images"]}
    texts = {"program": PROGRAM, "agent": (FILES / "agent.txt").read_text()}
    return {**images, **texts, "image:xcache": spec["xcache"]["image"], "results": spec["results"]["url"]}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    if isinstance(value, str):
        for name, text in values.items():
            value = value.replace(f"<{name}>", text)
    return value


def _hashed(body: Body) -> Body:
    metadata = body["metadata"]
    annotations = metadata.pop("annotations")
    owners = metadata.pop("ownerReferences", None)
    if TEMPLATE_HASH in annotations:
        template = body["spec"]["template"]
        metadata["annotations"] = {TEMPLATE_HASH: _digest([template["metadata"]["labels"], template["spec"]])}
    digest = _digest(body)
    metadata["annotations"] = annotations | metadata.get("annotations", {}) | {HASH: digest}
    return {**body, "metadata": metadata | ({"ownerReferences": owners} if owners else {})}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
