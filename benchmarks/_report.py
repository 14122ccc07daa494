"""Numbers as a table on the terminal, as JSON, and in the README."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from kubernetes import client as kube
from kubernetes import config
from rich.console import Console

from benchmarks import _tables
from benchmarks._loss import DATA, HELD, Loss
from benchmarks._requests import Requests
from benchmarks._tables import HERE, Numbers, Row, ratio, seconds
from local_cluster.settings import KUBECONFIG

BEGIN, END = "<!-- numbers: written by benchmarks.scaling -->", "<!-- end of the numbers -->"


@dataclass(frozen=True)
class Step:
    """One change of the number of workers.

    Attributes
    ----------
    scheduler
        Seconds until the scheduler had exactly so many workers, and kept them.
    cluster
        Seconds until there were as many Deployments and ready pods, and none on its way out.
    came
        Workers that registered with the scheduler.
    """

    before: int
    after: int
    scheduler: float | None
    cluster: float | None
    came: int
    requests: Requests


@dataclass(frozen=True)
class Found:
    """What one way did."""

    title: str
    steps: Sequence[Step]
    loss: Loss


STEP_HEAD = (
    *("step", "way", "scheduler is right", "pods are right", "workers that came"),
    *("reads", "writes", "reads + writes of af-operator", "of dask-operator"),
)
LOSS_HEAD = ("", "AnalysisSession", "dask-kubernetes")


def step_rows(found: Sequence[Found]) -> Iterator[Row]:
    """Yield a row for each step and way, and one with the ratios of the first way to the second."""
    for steps in zip(*(f.steps for f in found), strict=True):
        name = f"{steps[0].before} → {steps[0].after}"
        yield from (_step_row(name, f.title, step) for f, step in zip(found, steps, strict=True))
        one, two = steps
        ratios = ((one.scheduler, two.scheduler), (one.cluster, two.cluster), (one.came, two.came))
        requests = ((one.requests.read, two.requests.read), (one.requests.written, two.requests.written))
        yield name, "ratio", *(ratio(*pair) for pair in (*ratios, *requests)), "", ""


def loss_rows(found: Sequence[Found]) -> Iterator[Row]:
    """Yield a row for each count of the loss test."""
    losses = [f.loss for f in found]
    yield "the scheduler is right after", *(seconds(each.settled.scheduler) for each in losses)
    yield "pods are right after", *(seconds(each.settled.cluster) for each in losses)
    counts = {
        f"of {HELD} results: recomputed": "recomputed",
        f"of {HELD} results: lost": "lost",
        f"of {HELD} results: errors": "errors",
        f"of {DATA} pieces of data: lost": "data_lost",
        "workers of the other group that went": "others_killed",
        "workers that came during the shrink": "came_back",
        f"workers left in the group (asked: {losses[0].asked})": "left",
        f"workers left in the other group (asked: {losses[0].others_asked})": "others_left",
    }
    for text, name in counts.items():
        yield text, *(str(getattr(each, name)) for each in losses)


def show(console: Console, found: Sequence[Found]) -> None:
    """Print both tables."""
    _tables.show(console, _both(found))


def write(found: Sequence[Found], load: float) -> None:
    """Write ``scaling.json`` and the numbers of the README."""
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions(), "load_before": load}
    body = about | {"ways": [asdict(each) for each in found]}
    _tables.write_json(HERE / "scaling.json", body)
    said = ", ".join(f"{name} {number}" for name, number in versions().items())
    text = f"{about['date']}, {about['machine']}; {said}.\n"
    _tables.put_between(BEGIN, END, text + _tables.markdown(_both(found)))


def machine() -> str:
    """Return the nodes in words."""
    nodes = kube.CoreV1Api(config.new_client_from_config(str(KUBECONFIG))).list_node().items
    sizes = [(node.status.capacity["cpu"], int(node.status.capacity["memory"].rstrip("Ki")) / 2**20) for node in nodes]
    each = ", ".join(f"{cpus} cores and {memory:.0f} GiB" for cpus, memory in sizes)
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} with {each} ({platform.system()} {platform.machine()})"


def versions() -> dict[str, str]:
    """Return the versions that matter."""
    return {name: version(name) for name in ("dask-kubernetes", "distributed", "kopf")}


def _both(found: Sequence[Found]) -> tuple[Numbers, Numbers]:
    return (
        Numbers("Scaling one group of workers", STEP_HEAD, tuple(step_rows(found))),
        Numbers("Loss test: one of two groups shrinks", LOSS_HEAD, tuple(loss_rows(found))),
    )


def _step_row(name: str, title: str, step: Step) -> Row:
    both = step.requests
    ours, theirs = (
        f"{both.reads[who] + both.probes[who]} + {both.writes[who]}" for who in ("af-operator", "dask-operator")
    )
    times = (seconds(step.scheduler), seconds(step.cluster))
    return name, title, *times, str(step.came), str(both.read), str(both.written), ours, theirs
