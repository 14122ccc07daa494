"""Wrong objects, refused by the API server itself, with words that say what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.schema import Body, Server, load, merged

pytestmark = pytest.mark.cluster

A_NAME = "write a name: lower-case letters, digits and '-', starting with a letter; no path, no upper case"
FILE_NAME = "a file name is letters, digits, '_', '-' and '.'"
KIB_256 = "the files are larger than 256 KiB in all: put them into the image, or into a ConfigMap"


def named(name: str) -> Body:
    return {"metadata": {"name": name}}


def spec(**patch: Any) -> Body:
    return {"spec": patch}


def run(**patch: Any) -> Body:
    return spec(run=patch)


def files(**found: str) -> Body:
    return run(source={"files": found})


def pool(**patch: Any) -> Body:
    base = {"name": "cpu", "nodePool": "cpu", "workers": {"min": 0, "max": 1}}
    return spec(dask={"pools": [merged(base, patch)]})


def spark(conf: Body | None = None, **patch: Any) -> Body:
    pools = [{"name": "cpu", "nodePool": "cpu", "workers": {"max": 1}}]
    return spec(spark={"pools": pools, **({"conf": conf} if conf else {}), **patch})


# Each would have the engine load, open or run what the session says, or take away a wall: reliability, of sessions.
DANGEROUS = {
    "spark.kubernetes.authenticate.driver.serviceAccountName": "af-operator",
    "spark.kubernetes.driver.volumes.hostPath.root.mount.path": "/host",
    "spark.kubernetes.executor.podTemplateFile": "/tmp/pod.yaml",
    "spark.jars": "http://evil.example.org/a.jar",
    "spark.jars.packages": "org.evil:evil:1",
    "spark.files": "/etc/passwd",
    "spark.submit.pyFiles": "/tmp/a.py",
    "spark.driver.extraJavaOptions": "-javaagent:/tmp/a.jar",
    "spark.executor.extraJavaOptions": "-javaagent:/tmp/a.jar",
    "spark.driver.defaultJavaOptions": "-javaagent:/tmp/a.jar",
    "spark.driver.extraClassPath": "/tmp/a.jar",
    "spark.executorEnv.LD_PRELOAD": "/tmp/a.so",
    "spark.pyspark.python": "/tmp/python",
    "spark.plugins": "org.evil.Plugin",
    "spark.extraListeners": "org.evil.Listener",
    "spark.sql.extensions": "org.evil.Extensions",
    "spark.sql.catalog.evil": "org.evil.Catalog",
    "spark.connect.grpc.interceptor.classes": "org.evil.Interceptor",
    "spark.connect.authenticate.token": "x",
    "spark.hadoop.fs.defaultFS": "http://evil.example.org",
    "spark.authenticate": "false",
    "spark.authenticate.secret": "x",
    "spark.network.crypto.enabled": "false",
    "spark.master": "spark://evil.example.org:7077",
    "spark.driver.host": "evil.example.org",
    "spark.ui.filters": "org.evil.Filter",
    "spark.dynamicAllocation.enabled": "false",
    "spark.executor.memory": "100g",
    "spark.worker.resource.gpu.discoveryScript": "/tmp/a",
}
OPTIONS = "these options of Spark may be set, and no others: spark.default.parallelism, spark.driver.maxResultSize"


def notebook(**found: Any) -> Body:
    return spec(mode="Interactive", run=None, notebook=found)


def home(**found: Any) -> Body:
    return spec(storage={"home": found})


def env(name: str, value: Any = "x") -> Body:
    return spec(env=[{"name": name, "value": value}])


SESSIONS: dict[str, tuple[Body, str]] = {
    **{f"spark option {name}": (spark({name: value}), OPTIONS) for name, value in DANGEROUS.items()},
    "spark option beside a good one": (spark({"spark.sql.shuffle.partitions": "8", "spark.jars": "x"}), OPTIONS),
    "spark option with a line break": (spark({"spark.locality.wait": "1s\nspark.jars x"}), "write the value as text"),
    "spark option with a space": (spark({"spark.locality.wait": "1s -javaagent:x"}), "write the value as text"),
    "spark option with a variable": (spark({"spark.locality.wait": "${env:HOME}"}), "write the value as text"),
    "spark option of nothing": (spark({"spark.locality.wait": ""}), "spec.spark.conf"),
    "spark option that is a number": (spark({"spark.sql.shuffle.partitions": 8}), "must be of type string"),
    "spark without pools": (spec(spark={}), "spec.spark.pools: Required value"),
    "spark pools empty": (spark(pools=[]), "spec.spark.pools in body should have at least 1 items"),
    "spark image of its own": (spark(image="evil"), 'unknown field "spec.spark.image"'),
    "variable of Spark": (env("SPARK_REMOTE"), "are set by the session itself"),
    "variable of PySpark": (env("PYSPARK_PYTHON"), "are set by the session itself"),
    "secret variable of Spark": (env("_SPARK_AUTH_SECRET"), "are set by the session itself"),
    # The name of the session.
    "name too long": (named("a" * 41), "metadata.name: Too long: may not be more than 40"),
    "name of 253 characters": (named("a" * 253), "metadata.name: Too long: may not be more than 40"),
    "name with a dot": (named("a.b"), "write lower-case letters, digits and '-', starting with a letter"),
    "name first a digit": (named("2026-zmumu"), "write lower-case letters, digits and '-', starting with a letter"),
    "name upper case": (named("Zmumu"), "must consist of lower case alphanumeric characters"),
    "name unicode": (named("zμμ"), "must consist of lower case alphanumeric characters"),
    "name a path": (named("../other"), "must consist of lower case alphanumeric characters"),
    "name empty": (named(""), "name or generateName is required"),
    # What is not there, and what is not known.
    "no spec": ({"spec": None}, "spec: Required value"),
    "no user": (spec(user=None), "spec.user: Required value"),
    "no mode": (spec(mode=None), "spec.mode: Required value"),
    "no command": (run(command=None), "spec.run.command: Required value"),
    "unknown field": (spec(podSpec={"hostNetwork": True}), 'unknown field "spec.podSpec"'),
    "misspelt field": (spec(lifeTimeSeconds=60), 'unknown field "spec.lifeTimeSeconds"'),
    "unknown field inside": (pool(image="evil"), 'unknown field "spec.dask.pools[0].image"'),
    "service account": (run(serviceAccountName="operator"), 'unknown field "spec.run.serviceAccountName"'),
    "wrong version": ({"apiVersion": "analysisfacility.io/v1"}, 'in version "v1" cannot be handled'),
    "spec is a list": ({"spec": []}, "spec in body must be of type object"),
    # User, profile, mode.
    "user empty": (spec(user=""), "spec.user in body should be at least 1 chars long"),
    "user too long": (spec(user="a" * 254), "spec.user: Too long: may not be more than 253"),
    "user with a newline": (spec(user="alice\nadmin"), "write the user as the API server knows them"),
    "user with markup": (spec(user="<script>"), "write the user as the API server knows them"),
    "user with an escape": (spec(user="alice\x1b[31m"), "write the user as the API server knows them"),
    "user with a space at its end": (spec(user="alice "), "write the user as the API server knows them"),
    "user two dots": (spec(user=".."), "a user cannot be called '.' or '..'"),
    "user a number": (spec(user=7), 'spec.user in body must be of type string: "integer"'),
    "profile a path": (spec(profile="../admin"), A_NAME),
    "profile null inside quotes": (spec(profile=""), "spec.profile in body should be at least 1 chars long"),
    "mode unknown": (spec(mode="Batch"), 'supported values: "Interactive", "Headless"'),
    "mode lower case": (spec(mode="headless"), 'supported values: "Interactive", "Headless"'),
    "interactive with run": (spec(mode="Interactive"), "run needs mode: Headless; Interactive has no run"),
    "headless without run": (spec(run=None), "mode: Headless needs run, with at least a command"),
    "suspend a string": (spec(suspend="yes"), 'spec.suspend in body must be of type boolean: "string"'),
    # Images and sizes are names.
    "image a reference": (spec(image="docker.io/evil/miner:latest"), A_NAME),
    "image upper case": (spec(image="Analysis"), A_NAME),
    "image unicode": (spec(image="аnalysis"), A_NAME),  # noqa: RUF001  the first letter is Cyrillic
    "image of a megabyte": (spec(image="a" * 1_000_000), "spec.image: Too long: may not be more than 40"),
    "size a quantity": (run(size="2Gi"), A_NAME),
    # The run.
    "command empty": (run(command=[]), "spec.run.command in body should have at least 1 items"),
    "command a string": (run(command="python a.py"), 'spec.run.command in body must be of type array: "string"'),
    "command of nothing": (run(command=[""]), "the command's first item is the program"),
    "command of 100000 items": (
        run(command=["a"] * 100_000),
        "spec.run.command: Too many: 100000: must have at most 64",
    ),
    "command with NUL": (run(command=["a\0b"]), "remove the NUL characters"),
    "argument too long": (run(command=["a", "b" * 4097]), "spec.run.command[1]: Too long: may not be more than 4096"),
    "backoff negative": (run(backoffLimit=-1), "spec.run.backoffLimit in body should be greater than or equal to 0"),
    "backoff huge": (run(backoffLimit=2**31), "spec.run.backoffLimit in body should be less than or equal to 10"),
    "backoff a fraction": (run(backoffLimit=1.5), 'spec.run.backoffLimit in body must be of type integer: "number"'),
    "deadline zero": (run(activeDeadlineSeconds=0), "should be greater than or equal to 1"),
    "deadline in words": (run(activeDeadlineSeconds="1h"), "must be of type integer"),
    # The notebook.
    "notebook with a run": (spec(notebook={}), "notebook needs mode: Interactive; a Headless session has a run"),
    "notebook of an image": (notebook(image="evil"), 'unknown field "spec.notebook.image"'),
    "server a path": (notebook(serverName="../bob"), "write letters, digits, '-', '_' and '.'"),
    "server with a slash": (notebook(serverName="a/b"), "write letters, digits, '-', '_' and '.'"),
    "server with a space": (notebook(serverName="a b"), "write letters, digits, '-', '_' and '.'"),
    "server only dots": (notebook(serverName=".."), "beginning and ending with a letter or digit; or nothing"),
    "server too long": (notebook(serverName="a" * 101), "spec.notebook.serverName: Too long: may not be more than 100"),
    # The source.
    "source empty": (run(source={}), "give either files or configMap, not both and not neither"),
    "source twice": (run(source={"files": {"a": ""}, "configMap": "a"}), "give either files or configMap"),
    "no files": (files(), "spec.run.source.files in body should have at least 1 properties"),
    "file a path": (files(**{"../../etc/passwd": ""}), FILE_NAME),
    "file absolute": (files(**{"/etc/passwd": ""}), FILE_NAME),
    "file hidden": (files(**{".bashrc": ""}), FILE_NAME),
    "file of no name": (files(**{"": ""}), FILE_NAME),
    "file name too long": (files(**{"a" * 101: ""}), "at most 100 characters"),
    "file over 256 KiB": (files(a="x" * 262_145), "Too long: may not be more than 262144"),
    "files over 256 KiB": (files(a="x" * 200_000, b="x" * 62_145), KIB_256),
    "files over 256 KiB in bytes": (files(a="é" * 131_073), KIB_256),
    "files of 2.9 MB": (files(**{f"f{i}": "x" * 145_000 for i in range(20)}), KIB_256),
    "65 files": (files(**{f"f{i}": "" for i in range(65)}), "must have at most 64 items"),
    "binary as a list": (run(source={"files": {"a": [1, 2]}}), "must be of type string"),
    "configMap elsewhere": (run(source={"configMap": "kube-system/secrets"}), "write the name of a ConfigMap"),
    # Dask.
    "no pools": (spec(dask={}), "spec.dask.pools: Required value"),
    "pools empty": (spec(dask={"pools": []}), "spec.dask.pools in body should have at least 1 items"),
    "nine pools": (
        spec(dask={"pools": [{"name": f"p{i}", "nodePool": "cpu", "workers": {"max": 1}} for i in range(9)]}),
        "spec.dask.pools: Too many: 9: must have at most 8 items",
    ),
    "pools of one name": (
        spec(dask={"pools": [{"name": "cpu", "nodePool": f"n{i}", "workers": {"max": 1}} for i in range(2)]}),
        'spec.dask.pools[1]: Duplicate value: {"name":"cpu"}',
    ),
    "pool of no name": (pool(name=None), "spec.dask.pools[0].name: Required value"),
    "pool on no nodes": (pool(nodePool=None), "spec.dask.pools[0].nodePool: Required value"),
    "node pool a selector": (pool(nodePool="kubernetes.io/hostname=master"), A_NAME),
    "pool without workers": (pool(workers=None), "spec.dask.pools[0].workers: Required value"),
    "workers a number": (pool(workers=4), 'must be of type object: "integer"'),
    "workers without max": (pool(workers={"max": None}), "spec.dask.pools[0].workers.max: Required value"),
    "min over max": (pool(workers={"min": 5, "max": 4}), "min must not be larger than max"),
    "default min over max": (pool(workers={"min": None, "max": 0}), "min is 1 where it is left out"),
    "workers negative": (pool(workers={"max": -1}), "workers.max in body should be greater than or equal to 0"),
    "workers a billion": (pool(workers={"max": 10**9}), "workers.max in body should be less than or equal to 1000"),
    "workers 2^63": (pool(workers={"max": 2**63}), "workers.max in body should be less than or equal to 1000"),
    "workers in quotes": (pool(workers={"max": "3"}), 'must be of type integer: "string"'),
    "half a GPU": (pool(gpusPerWorker=0.5), "must be of type integer"),
    "17 GPUs": (pool(gpusPerWorker=17), "gpusPerWorker in body should be less than or equal to 16"),
    # XCache.
    "placement unknown": (spec(xcache={"placement": "Node"}), 'supported values: "Sidecar", "Session"'),
    "cache size a number": (spec(xcache={"size": 10}), 'spec.xcache.size in body must be of type string: "integer"'),
    "cache size without unit": (spec(xcache={"size": "10"}), "this is less than 1Mi: add a unit, such as 10Gi"),
    "cache size zero": (spec(xcache={"size": "0Gi"}), "this is less than 1Mi: add a unit, such as 10Gi"),
    "cache size in GB": (spec(xcache={"size": "10 GB"}), "write a size such as 10Gi or 512Mi"),
    "cache size negative": (spec(xcache={"size": "-1Gi"}), "write a size such as 10Gi or 512Mi"),
    "cache size in milli-bytes": (spec(xcache={"size": "10m"}), "write a size such as 10Gi or 512Mi"),
    "cache size Arabic": (spec(xcache={"size": "\u0661Gi"}), "write a size such as 10Gi or 512Mi"),
    "cache size 1e100": (spec(xcache={"size": "1e100"}), "write a size such as 10Gi or 512Mi"),
    "cache origin": (spec(xcache={"origin": "169.254.169.254"}), 'unknown field "spec.xcache.origin"'),
    # Environment.
    "env LD_PRELOAD": (env("LD_PRELOAD"), "are set by the session itself: choose another name"),
    "env KUBERNETES_SERVICE_HOST": (env("KUBERNETES_SERVICE_HOST"), "are set by the session itself"),
    "env DASK_SCHEDULER_ADDRESS": (env("DASK_SCHEDULER_ADDRESS"), "are set by the session itself"),
    "env PATH": (env("PATH"), "HOME, PATH and names that begin with"),
    "env with a dash": (env("MY-VAR"), "write the name of an environment variable"),
    "env first a digit": (env("1VAR"), "write the name of an environment variable"),
    "env value a number": (env("N", 7), 'spec.env[0].value in body must be of type string: "integer"'),
    "env value from a secret": (
        spec(env=[{"name": "A", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        'unknown field "spec.env[0].valueFrom"',
    ),
    "env value with NUL": (env("A", "a\0b"), "remove the NUL characters"),
    "env value too long": (env("A", "x" * 4097), "spec.env[0].value: Too long: may not be more than 4096"),
    "env twice": (
        spec(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        'spec.env[1]: Duplicate value: {"name":"A"}',
    ),
    "env of 100000": (
        spec(env=[{"name": "A", "value": ""}] * 100_000),
        "spec.env: Too many: 100000: must have at most 64 items",
    ),
    # Times.
    "lifetime zero": (spec(lifetimeSeconds=0), "spec.lifetimeSeconds in body should be greater than or equal to 1"),
    "lifetime over a year": (spec(lifetimeSeconds=31_536_001), "should be less than or equal to 31536000"),
    "lifetime ISO 8601": (spec(lifetimeSeconds="P1D"), "must be of type integer"),
    "ttl negative": (spec(ttlSecondsAfterFinished=-1), "should be greater than or equal to 0"),
    # The whole object.
    "more than the server reads": (files(a="x" * 4_000_000), "Request entity too large"),
}

PROFILES: dict[str, tuple[Body, str]] = {
    "no images": (spec(images=None), "spec.images: Required value"),
    "images empty": (spec(images=[]), "spec.images in body should have at least 1 items"),
    "image not a reference": (spec(images=[{"name": "a", "image": "my image"}]), "write an image reference"),
    "image with half a digest": (spec(images=[{"name": "a", "image": "a@sha256:0123"}]), "write an image reference"),
    "images of one name": (spec(images=[{"name": "a", "image": "a"}] * 2), "Duplicate value"),
    "size without memory": (spec(sizes=[{"name": "a", "cpu": "1"}]), "spec.sizes[0].memory: Required value"),
    "memory without unit": (spec(sizes=[{"name": "a", "cpu": "1", "memory": "4"}]), "add a unit, such as 10Gi"),
    "no cores": (spec(sizes=[{"name": "a", "cpu": "0", "memory": "4Gi"}]), "write more than 0 cores"),
    "cores in words": (spec(sizes=[{"name": "a", "cpu": "two", "memory": "4Gi"}]), "write a number of cores"),
    "default image not there": (spec(defaults={"image": "other"}), "defaults.image must be the name of one of images"),
    "default size not there": (spec(defaults={"size": "other"}), "defaults.size must be the name of one of sizes"),
    "origin a URL": (spec(xcache={"image": "a", "origin": "root://a//"}), "write host:port, such as"),
    "results a path": (spec(results={"url": "/results"}), "write a URL without credentials"),
    "results with a password": (spec(results={"url": "s3://me:secret@host/b"}), "write a URL without credentials"),
    "node selector bad key": (
        spec(nodePools=[{"name": "a", "nodeSelector": {"a b": "c"}}]),
        "a key of nodeSelector is the key of a node's label",
    ),
    "exists with value": (
        spec(nodePools=[{"name": "a", "tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}]),
        "operator Exists takes no value",
    ),
    "GPU resource a word": (spec(nodePools=[{"name": "a", "gpuResource": "gpu"}]), "such as nvidia.com/gpu"),
    "CPU workers on nodes without GPUs": (spec(nodePools=[{"name": "a", "cpuWorkers": True}]), "set gpuResource, or"),
    "home of a class in upper case": (home(storageClassName="Fast"), "write the name of a StorageClass"),
    "home of an empty class": (home(storageClassName=""), "storageClassName in body should be at least 1 chars long"),
    "home without unit": (home(size="10"), "this is less than 1Mi: add a unit, such as 10Gi"),
    "home read only": (home(accessMode="ReadOnlyMany"), 'supported values: "ReadWriteOnce", "ReadWriteMany"'),
    "home on the node": (home(hostPath="/home"), 'unknown field "spec.storage.home.hostPath"'),
    "limit negative": (spec(limits={"gpus": -1}), "spec.limits.gpus in body should be greater than or equal to 0"),
    "unknown limit": (spec(limits={"cpus": 1}), 'unknown field "spec.limits.cpus"'),
    "name too long": (named("a" * 41), "metadata.name: Too long: may not be more than 40"),
}


@pytest.mark.parametrize("case", SESSIONS)
def test_a_wrong_session_is_refused(server: Server, case: str) -> None:
    patch, says = SESSIONS[case]
    base = load("session-minimal.yaml")
    answer = server.create(merged(base, patch))
    assert answer.code in {400, 413, 422}, answer.body
    assert says in answer.message


@pytest.mark.parametrize("case", PROFILES)
def test_a_wrong_profile_is_refused(server: Server, case: str) -> None:
    patch, says = PROFILES[case]
    answer = server.create(merged(load("profile-minimal.yaml"), patch))
    assert answer.code in {400, 422}, answer.body
    assert says in answer.message


CHANGES: dict[str, tuple[Body, str]] = {
    "profile": (spec(profile="other"), "profile cannot be changed: create a new session with the profile you want"),
    "profile left out, which means default": (spec(profile=None), "profile cannot be changed"),
    "user": (spec(user="bob"), "user cannot be changed: create a new session with the user you want"),
    "mode": (spec(mode="Interactive", run=None), "mode cannot be changed: create a new session"),
    "image": (spec(image="other"), "image cannot be changed, added or removed: create a new session"),
    "image removed": (spec(image=None), "image cannot be changed, added or removed: create a new session"),
    "command": (run(command=["b"]), "run cannot be changed, added or removed: create a new session"),
    "a default inside run": (run(backoffLimit=3), "run cannot be changed, added or removed"),
    "run removed": (spec(run=None), "run cannot be changed, added or removed"),
    "xcache": (spec(xcache={"size": "20Gi"}), "xcache cannot be changed, added or removed: create a new session"),
    "xcache removed": (spec(xcache=None), "xcache cannot be changed, added or removed"),
    "env": (env("A", "2"), "env cannot be changed, added or removed: create a new session"),
    "env removed": (spec(env=None), "env cannot be changed, added or removed"),
    "dask removed": (spec(dask=None), "dask cannot be added or removed, only its pools changed"),
    "spark removed": (spec(spark=None), "spark cannot be added or removed, only its pools changed"),
    "spark size": (spec(spark={"size": "medium"}), "size cannot be changed, only pools: create a new session"),
    "spark option": (
        spec(spark={"conf": {"spark.speculation": "true"}}),
        "conf cannot be changed, only pools: create a new session",
    ),
    "spark options removed": (spec(spark={"conf": None}), "conf cannot be changed, only pools: create a new session"),
}
ADDED: dict[str, tuple[Body, str]] = {
    "image": (spec(image="other"), "image cannot be changed, added or removed"),
    "xcache": (spec(xcache={}), "xcache cannot be changed, added or removed"),
    "env": (env("A"), "env cannot be changed, added or removed"),
    "empty env": (spec(env=[]), "env cannot be changed, added or removed"),
    "notebook": (spec(notebook={}), "notebook cannot be changed, added or removed"),
    "source": (files(a="b"), "run cannot be changed, added or removed"),
    "dask": (pool(), "dask cannot be added or removed"),
    "spark": (spark(), "spark cannot be added or removed"),
}
ALLOWED: dict[str, Body] = {
    "suspend": spec(suspend=True),
    "another pool": spec(
        dask={
            "pools": [
                {"name": "cpu", "nodePool": "cpu", "workers": {"max": 1}},
                {"name": "gpu", "nodePool": "gpu", "workers": {"max": 1}},
            ]
        }
    ),
    "more workers": pool(workers={"max": 8}),
    "more workers of Spark": spec(
        spark={"pools": [{"name": "cpu", "nodePool": "cpu", "size": "medium", "workers": {"min": 1, "max": 8}}]}
    ),
    "longer lifetime": spec(lifetimeSeconds=100_000),
    "lifetime removed": spec(lifetimeSeconds=None),
    "ttl": spec(ttlSecondsAfterFinished=0),
    "labels": {"metadata": {"labels": {"a": "b"}}},
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_of_what_is_immutable_is_refused(server: Server, full: str, case: str) -> None:
    patch, says = CHANGES[case]
    answer = server.patch(full, patch)
    assert answer.code == 422, answer.body
    assert says in answer.message


@pytest.mark.parametrize("case", ADDED)
def test_an_immutable_field_cannot_be_added_later(server: Server, stored: str, case: str) -> None:
    patch, says = ADDED[case]
    answer = server.patch(stored, patch)
    assert answer.code == 422, answer.body
    assert says in answer.message


@pytest.mark.parametrize("case", ALLOWED)
def test_what_may_be_edited_is_accepted(server: Server, full: str, case: str) -> None:
    answer = server.patch(full, ALLOWED[case])
    assert answer.code == 200, answer.message
