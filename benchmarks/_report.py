"""Numbers of the ways as tables on the terminal, as JSON, and in the README; beside them what they should be."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from kubernetes import client as kube
from kubernetes import config
from rich.console import Console

from benchmarks import _tables
from benchmarks._engines import NATIVE, OWN_WAY
from benchmarks._loss import DATA, HELD, Loss
from benchmarks._requests import AF, CONTROLLERS, DASK, Requests
from benchmarks._tables import HERE, Numbers, Row, Target, ratio, seconds, targets
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
        Seconds until there were as many ready pods (and Deployments, where there are any), and none on its way out.
    came
        Workers that registered with the scheduler.
    """

    before: int
    after: int
    scheduler: float | None
    cluster: float | None
    came: int
    requests: Requests

    @property
    def name(self) -> str:
        """The change in words."""
        return f"{self.before} → {self.after}"

    def body(self) -> dict[str, Any]:
        """Return the numbers as JSON has them."""
        return {**vars(self), "requests": self.requests.body()}


@dataclass(frozen=True)
class Found:
    """What one way did."""

    title: str
    steps: Sequence[Step]
    loss: Loss

    def step(self, before: int, after: int) -> Step | None:
        """Return one of its steps, if it was taken."""
        return next((step for step in self.steps if (step.before, step.after) == (before, after)), None)


STEP_HEAD = (
    *("step", "way", "scheduler is right", "pods are right", "workers that came"),
    *("reads", "writes", "reads + writes of af-operator", "of dask-operator", "of Kubernetes' controllers"),
)
RATIO_HEAD = ("step", f"way, by {OWN_WAY}", "scheduler is right", "pods are right", "requests", "with controllers")


def step_rows(found: Sequence[Found]) -> Iterator[Row]:
    """Yield a row for each step and way."""
    for steps in zip(*(f.steps for f in found), strict=True):
        yield from (_step_row(f.title, step) for f, step in zip(found, steps, strict=True))


def ratio_rows(found: Sequence[Found]) -> Iterator[Row]:
    """Yield a row for each step and way, with its ratios to dask-kubernetes' own."""
    own = next(f for f in found if f.title == OWN_WAY)
    others = [f for f in found if f is not own]
    for index, base in enumerate(own.steps):
        for each in others:
            step = each.steps[index]
            times = (step.scheduler, base.scheduler), (step.cluster, base.cluster)
            operators = step.requests.operators.total, base.requests.operators.total
            everybody = step.requests.all.total, base.requests.all.total
            yield step.name, each.title, *(ratio(*pair) for pair in (*times, operators, everybody))


def goals(found: Sequence[Found]) -> Iterator[Target]:
    """Yield what the engine `Native` is to reach beside dask-kubernetes' own way, in what was measured."""
    by_title = {f.title: f for f in found}
    if NATIVE not in by_title:
        return
    native, own = by_title[NATIVE], by_title[OWN_WAY]
    for before, after, most in ((0, 20, 0.9), (20, 5, 1.5)):
        step, base = native.step(before, after), own.step(before, after)
        if step and base:
            yield Target(f"{step.name}: time of its own way", _share(step.scheduler, base.scheduler), most)
            if not before:
                requests = step.requests.operators.total, base.requests.operators.total
                yield Target(f"{step.name}: requests of its own way", _share(*requests), 0.5)
    loss = native.loss
    gone = loss.recomputed + loss.lost + loss.errors + loss.data_lost + loss.others_killed
    yield Target("loss test: results and data lost or computed again, workers of the other group that went", gone, 0)


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


def tables(found: Sequence[Found]) -> Iterator[Numbers]:
    """Yield all tables."""
    yield Numbers("Scaling one group of workers", STEP_HEAD, tuple(step_rows(found)))
    yield Numbers(f"The same by {OWN_WAY}", RATIO_HEAD, tuple(ratio_rows(found)))
    yield targets(f"What `{NATIVE}` is to reach", goals(found))
    head = ("", *(f.title for f in found))
    yield Numbers("Loss test: one of two groups shrinks", head, tuple(loss_rows(found)))


def show(console: Console, found: Sequence[Found]) -> None:
    """Print all tables."""
    _tables.show(console, tables(found))


def write(found: Sequence[Found], load: float) -> None:
    """Write ``scaling.json`` and the numbers of the README."""
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions(), "load_before": load}
    ways = [{"title": f.title, "steps": [s.body() for s in f.steps], "loss": asdict(f.loss)} for f in found]
    _tables.write_json(HERE / "scaling.json", about | {"ways": ways})
    said = ", ".join(f"{name} {number}" for name, number in versions().items())
    text = f"{about['date']}, {about['machine']}; {said}.\n"
    _tables.put_between(BEGIN, END, text + _tables.markdown(tables(found)))


def machine() -> str:
    """Return the nodes in words."""
    nodes = kube.CoreV1Api(config.new_client_from_config(str(KUBECONFIG))).list_node().items
    sizes = [(node.status.capacity["cpu"], int(node.status.capacity["memory"].rstrip("Ki")) / 2**20) for node in nodes]
    each = ", ".join(f"{cpus} cores and {memory:.0f} GiB" for cpus, memory in sizes)
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} with {each} ({platform.system()} {platform.machine()})"


def versions() -> Mapping[str, str]:
    """Return the versions that matter."""
    return {name: version(name) for name in ("dask-kubernetes", "distributed", "kopf")}


def _share(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _step_row(title: str, step: Step) -> Row:
    both = step.requests.operators
    each = (step.requests.of(who) for who in (AF, DASK, CONTROLLERS))
    times = (seconds(step.scheduler), seconds(step.cluster))
    requests = (f"{asked.read} + {asked.writes}" for asked in each)
    return step.name, title, *times, str(step.came), str(both.read), str(both.writes), *requests
