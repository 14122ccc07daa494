"""Scaling of Dask workers: a session's pools side by side with dask-kubernetes' own way, in one run.

Both have the same pods on the same cluster, one after the other. Nothing here is a gate: what counts is the ratio of
two numbers from one run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import click
from rich.console import Console

from benchmarks import _inside, _loss, _report
from benchmarks._eyes import Eyes, Settled, opened
from benchmarks._report import Found, Step
from benchmarks._requests import Log
from benchmarks._ways import POOLS, SIZE, PlainGroups, SessionPools, Way
from local_cluster import facility
from local_cluster.progress import Progress
from tests.support import catalogue
from tests.support.tenant import ENVIRONMENT, kubectl

STEPS = "0,20,5,10"
LIMIT = 180.0


@click.command()
@click.option("--steps", default=STEPS, show_default=True, help="Numbers of workers, one after the other.")
@click.option("--write/--no-write", default=True, help="Write scaling.json and the numbers of README.md.")
def main(steps: str, write: bool) -> None:
    """Measure both ways on the local cluster and print them side by side."""
    os.environ.update(ENVIRONMENT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is deleted
    numbers = [int(number) for number in steps.split(",")]
    console = Console(width=None if sys.stdout.isatty() else 120)
    load = round(os.getloadavg()[0], 1)  # before anything of ours runs
    progress = Progress(console)
    if not kubectl("get", "analysisprofile", "default", check=False).startswith("NAME"):
        facility.install(progress)
    with _profile() as profile, _namespace(progress) as namespace:
        session = SessionPools(namespace, profile)
        found = [_one(progress, namespace, session, numbers)]
        plain = PlainGroups(namespace, session.shape())
        _stop(progress, session)
        found.append(_one(progress, namespace, plain, numbers))
        _stop(progress, plain)
    _report.show(console, found)
    if foreign := sum(step.requests.elsewhere for each in found for step in each.steps):
        console.print(f"[yellow]Others were at work: {foreign} requests of the operators in other namespaces.[/yellow]")
    if write:
        _report.write(found, load)


def _one(progress: Progress, namespace: str, way: Way, numbers: Sequence[int]) -> Found:
    with progress.step(f"{way.title}: scheduler"):
        way.start()
    with opened(namespace, way.cluster) as eyes:
        log = Log()
        with log:
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
        begin = time.monotonic()
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
            self._settle(time.monotonic(), after, others)

    def _settle(self, begin: float, workers: int, others: int) -> Settled:
        wanted = dict(zip(map(self._way.group, POOLS), (workers, others), strict=True))
        return self._eyes.settle(wanted, begin, LIMIT)

    def _came(self) -> int:
        _, came, _ = self._eyes.client.run_on_scheduler(_inside.record)
        return len(came)


def _stop(progress: Progress, way: Way) -> None:
    with progress.step(f"{way.title}: deleted"):
        way.stop()


@contextmanager
def _profile() -> Iterator[str]:
    """Make a profile with tiny pods and room for many; gone at the end."""
    spec = catalogue.default_spec()
    cpu = next(pool for pool in spec["nodePools"] if pool["name"] == "cpu")
    changes = {
        "sizes": [SIZE],
        "defaults": spec["defaults"] | {"size": SIZE["name"]},
        "nodePools": [{key: value for key, value in cpu.items() if key != "maxWorkers"}],
        "limits": spec["limits"] | {"workers": 100, "gpus": 0},
    }
    with catalogue.profile(f"bench-{uuid.uuid4().hex[:8]}", **changes) as name:
        yield name


@contextmanager
def _namespace(progress: Progress) -> Iterator[str]:
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


if __name__ == "__main__":
    main()
