"""Wrong shapes of containers, places and Dask configuration, refused by the API server itself, with words that help."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.schema import Body, Server, load, merged

pytestmark = pytest.mark.cluster

A_KEY = "write a key as Dask documents it: lower-case words with '-' between them and '.' between levels"
ALLOWED = (
    "of Dask's configuration these may be set, with all below what ends with a dot, and no others: array., awkward."
)
A_VALUE = "write the value as text in one line, such as '20', 'true', 30s or 128MiB"
A_NAME = "write a name: lower-case letters, digits and '-', starting with a letter; no path, no upper case"
WORKERS = {"name": "cpu", "nodePool": "cpu", "workers": {"max": 1}}
FIXED = "cannot be changed, only pools: create a new session"

# What the session's parts find each other by, what runs code at a start, what lets others in, and what ends a program.
OWN = {
    "distributed.scheduler.preload": "['/tmp/evil.py']",
    "distributed.scheduler.preload-argv": "[]",
    "distributed.worker.preload": "/tmp/evil.py",
    "distributed.nanny.preload": "/tmp/evil.py",
    "distributed.client.preload": "/tmp/evil.py",
    "distributed.nanny.environ": "{'LD_PRELOAD': '/tmp/evil.so'}",
    "distributed.nanny.pre-spawn-environ.LD_PRELOAD": "/tmp/evil.so",
    "distributed.client.security-loader": "evil.load",
    "distributed.comm.tls.ca-file": "/tmp/ca.pem",
    "distributed.comm.require-encryption": "true",
    "distributed.comm.default-scheme": "ucx",
    "distributed.comm.socket-backlog": "1",
    "distributed.scheduler.http.routes": "[]",
    "distributed.worker.http.routes": "[]",
    "distributed.scheduler.contact-address": "tcp://evil.example.org:8786",
    "distributed.scheduler.dashboard.tls.key": "/tmp/key",
    "distributed.scheduler.blocked-handlers": "['retire_workers']",
    "distributed.scheduler.allowed-imports": "['os']",
    "distributed.scheduler.idle-timeout": "1s",
    "distributed.worker.blocked-handlers": "['close_gracefully']",
    "distributed.worker.daemon": "false",
    "distributed.worker.lifetime.duration": "1 minute",
    "distributed.worker.resources.GPU": "8",
    "distributed.dashboard.link": "http://evil.example.org",
    "distributed.deploy.lost-worker-timeout": "1s",
    "distributed.adaptive.maximum": "1000",
    "distributed.admin.event-loop": "uvloop",
    "distributed.admin.pdb-on-err": "true",
    "scheduler-address": "tcp://evil.example.org:8786",
    "scheduler": "threads",
    "temporary-directory": "/home/analysis",
    "internal-inherit-config": "x",
    "config": "/tmp",
    "root-config": "/tmp",
    "worker-name": "x",
    "logging.distributed": "debug",
    # What begins like one that may be set, and is another.
    "distributed.scheduler.allowed-failures-x": "1",
    "distributed.scheduler.bandwidth.x": "1",
    "arrays.chunk-size": "1",
    "array": "1",
}


def spec(**found: Any) -> Body:
    return {"spec": found}


def dask(**found: Any) -> Body:
    return spec(dask={"pools": [WORKERS], **found})


def config(**found: Any) -> Body:
    return dask(config=found)


def pools(engine: str, **found: Any) -> Body:
    return spec(**{engine: {"pools": [WORKERS | found]}})


def size(**found: Any) -> Body:
    return spec(sizes=[{"name": "a", "cpu": "1", "memory": "4Gi", **found}])


SESSIONS: dict[str, tuple[Body, str]] = {
    **{f"of the session's own: {key}": (config(**{key: value}), "") for key, value in OWN.items()},
    "a key beside a good one": (config(**{"array.chunk-size": "1MiB", "distributed.nanny.preload": "x"}), ALLOWED),
    "a key with underscores": (config(**{"distributed.scheduler.allowed_failures": "1"}), A_KEY),
    "a key as its variable": (config(DASK_DISTRIBUTED__SCHEDULER__PRELOAD="x"), A_KEY),
    "a key in upper case": (config(**{"array.Chunk-size": "1"}), A_KEY),
    "a key that ends with a dot": (config(**{"array.": "1"}), A_KEY),
    "a key with an empty level": (config(**{"array..chunk-size": "1"}), A_KEY),
    "a key with a line break": (config(**{"array.chunk-size\nA": "1"}), A_KEY),
    "a key of 101 characters": (config(**{"array." + "a" * 95: "1"}), A_KEY),
    "one key within another": (
        config(**{"distributed.worker.memory.target": "1", "distributed.worker.memory.target.x": "1"}),
        "one key is the beginning of another: leave one of them out",
    ),
    "33 keys": (config(**{f"array.a{n}": "1" for n in range(33)}), "must have at most 32 items"),
    "a value that is a number": (config(**{"array.chunk-size": 7}), 'must be of type string: "integer"'),
    "a value of nothing": (config(**{"array.chunk-size": ""}), "should be at least 1 chars long"),
    "a value of two lines": (config(**{"array.chunk-size": "1\n2"}), A_VALUE),
    "a value with NUL": (config(**{"array.chunk-size": "1\0"}), A_VALUE),
    "a value of 201 characters": (config(**{"array.chunk-size": "1" * 201}), "Too long: may not be more than 200"),
    "scheduler of an image": (dask(scheduler={"image": "evil"}), 'unknown field "spec.dask.scheduler.image"'),
    "scheduler of a quantity": (dask(scheduler={"size": "4Gi"}), A_NAME),
    "scheduler on a selector": (dask(scheduler={"nodePool": "a=b"}), A_NAME),
    "run on a selector": (spec(run={"nodePool": "kubernetes.io/hostname=a"}), A_NAME),
    "spark on a selector": (spec(spark={"pools": [WORKERS], "nodePool": "a=b"}), A_NAME),
    "cache on a selector": (spec(xcache={"placement": "Session", "nodePool": "a=b"}), A_NAME),
    "a sidecar on nodes of its own": (
        spec(xcache={"nodePool": "cpu"}),
        "nodePool needs placement: Session; a sidecar is where the pod is that it serves",
    ),
    **{
        f"{engine}: {case}": (pools(engine, **{field: value}), says)
        for engine in ("dask", "spark")
        for case, field, value, says in (
            ("no threads", "threadsPerWorker", 0, "should be greater than or equal to 1"),
            ("257 threads", "threadsPerWorker", 257, "should be less than or equal to 256"),
            ("threads in quotes", "threadsPerWorker", "2", 'must be of type integer: "string"'),
            ("a share of 9 percent", "memoryPercent", 9, "should be greater than or equal to 10"),
            ("a share of all memory", "memoryPercent", 100, "should be less than or equal to 95"),
            ("half a percent", "memoryPercent", 50.5, "must be of type integer"),
        )
    },
}
PROFILES: dict[str, tuple[Body, str]] = {
    "a CPU limit below the request": (size(cpuLimit="500m"), "cpuLimit is below cpu: write at least as much"),
    "a CPU limit just below": (size(cpuLimit="0.999"), "cpuLimit is below cpu: write at least as much"),
    "disk without unit": (size(ephemeralStorage="10"), "this is less than 1Mi: add a unit, such as 10Gi"),
    "disk that is a number": (size(ephemeralStorage=10), 'must be of type string: "integer"'),
    "shared memory in words": (size(sharedMemory="half"), "write a size such as 10Gi or 512Mi"),
    "more shared memory than memory": (
        size(sharedMemory="5Gi"),
        "sharedMemory is more than memory, of which it is a part: write at most as much",
    ),
    "pull secrets elsewhere": (spec(imagePullSecrets=["kube-system/pull"]), "write the name of a Secret; no path"),
    "pull secrets as the API has them": (
        spec(imagePullSecrets=[{"name": "pull"}]),
        'unknown field "spec.imagePullSecrets[0].name"',
    ),
    "a pull secret twice": (spec(imagePullSecrets=["pull", "pull"]), "Duplicate value"),
    "nine pull secrets": (spec(imagePullSecrets=[f"s{n}" for n in range(9)]), "must have at most 8 items"),
    "a priority that is a number": (spec(priorityClassName=1000), 'must be of type string: "integer"'),
    "a priority in words": (spec(priorityClassName="very high"), "write the name of a PriorityClass"),
    "default node pool not there": (spec(defaults={"nodePool": "other"}), "defaults.nodePool must be the name of one"),
}
CHANGES: dict[str, tuple[Body, str]] = {
    "scheduler": (spec(dask={"scheduler": {"size": "small"}}), f"scheduler {FIXED}"),
    "scheduler removed": (spec(dask={"scheduler": None}), f"scheduler {FIXED}"),
    "Dask's configuration": (spec(dask={"config": {"array.chunk-size": "1MiB"}}), f"config {FIXED}"),
    "Dask's configuration removed": (spec(dask={"config": None}), f"config {FIXED}"),
    "nodes of the run": (spec(run={"nodePool": "other"}), "run cannot be changed, added or removed"),
    "nodes of Spark's server": (spec(spark={"nodePool": "other"}), f"nodePool {FIXED}"),
}


@pytest.mark.parametrize("case", SESSIONS)
def test_a_wrong_session_is_refused(server: Server, case: str) -> None:
    patch, says = SESSIONS[case]
    answer = server.create(merged(load("session-minimal.yaml"), patch))
    assert answer.code in {400, 422}, answer.body
    # A name with capitals is no key at all.
    assert (says or (A_KEY if "LD_PRELOAD" in case or "GPU" in case else ALLOWED)) in answer.message


@pytest.mark.parametrize("case", PROFILES)
def test_a_wrong_profile_is_refused(server: Server, case: str) -> None:
    patch, says = PROFILES[case]
    answer = server.create(merged(load("profile-minimal.yaml"), patch))
    assert answer.code in {400, 422}, answer.body
    assert says in answer.message


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_what_is_immutable_is_refused(server: Server, full: str, case: str) -> None:
    patch, says = CHANGES[case]
    answer = server.patch(full, patch)
    assert answer.code == 422, answer.body
    assert says in answer.message


@pytest.mark.parametrize("field", [{"scheduler": {"size": "small"}}, {"config": {"array.chunk-size": "1MiB"}}])
def test_what_a_scheduler_is_started_with_cannot_be_added_later(server: Server, field: Body) -> None:
    kept = server.keep(merged(load("session-interactive.yaml"), {"metadata": {"name": f"later-{next(iter(field))}"}}))
    answer = server.patch(kept, spec(dask=field))
    assert answer.code == 422, answer.body
    assert FIXED in answer.message


@pytest.mark.parametrize("shape", [{"threadsPerWorker": 2}, {"memoryPercent": 50}])
def test_the_shape_of_a_pool_may_be_edited(server: Server, full: str, shape: Body) -> None:
    answer = server.patch(full, spec(dask={"pools": [WORKERS | shape]}))
    assert answer.code == 200, answer.message
