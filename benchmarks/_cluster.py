"""Measures the ways on the local cluster: the same pods, in one namespace, one way after the other."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from benchmarks import _inside, _loss
from benchmarks._engines import DASK_KUBERNETES, NATIVE
from benchmarks._eyes import Eyes, Settled, opened
from benchmarks._report import Found, Step
from benchmarks._requests import ON_CLUSTER, Log
from benchmarks._ways import POOLS, SIZE, PlainGroups, SessionPools, Way
from local_cluster import facility
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from tests.support import catalogue
from tests.support.tenant import ENVIRONMENT, kubectl

LIMIT = 180.0


def measure(progress: Progress, numbers: Sequence[int]) -> list[Found]:
    """Measure all ways, each with these numbers of workers one after the other.

    Raises
    ------
    ClusterError
        dask-kubernetes' operator does not run there.
    """
    os.environ.update(ENVIRONMENT)
    if not kubectl("get", "analysisprofile", "default", check=False).startswith("NAME"):
        facility.install(progress, dask_operator=True)
    _check_dask_operator()
    with tenant(progress) as namespace:
        with _profile(NATIVE) as profile:
            found = [_one(progress, namespace, SessionPools(namespace, NATIVE, profile), numbers)]
        with _profile(DASK_KUBERNETES) as profile:
            session = SessionPools(namespace, DASK_KUBERNETES, profile)
            with _started(progress, session):
                found.append(_measured(progress, namespace, session, numbers))
                plain = PlainGroups(namespace, session.shape())
        return [*found, _one(progress, namespace, plain, numbers)]


def _check_dask_operator() -> None:
    name = "deployment/dask-operator"
    said = kubectl("-n", facility.SYSTEM_NAMESPACE, "get", name, "-o", "jsonpath={.status.readyReplicas}", check=False)
    if said.strip() != "1":
        raise ClusterError(
            f"{name} does not run in {facility.SYSTEM_NAMESPACE}, and two of the ways are its: helm upgrade "
            f"--reuse-values --set daskOperator.enabled=true {facility.RELEASE} {facility.CHART}\n{said}"
        )


def _one(progress: Progress, namespace: str, way: Way, numbers: Sequence[int]) -> Found:
    with _started(progress, way):
        return _measured(progress, namespace, way, numbers)


@contextmanager
def _started(progress: Progress, way: Way) -> Iterator[None]:
    with progress.step(f"{way.title}: scheduler"):
        way.start()
    yield
    # Only of a way that went well: what another has left goes with the namespace.
    with progress.step(f"{way.title}: deleted"):
        way.stop()


def _measured(progress: Progress, namespace: str, way: Way, numbers: Sequence[int]) -> Found:
    with opened(namespace, way.names) as eyes:
        with Log(ON_CLUSTER) as log:
            bench = _Bench(progress, namespace, way, eyes, log)
            steps = [bench.step(*pair) for pair in pairwise(numbers)]
        few = min(number for number in numbers if number)
        bench.grow(numbers[-1], max(numbers), few)
        with progress.step(f"{way.title}: loss test"):
            loss = _loss.measure(way, eyes, few)
    return Found(way.title, steps, loss)


class _Bench:
    def __init__(self, progress: Progress, namespace: str, way: Way, eyes: Eyes, log: Log) -> None:
        self._progress, self._namespace, self._way, self._eyes, self._log = progress, namespace, way, eyes, log

    def step(self, before: int, after: int) -> Step:
        """Change the first pool, and wait until it is so."""
        came = self._came()
        self._log.since_last(self._namespace)
        begin = time.time()
        with self._progress.step(f"{self._way.title}: {before} → {after} workers"):
            self._way.scale(POOLS[0], after)
            settled = self._settle(begin, after, 0)
        requests = self._log.since_last(self._namespace)
        return Step(before, after, settled.scheduler, settled.cluster, self._came() - came, requests)

    def grow(self, before: int, after: int, others: int) -> None:
        """Make both pools as big as the loss test wants them."""
        with self._progress.step(f"{self._way.title}: {before} → {after} workers, {others} others"):
            self._way.scale(POOLS[0], after)
            self._way.scale(POOLS[1], others)
            self._settle(time.time(), after, others)

    def _settle(self, begin: float, workers: int, others: int) -> Settled:
        return self._eyes.settle(dict(zip(POOLS, (workers, others), strict=True)), begin, LIMIT)

    def _came(self) -> int:
        _, came, _ = self._eyes.client.run_on_scheduler(_inside.record)
        return len(came)


@contextmanager
def _profile(engine: str) -> Iterator[str]:
    """Make a profile with tiny pods and room for many; gone at the end."""
    spec = catalogue.default_spec()
    cpu = next(pool for pool in spec["nodePools"] if pool["name"] == "cpu")
    changes = {
        "sizes": [SIZE],
        "defaults": spec["defaults"] | {"size": SIZE["name"]},
        "nodePools": [{key: value for key, value in cpu.items() if key != "maxWorkers"}],
        "limits": spec["limits"] | {"workers": 100, "gpus": 0},
        "dask": {"engine": engine},
    }
    with catalogue.profile(f"bench-{uuid.uuid4().hex[:8]}", **changes) as name:
        yield name


@contextmanager
def tenant(progress: Progress) -> Iterator[str]:
    """Make a namespace as tenants have it; gone at the end, whatever the end is."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kubectl("create", "--filename=-", stdin=json.dumps(body))
    try:
        yield name
    finally:
        with progress.step("the namespace is gone"):
            kubectl("delete", "namespace", name, "--timeout=100s")
