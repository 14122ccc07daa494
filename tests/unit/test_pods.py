"""Quantities as the API server writes them, and why pods are not ready."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from af_operator import names
from af_operator.api.profile import Size
from af_operator.components._shared import pod_reasons, pod_spec
from af_operator.model import PodPatch
from tests.support.objects import UNSCHEDULABLE, container, live, pod


# Left: what people write. Right: what `kubectl get -o yaml` shows of it (k8s.io/apimachinery, Quantity.String).
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", "1"),
        ("1000m", "1"),
        ("500m", "500m"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("0.0001", "1m"),
        ("1500", "1500"),
        ("2000", "2k"),
        ("1000k", "1M"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1000Mi", "1000Mi"),
        ("2048Ki", "2Mi"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1G", "1G"),
        ("1000M", "1G"),
        ("1.25G", "1250M"),
        ("010Gi", "10Gi"),
        ("0", "0"),
    ],
)
def test_quantity(text: str, expected: str) -> None:
    assert pod_spec.quantity(text) == expected
    assert pod_spec.quantity(expected) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(1024, "1Ki"), (1000, "1000"), (2**30, "1Gi"), (2**30 + 1, "1073741825")]
)
def test_binary_quantity(count: int, expected: str) -> None:
    assert pod_spec.binary_quantity(count) == expected


# Left: what the API server takes in an object that others write.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("15e-1", "1.5"),
        ("1E", "1e18"),
        ("1Ei", str(2**60)),
        ("100n", "1e-7"),
        ("2u", "2e-6"),
        ("-5m", "-0.005"),
        ("+.5", "0.5"),
        ("1.", "1"),
    ],
)
def test_every_form_of_a_quantity_is_read(text: str, value: str) -> None:
    assert pod_spec.parse_quantity(text) == Decimal(value)


NO_QUANTITIES = ["", "k", "1kk", "1 ", "x", "1e999999999", "1e", "NaN", "Infinity", "1_0", "\u0663", "9" * 99]


@pytest.mark.parametrize("text", NO_QUANTITIES)
def test_what_is_no_quantity_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        pod_spec.parse_quantity(text)


def test_extended_resources_are_those_with_a_slash_and_a_quantity() -> None:
    asked = {"nvidia.com/gpu": "2", "amd.com/gpu": "1k", "memory": "1Gi", "x/y": "many", "z/z": "1e999999999"}
    assert pod_spec.extended(asked) == {"nvidia.com/gpu": 2, "amd.com/gpu": 1000}


def test_resources_give_extended_resources_as_request_and_limit() -> None:
    found = pod_spec.resources(Size(name="s", cpu="500m", memory="1024Mi"), {"nvidia.com/gpu": 2})
    assert found == {
        "requests": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "256Mi", "nvidia.com/gpu": "2"},
        "limits": {"cpu": "1500m", "memory": "1Gi", "ephemeral-storage": "10Gi", "nvidia.com/gpu": "2"},
    }


@pytest.mark.parametrize(
    ("cpu", "said", "limit"),
    [
        ("50m", None, "1050m"),
        ("0.5", None, "1500m"),
        ("1", None, "2"),
        ("2", None, "4"),
        ("1500m", None, "3"),
        ("64", None, "128"),
        ("2", "2", "2"),
        ("500m", "1.5", "1500m"),
    ],
)
def test_a_size_without_a_cpu_limit_has_one_that_its_threads_never_reach(
    cpu: str, said: str | None, limit: str
) -> None:
    size = Size(name="s", cpu=cpu, cpu_limit=said, memory="1Gi")
    assert pod_spec.resources(size)["limits"]["cpu"] == limit


@pytest.mark.parametrize(
    ("memory", "said", "reserved", "limit"),
    [
        ("512Mi", None, "256Mi", "10Gi"),
        ("4Gi", None, "256Mi", "16Gi"),
        ("1.5Gi", None, "256Mi", "10Gi"),
        ("3G", None, "256Mi", "11444Mi"),
        # What is said is kept free for it.
        ("4Gi", "1024Mi", "1Gi", "1Gi"),
        ("4Gi", "2T", "2T", "2T"),
    ],
)
def test_a_size_has_disk_of_its_node(memory: str, said: str | None, reserved: str, limit: str) -> None:
    found = pod_spec.resources(Size(name="s", cpu="1", memory=memory, ephemeral_storage=said))
    assert (found["requests"]["ephemeral-storage"], found["limits"]["ephemeral-storage"]) == (reserved, limit)


@pytest.mark.parametrize(
    ("memory", "said", "shared"),
    [
        ("4Gi", None, "2Gi"),
        ("3Gi", None, "1536Mi"),
        ("1Mi", None, "1Mi"),
        ("4Gi", "0.5Gi", "512Mi"),
        ("1G", None, "476Mi"),
    ],
)
def test_scratch_has_sizes_and_shared_memory_is_memory(memory: str, said: str | None, shared: str) -> None:
    size = Size(name="s", cpu="1", memory=memory, ephemeral_storage="7Gi", shared_memory=said)
    volumes, mounts = pod_spec.scratch(size, {"work": "/af/work", "tmp": "/tmp"})
    assert volumes == [
        {"name": "work", "emptyDir": {"sizeLimit": "7Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "7Gi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
    ]
    assert {m["name"]: m["mountPath"] for m in mounts} == {"work": "/af/work", "tmp": "/tmp", "shm": "/dev/shm"}


@pytest.mark.parametrize(("text", "expected"), [("a", "a"), ("$(HOME)", "$$(HOME)"), ("$$", "$$$$"), ("5$", "5$$")])
def test_the_kubelet_expands_nothing_that_users_wrote(text: str, expected: str) -> None:
    assert pod_spec.literal(text) == expected
    assert pod_spec.env({"X": text}) == [{"name": "X", "value": expected}]


def test_an_empty_value_is_left_out_as_the_server_does() -> None:
    assert pod_spec.env({"X": ""}) == [{"name": "X"}]


def test_patched_adds_env_and_mounts_and_nothing_empty() -> None:
    base = pod_spec.container("c", "i", ["x"])
    assert pod_spec.patched(base, PodPatch()) == base
    found = pod_spec.patched(base, PodPatch(env=({"name": "A"},), mounts=({"name": "m"},)))
    assert (found["env"], found["volumeMounts"]) == ([{"name": "A"}], [{"name": "m"}])


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return container("main", waiting={"reason": reason, "message": message}, **more)


OOM = {"exitCode": 137, "reason": "OOMKilled"}
CRASH = {"exitCode": 1, "reason": "Error", "message": "Traceback\n  File x\nValueError: no such branch\n\n"}


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (pod("p", {}, conditions=[UNSCHEDULABLE], phase="Pending"), "Unschedulable", "Insufficient nvidia.com/gpu"),
        (
            pod("p", {}, waiting("ErrImagePull", "not found")),
            "ImagePullBackOff",
            "analysis:1 cannot be pulled: not found",
        ),
        (
            pod("p", {}, waiting("ImagePullBackOff", 'Back-off pulling image "x"')),
            "ImagePullBackOff",
            "cannot be pulled",
        ),
        (
            pod("p", {}, waiting("CreateContainerConfigError", 'configmap "a" not found')),
            "CreateContainerConfigError",
            '"a"',
        ),
        (
            pod("p", {}, waiting("CrashLoopBackOff", last=CRASH)),
            "CrashLoopBackOff",
            "exit code 1: ValueError: no such branch",
        ),
        (pod("p", {}, waiting("CrashLoopBackOff", last=OOM)), "OOMKilled", "main used more memory than it may"),
        (pod("p", {}, container("main", terminated=OOM)), "OOMKilled", "memory"),
        (pod("p", {}, container("main", terminated=CRASH)), "Error", "no such branch"),
        (
            pod(
                "p",
                {},
                container("main", terminated={"exitCode": 0, "signal": 9, "reason": "Error"} | {"exitCode": 137}),
            ),
            "Error",
            "signal 9",
        ),
        (pod("p", {}, phase="Failed", reason="Evicted", message="low on disk"), "Evicted", "low on disk"),
        (pod("p", {}, waiting("ContainerCreating")), "Starting", "pod p is starting"),
        (pod("p", {}, container("main", running={})), "Starting", "pod p is starting"),
        (pod("p", {}, container("main", terminated={"exitCode": 0})), "Starting", "starting"),
        (pod("p", {}), "Starting", "starting"),
    ],
)
def test_why(found: dict[str, Any], reason: str, words: str) -> None:
    answer = pod_reasons.why(found)
    assert answer.reason == reason
    assert words in answer.message


def of(component: str, role: str | None = None, pool: str | None = None) -> dict[str, str]:
    """Return a pod's labels."""
    values = {names.COMPONENT: component, names.ROLE: role, names.POOL: pool}
    return {key: value for key, value in values.items() if value}


