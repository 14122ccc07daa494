"""Workers of Dask, three ways in one run: a session's pools with either engine, and dask-kubernetes' own way.

Nothing here is a gate: what counts is the ratio of two numbers from one run. There are three parts, each with numbers
of its own: real pods on the local cluster; one pool on simulated nodes; and what sessions cost their operators.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click
from rich.console import Console

from benchmarks import _cluster, _report, _sessions, _simulated, _simulated_report, _tables
from local_cluster.progress import Progress

PARTS = ("cluster", "simulated", "sessions")
STEPS = "0,20,5,10"
WORKERS = 1000
SESSIONS = 100


@dataclass(frozen=True)
class _Run:
    console: Console
    progress: Progress
    load: float
    write: bool

    def cluster(self, numbers: Sequence[int]) -> None:
        """Scale one pool on the local cluster."""
        found = _cluster.measure(self.progress, numbers)
        _report.show(self.console, found)
        if foreign := sum(step.requests.elsewhere for each in found for step in each.steps):
            self.console.print(f"[yellow]Others were at work: {foreign} requests of the operators elsewhere.[/yellow]")
        if self.write:
            _report.write(found, self.load)

    def simulated(self, workers: int) -> None:
        """Grow one pool on simulated nodes."""
        found = _simulated.measure(self.progress, workers)
        _tables.show(self.console, _simulated_report.growth_tables(found))
        if self.write:
            _simulated_report.write_growth(found, self.load)

    def sessions(self, number: int) -> None:
        """Make sessions where there is no node."""
        found = _sessions.measure(self.progress, number)
        _tables.show(self.console, _simulated_report.session_tables(found))
        if self.write:
            _simulated_report.write_sessions(found, self.load)


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this; may be given again.")
@click.option("--steps", default=STEPS, show_default=True, help="On the cluster: workers, one number after the other.")
@click.option("--workers", default=WORKERS, show_default=True, help="On simulated nodes.")
@click.option("--sessions", default=SESSIONS, show_default=True, help="Of which the cost is measured.")
@click.option("--write/--no-write", default=True, help="Write the JSON files and the numbers of README.md.")
def main(parts: Sequence[str], steps: str, workers: int, sessions: int, write: bool) -> None:
    """Measure the ways, and print them side by side."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is deleted
    console = Console(width=None if sys.stdout.isatty() else 160)
    # The load is of before anything of ours runs.
    run = _Run(console, Progress(console), round(os.getloadavg()[0], 1), write)
    wanted = parts or PARTS
    if "cluster" in wanted:
        run.cluster([int(number) for number in steps.split(",")])
    if "simulated" in wanted:
        run.simulated(workers)
    if "sessions" in wanted:
        run.sessions(sessions)


if __name__ == "__main__":
    main()
