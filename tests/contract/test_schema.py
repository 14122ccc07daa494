"""The CRDs on a real API server: what is accepted, what is filled in, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator.api import ProfileSpec, SessionSpec
from tests.contract.conftest import Kubectl
from tests.contract.schema import NO_PROFILE, OBJECTS, Body, Server, load, session

pytestmark = pytest.mark.cluster

STATUS: Body = {
    "observedGeneration": 1,
    "phase": "Succeeded",
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Succeeded",
            "message": "the run has ended: af results good",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
    ],
    "components": {"dask": {"pools": {"cpu": {"ready": 2, "desired": 8, "lastLoss": "its node was lost"}}}},
    "endpoints": {
        "notebook": f"http://n:8888/user/{'%F0%9F%9A%80' * 253}/",
        "dask": "tcp://good-scheduler:8786",
        "dashboard": "http://good:8787",
        "xcache": "good:1096",
    },
    "run": {
        "pod": "good-run-x7k2p",
        "exitCode": 0,
        "reason": "Succeeded",
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:01:00Z",
        "wallSeconds": 59.5,
        "peakMemoryBytes": 3_000_000_000,
        "attempts": 1,
        "disruptions": 2,
        "lastDisruption": "Preempting: pod good-run-x7k2p was preempted by a pod of higher priority",
        "results": {
            "url": "root://storage.example.org:1094//results/good",
            "count": 1,
            "bytes": 5_000_000_000,
            "files": [{"url": "root://storage.example.org:1094//a.png", "bytes": 12, "adler32": "0123abcd"}],
        },
    },
}


@pytest.mark.parametrize("name", sorted(path.name for path in OBJECTS.glob("*.yaml")))
def test_good_objects_are_accepted_and_parse(server: Server, name: str) -> None:
    """Strict validation: nothing that they say is unknown. What comes back is what the operator must parse."""
    answer = server.create(load(name))
    assert answer.code == 200, answer.message
    spec = answer.body["spec"]
    model = SessionSpec if answer.body["kind"] == "AnalysisSession" else ProfileSpec
    parsed = model.model_validate(spec).model_dump(by_alias=True, exclude_none=True)
    # The server has filled in every default that the model has, but for empty lists and maps, which say nothing.
    assert without_empty(parsed) == without_empty(spec)


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_empty(v) for k, v in value.items() if v not in ([], {})}
    return [without_empty(v) for v in value] if isinstance(value, list) else value


def test_the_server_fills_in_the_defaults_of_left_out_objects(server: Server) -> None:
    spec = server.create(load("profile-minimal.yaml")).body["spec"]
    assert spec["limits"] == {"workers": 100, "gpus": 0}
    assert spec["scaling"] == {"quietSeconds": 30, "drainSeconds": 120, "silenceSeconds": 600}
    assert spec["defaults"] == {"ttlSecondsAfterFinished": 86_400}
    spec = server.create(load("session-interactive.yaml")).body["spec"]
    assert (spec["profile"], spec["suspend"]) == ("default", False)
    assert spec["dask"]["pools"][0]["workers"] == {"min": 1, "max": 4}


def test_null_means_left_out_where_there_is_a_default(server: Server) -> None:
    body = load("session-minimal.yaml")
    body["spec"]["suspend"] = None
    assert server.create(body).body["spec"]["suspend"] is False


def test_an_unknown_field_is_pruned_where_the_client_does_not_ask_for_strict(server: Server) -> None:
    body = session("pruned", user="alice", mode="Interactive", podSpec={"hostNetwork": True})
    assert "podSpec" not in server.create(body, validation="Ignore").body["spec"]


def test_the_largest_source_is_accepted_and_one_that_exists_can_still_be_edited(server: Server) -> None:
    files = {f"file-{i}.py": "é" * 2048 for i in range(64)}  # 2 bytes each: exactly 256 KiB
    name = server.keep(
        session("large", user="alice", mode="Headless", run={"command": ["a"], "source": {"files": files}})
    )
    answer = server.patch(name, {"spec": {"suspend": True}})
    assert answer.code == 200, answer.message


def test_nothing_that_the_operator_says_is_pruned_from_the_status(server: Server, stored: str) -> None:
    answer = server.patch(stored, {"status": STATUS}, subresource="_status")
    assert answer.code == 200, answer.message
    assert answer.body["status"] == STATUS


def test_the_status_cannot_be_written_with_the_spec(server: Server) -> None:
    answer = server.create(load("session-interactive.yaml") | {"status": STATUS})
    assert answer.code == 200, answer.message
    assert "status" not in answer.body


def test_the_columns_of_kubectl_get(server: Server, stored: str) -> None:
    table = server.patch(
        stored,
        {"status": STATUS},
        subresource="_status",
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    ).body
    columns = [(c["name"], c["priority"]) for c in table["columnDefinitions"]]
    assert columns == [
        ("Name", 0), ("Mode", 0), ("Phase", 0), ("Ready", 0),
        ("User", 1), ("Profile", 1), ("Message", 1), ("Age", 0),
    ]  # fmt: skip
    message = "the run has ended: af results good"
    cells = table["rows"][0]["cells"]
    assert cells[:-1] == [stored, "Headless", "Succeeded", "False", "alice", NO_PROFILE, message]


def test_kubectl_knows_the_short_names_the_category_and_the_selectable_fields(
    kubectl: Kubectl, namespace: str, stored: str
) -> None:
    header, *rows = kubectl("get", "afs", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "MODE", "PHASE", "READY", "AGE"]
    assert any(row.split()[:2] == [stored, "Headless"] for row in rows)
    assert stored in kubectl("get", "analysisfacility", "-n", namespace)
    assert stored in kubectl("get", "afs", "-n", namespace, "--field-selector", "spec.user=alice")
    assert stored not in kubectl("get", "afs", "-n", namespace, "--field-selector", "spec.user=bob")
    kubectl("get", "afp")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("afs", "AnalysisSession is a physicist's unit of work"),
        ("afs.spec.dask", "Client()` without arguments finds it"),
        ("afs.spec.dask.pools.workers", "Workers that must be ready before the session counts as ready"),
        ("afs.spec.run.command", "Not run through a shell"),
        ("afs.spec.xcache.size", 'Defaults to "10Gi"'),
        ("afs.spec.mode", "ENUM: Interactive Headless"),
        ("afs.status.run.results", "What the run left at its results URL"),
        ("afp.spec.nodePools", "Extended resource of one GPU"),
        ("afp.spec.limits", "Workers over all pools of the session"),
        ("afs.spec.run.nodePool", "the profile's defaults.nodePool if left out"),
        ("afs.spec.notebook.nodePool", "the profile's defaults.nodePool if left out"),
        ("afs.spec.xcache.nodePool", "Only with placement Session"),
        ("afs.spec.spark.nodePool", "A node pool of the profile for the server"),
        ("afs.spec.dask.scheduler.size", "The scheduler holds the graph"),
        ("afs.spec.dask.config", "what Dask does not know it ignores"),
        ("afs.spec.dask.pools.threadsPerWorker", "threads of a Dask worker, cores of a Spark worker"),
        ("afs.spec.spark.pools.memoryPercent", "for Spark the heaps of executors"),
        ("afs.status.run.disruptions", "How often the run lost its pod to the cluster"),
        ("afp.spec.sizes.ephemeralStorage", "Four times the memory, at least 10Gi, if left out"),
        ("afp.spec.sizes.sharedMemory", "Half of the memory if left out"),
        ("afp.spec.imagePullSecrets", "Names of Secrets in each session's namespace"),
        ("afp.spec.priorityClassName", "who is preempted"),
        ("afp.spec.defaults.nodePool", "those without GPUs first"),
    ],
)
def test_kubectl_explain_reads_like_documentation(kubectl: Kubectl, server: Server, path: str, words: str) -> None:
    assert words in " ".join(kubectl("explain", path).split())