@pytest.mark.parametrize(
    ("labels", "container_name", "field"),
    [
        (of("run"), "main", "spec.run.size"),
        (of("notebook"), "main", "spec.notebook.size"),
        (of("dask", "scheduler"), "main", "spec.dask.scheduler.size"),
        (of("dask") | {"dask.org/component": "scheduler"}, "main", "spec.dask.scheduler.size"),
        (of("dask", "worker", "cpu"), "main", "spec.dask.pools[name=cpu].size"),
        (of("dask", None, "cpu") | {"dask.org/component": "worker"}, "main", "spec.dask.pools[name=cpu].size"),
        (of("spark", "master"), "main", "spec.spark.size"),
        (of("spark", "master"), "agent", None),
        (of("spark", "worker", "big"), "main", "spec.spark.pools[name=big].size"),
        (of("inference", "worker", "replicas"), "main", "spec.inference.size"),
        (of("xcache"), "main", None),
        (of("run"), "xcache", None),  # a sidecar
        ({}, "main", None),
    ],
)
def test_who_used_too_much_memory_is_told_which_field_to_change(
    labels: dict[str, str], container_name: str, field: str | None
) -> None:
    found = pod("p", labels, container(container_name, terminated=OOM))
    found["spec"]["containers"] = [{"name": "main"}, {"name": "agent"}]
    remedy = f"its size has: choose a larger size ({field})" if field else "it may: tell the facility's admin"
    assert pod_reasons.why(found) == ("OOMKilled", f"container {container_name} used more memory than {remedy}")


