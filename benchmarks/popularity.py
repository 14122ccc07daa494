"""Accesses counted by week and data set, in one session, of the same files: by Dask, by Spark, and by one core.

Nothing here is a gate but that all count alike: what counts is the ratio of two times from one run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import _tables
from benchmarks._report import machine
from benchmarks._tables import HERE, Numbers, Row, seconds
from local_cluster import facility
from local_cluster.demo import user_environment
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT
from tests.support.tenant import API

BEGIN, END = "<!-- numbers: written by benchmarks.popularity -->", "<!-- end of the numbers -->"
PROGRAM = HERE / "_popularity_inside.py"
MODULES = [CHECKOUT / "examples" / "popularity" / name for name in ("accesses.py", "features.py")]
ORIGIN = "origin.af-storage.svc.cluster.local:1094"
POOLS = {"pools": [{"name": "cpu", "nodePool": "cpu", "size": "medium", "workers": {"min": 2, "max": 2}}]}
UNIT = "one core"
SECONDS = 1500


def session(settings: Mapping[str, int]) -> dict[str, Any]:
    """Return the session in which all is measured."""
    values = {"ORIGIN": ORIGIN} | {name: str(value) for name, value in settings.items()}
    spec = {
        "mode": "Headless",
        "image": "spark",
        "run": {"command": ["python", PROGRAM.name], "size": "small", "activeDeadlineSeconds": SECONDS},
        "dask": POOLS,
        "spark": POOLS,
        "xcache": {"placement": "Session", "size": "1Gi"},
        "env": [{"name": name, "value": value} for name, value in values.items()],
        "ttlSecondsAfterFinished": 600,
    }
    return {
        "apiVersion": API,
        "kind": "AnalysisSession",
        "metadata": {"generateName": "bench-popularity-"},
        "spec": spec,
    }


def measure(settings: Mapping[str, int], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the session, and return what it has found."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "session.json")
        file.write_text(json.dumps(session(settings)))
        include = [word for path in (PROGRAM, *MODULES) for word in ("--include", str(path))]
        options = [*include, "-o", folder, "--timeout", str(SECONDS), "--rm"]
        argv = [sys.executable, "-m", "af_client.cli", "run", str(file), *options]
        subprocess.run(argv, env=environment, cwd=CHECKOUT, check=True)
        found: dict[str, Any] = json.loads(Path(folder, "popularity.json").read_text())
    return found


def rows(found: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row for each way."""
    unit = statistics.median(found["seconds"][UNIT]["then"])
    for name, times in found["seconds"].items():
        usual = statistics.median(times["then"])
        spread = f"{min(times['then']):.2f} to {max(times['then']):.2f} s"
        yield name, seconds(times["first"]), seconds(usual), spread, f"{usual / unit:.2f}"


def table(found: Mapping[str, Any]) -> Numbers:
    """Return all numbers as a table."""
    title = f"{found['accesses']:,} accesses counted by week and data set: {found['rows']:,} rows"
    return Numbers(title, ("way", "first time", "then, median", "from and to", f"by {UNIT}"), tuple(rows(found)))


@click.command()
@click.option("--rows", default=5_000_000, show_default=True, help="Accesses in the year.")
@click.option("--datasets", default=4_000, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Of which the median counts; one more goes before.")
@click.option("--write/--no-write", default=True, help="Write popularity.json and the numbers of README.md.")
def main(rows: int, datasets: int, rounds: int, write: bool) -> None:
    """Measure the ways, and print them side by side."""
    console, load = Console(width=None if sys.stdout.isatty() else 120), round(os.getloadavg()[0], 1)
    environment = user_environment(facility.install(Progress(console)))
    found = measure({"ROWS": rows, "DATASETS": datasets, "ROUNDS": rounds}, environment)
    numbers = table(found)
    _tables.show(console, [numbers])
    if write:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "load_before": load}
        _tables.write_json(HERE / "popularity.json", about | found)
        _tables.put_between(
            BEGIN, END, f"{about['date']}, {about['machine']}, load {load} before.\n" + _tables.markdown([numbers])
        )


if __name__ == "__main__":
    main()
