"""One analysis in four dialects, one session after the other, each on two workers, beside one core of plain uproot.

Nothing here is a gate but that all have the same counts: what counts is the ratio of two times from one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import _cluster, _report, _tables
from benchmarks._tables import HERE, Numbers, Row, ratio, seconds
from examples.dimuon import dimuon
from local_cluster.errors import ClusterError
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT
from tests.support.tenant import ENVIRONMENT

EXAMPLE = CHECKOUT / "examples" / "dimuon"
BEGIN, END = "<!-- numbers: written by benchmarks.dimuon -->", "<!-- end of the numbers -->"
LIMIT = 900

Answers = Mapping[str, Mapping[str, Any]]


@click.command()
@click.option("--write/--no-write", default=True, help="Write dimuon.json, dimuon.png and the numbers of README.md.")
def main(write: bool) -> None:
    """Measure the dialects, and print them side by side."""
    load = round(os.getloadavg()[0], 1)  # of before anything of ours runs
    console = Console(width=None if sys.stdout.isatty() else 160)
    answers = measure(Progress(console))
    _tables.show(console, [times(answers)])
    if write:
        write_numbers(answers, load)


def measure(progress: Progress) -> dict[str, Any]:
    """Run a session of each dialect, and return what they left.

    Raises
    ------
    ClusterError
        A session has not succeeded, or a dialect counts otherwise than the plain loop.
    """
    with _cluster.tenant(progress) as namespace, tempfile.TemporaryDirectory() as folder:
        for name in dimuon.DIALECTS:
            with progress.step(f"{name}: a session"):
                run(name, namespace, folder)
        answers = {name: json.loads(Path(folder, f"{name}.json").read_text()) for name in dimuon.DIALECTS}
    for name, answer in answers.items():
        if answer["histograms"] != answers["plain"]["histograms"]:
            raise ClusterError(f"{name} does not have the plain loop's counts")
    return answers


def run(dialect: str, namespace: str, folder: str) -> None:
    """Run one session as its user does, to its end; the session goes, what it left comes."""
    where = ("--include", "dimuon.py", "--namespace", namespace, "-o", folder, "--rm", "--timeout", str(LIMIT))
    argv = [sys.executable, "-m", "af_client.cli", "run", str(EXAMPLE / f"session-{dialect.lower()}.yaml"), *where]
    done = subprocess.run(argv, env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{dialect}: `af run` ended with {done.returncode}\n{done.stdout}{done.stderr}")


def times(answers: Answers) -> Numbers:
    """Return the times as a table; the last columns are multiples of what one core of plain uproot needs."""
    head = ("dialect", "workers", "first job", "cold cache", "warm cache", "cold, by the unit", "warm, by the unit")
    return Numbers("Times of the dialects", (*head, "runs on"), tuple(rows(answers)))


def rows(answers: Answers) -> Iterator[Row]:
    """Yield a row for each dialect."""
    unit = answers["plain"]["seconds"]["warm"]
    for name, answer in answers.items():
        each = [answer["seconds"][what] for what in ("start", "cold", "warm")]
        ratios = (ratio(value, unit) for value in each[1:])
        yield name, str(answer["workers"]), *map(seconds, each), *ratios, answer["versions"]


def write_numbers(answers: Answers, load: float) -> None:
    """Write ``dimuon.json``, ``dimuon.png``, and the numbers of the README."""
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": _report.machine(), "load_before": load}
    kept = [{name: value for name, value in each.items() if name != "histograms"} for each in answers.values()]
    _tables.write_json(HERE / "dimuon.json", about | {"dialects": kept})
    dimuon.draw_times(answers).savefig(HERE / "dimuon.png", dpi=150)
    text = f"{about['date']}, {about['machine']}; load before: {load}.\n"
    _tables.put_between(BEGIN, END, text + _tables.markdown([times(answers)]))


if __name__ == "__main__":
    main()