@pytest.mark.parametrize("died", [CRASH, OOM])
def test_a_container_that_is_started_again_and_again_keeps_its_reason(died: dict[str, Any]) -> None:
    last = {"lastState": {"terminated": died}, "restartCount": 2}
    faces = [
        container("main", terminated=died) | {"restartCount": 1},
        container("main", waiting={"reason": "CrashLoopBackOff"}) | last,
        container("main", running={}) | last | {"ready": False},
        container("main", terminated=died) | last,
    ]
    assert len({pod_reasons.why(pod("p", {}, face)) for face in faces}) == 1


def test_a_container_that_came_back_is_well() -> None:
    face = container("main", running={}) | {"lastState": {"terminated": CRASH}, "restartCount": 1, "ready": True}
    assert pod_reasons.why(pod("p", {}, face)).reason == "Starting"


NOT_THERE = "a/b:1: not found"
PULL = f'failed to pull and unpack image "a/b:1": failed to resolve reference "a/b:1": {NOT_THERE}'
START = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "dask": executable file not found in $PATH: unknown'
)
NO_NODE = (
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/1 nodes are "
    "available: 1 No preemption victims found for incoming pod."
)


def test_what_others_say_is_cut_to_what_matters() -> None:
    pull = {**waiting("ErrImagePull", f"rpc error: code = NotFound desc = {PULL}"), "image": "a/b:1"}
    assert "image a/b:1 cannot be pulled: not found; " in pod_reasons.why(pod("p", {}, pull)).message
    start = container("main", terminated={"exitCode": 128, "reason": "StartError", "message": START})
    message = 'container main ended with exit code 128: exec: "dask": executable file not found in $PATH'
    assert pod_reasons.why(pod("p", {}, start)).message == message
    unschedulable = UNSCHEDULABLE | {"message": NO_NODE}
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
    assert pod_reasons.why(pod("p", {}, conditions=[unschedulable])).message == message


def test_both_faces_of_a_failed_pull_are_one_message() -> None:
    first = pod("p", {}, waiting("ErrImagePull", "x: not found"))
    later = pod("p", {}, waiting("ImagePullBackOff", 'Back-off pulling image "r/i:1": ErrImagePull: x: not found'))
    assert pod_reasons.why(first) == pod_reasons.why(later)


def test_a_pod_that_is_asked_to_go_is_not_ready() -> None:
    found = pod("p", {}, ready=True)
    assert pod_reasons.is_ready(found)
    found["metadata"]["deletionTimestamp"] = "2026-01-01T10:02:00Z"
    assert not pod_reasons.is_ready(found)


def test_worst_prefers_real_trouble_to_waiting() -> None:
    starting, stuck = pod("a", {}), pod("b", {}, waiting("ErrImagePull", "no"))
    assert pod_reasons.worst([starting]) is None
    found = pod_reasons.worst([starting, stuck])
    assert found is not None
    assert found.reason == "ImagePullBackOff"


@pytest.mark.parametrize(
    ("message", "reason"),
    [('pods "x" is forbidden: exceeded quota: small', "QuotaExceeded"), ("denied by policy", "FailedCreate")],
)
def test_a_deployment_tells_why_its_pods_do_not_exist(message: str, reason: str) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    found = live("apps/v1", "Deployment", "d", status={"conditions": [condition]})
    refused = pod_reasons.deployment_refused(found)
    assert refused is not None
    assert refused.reason == reason
    assert refused.message in ("exceeded quota: small", "denied by policy")
    assert pod_reasons.deployment_refused(live("apps/v1", "Deployment", "d")) is None


def test_a_sidecar_that_is_ended_with_its_pod_is_no_trouble() -> None:
    ended = container("xcache", terminated={"exitCode": 143, "reason": "Error"})
    program = container("run", terminated={"exitCode": 0, "reason": "Completed"})
    found = pod("p", {}, phase="Running", initContainerStatuses=[ended], containerStatuses=[program])
    found["spec"]["initContainers"] = [{"name": "xcache", "restartPolicy": "Always"}]
    assert pod_reasons.why(found).reason == "Starting"


def test_a_sidecar_that_dies_beside_its_program_is_trouble() -> None:
    died = container("xcache", terminated={"exitCode": 1, "reason": "Error"})
    program = container("run", running={})
    found = pod("p", {}, phase="Running", initContainerStatuses=[died], containerStatuses=[program])
    found["spec"]["initContainers"] = [{"name": "xcache", "restartPolicy": "Always"}]
    assert pod_reasons.why(found).reason == "Error"
