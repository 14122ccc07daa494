"""Numbers as a table on the terminal, as JSON, and in the README."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from kubernetes import client as kube
from kubernetes import config
from rich.console import Console
from rich.table import Table

from benchmarks._loss import DATA, HELD, Loss
from benchmarks._requests import Requests
from local_cluster.settings import KUBECONFIG

HERE = Path(__file__).parent
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


Row = tuple[str, ...]
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
        yield name, "ratio", *(_ratio(*pair) for pair in (*ratios, *requests)), "", ""


def loss_rows(found: Sequence[Found]) -> Iterator[Row]:
    """Yield a row for each count of the loss test."""
    losses = [f.loss for f in found]
    yield "the scheduler is right after", *(_seconds(each.settled.scheduler) for each in losses)
    yield "pods are right after", *(_seconds(each.settled.cluster) for each in losses)
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
    for title, head, rows in _tables(found):
        table = Table(*head, title=title)
        for row in rows:
            table.add_row(*row, style="dim" if "ratio" in row else None)
        console.print(table)


def write(found: Sequence[Found], load: float) -> None:
    """Write ``scaling.json`` and the numbers of the README."""
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions(), "load_before": load}
    body = about | {"ways": [asdict(each) for each in found]}
    (HERE / "scaling.json").write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    readme = HERE / "README.md"
    head, _, rest = readme.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    readme.write_text(f"{head}{BEGIN}\n{_markdown(found, about)}{END}{tail}")


def machine() -> str:
    """Return the nodes in words."""
    nodes = kube.CoreV1Api(config.new_client_from_config(str(KUBECONFIG))).list_node().items
    sizes = [(node.status.capacity["cpu"], int(node.status.capacity["memory"].rstrip("Ki")) / 2**20) for node in nodes]
    each = ", ".join(f"{cpus} cores and {memory:.0f} GiB" for cpus, memory in sizes)
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} with {each} ({platform.system()} {platform.machine()})"


def versions() -> dict[str, str]:
    """Return the versions that matter."""
    return {name: version(name) for name in ("dask-kubernetes", "distributed", "kopf")}


def _tables(found: Sequence[Found]) -> Iterator[tuple[str, Row, Iterable[Row]]]:
    yield "Scaling one group of workers", STEP_HEAD, step_rows(found)
    yield "Loss test: one of two groups shrinks", LOSS_HEAD, loss_rows(found)


def _markdown(found: Sequence[Found], about: Mapping[str, object]) -> str:
    said = ", ".join(f"{name} {number}" for name, number in versions().items())
    text = f"{about['date']}, {about['machine']}; {said}.\n"
    for title, head, rows in _tables(found):
        lines = [head, tuple("---" for _ in head), *rows]
        text += f"\n**{title}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text


def _step_row(name: str, title: str, step: Step) -> Row:
    both = step.requests
    ours, theirs = (
        f"{both.reads[who] + both.probes[who]} + {both.writes[who]}" for who in ("af-operator", "dask-operator")
    )
    times = (_seconds(step.scheduler), _seconds(step.cluster))
    return name, title, *times, str(step.came), str(both.read), str(both.written), ours, theirs


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _ratio(one: float | None, two: float | None) -> str:
    return f"{one / two:.2f}" if one is not None and two else "–"  # noqa: RUF001
