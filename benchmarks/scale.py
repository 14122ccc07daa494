"""Hundreds and thousands of sessions: how the operator creates, starts over and idles, side by side with a bare client.

Measured on control planes without nodes that this program starts itself: it needs no cluster and no root.
"""

from __future__ import annotations

import os
import signal
import sys

import click
from rich.console import Console

from benchmarks import _scale_numbers, _tables
from benchmarks._scale_measure import measure, measure_notebooks
from local_cluster.progress import Progress

SIZES = "300,1000,5000"
NOTEBOOKS = 200


@click.command()
@click.option("--sizes", default=SIZES, show_default=True, help="Numbers of sessions, one after the other.")
@click.option("--notebooks", default=NOTEBOOKS, show_default=True, help="Notebooks beside a slow Hub; 0 for none.")
@click.option("--write/--no-write", default=True, help="Write scale.json and the numbers of README.md.")
def main(sizes: str, notebooks: int, write: bool) -> None:
    """Measure each size, and print all of them beside what they should be."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    console = Console(width=None if sys.stdout.isatty() else 160)
    load = round(os.getloadavg()[0], 1)  # before anything of ours runs
    progress = Progress(console)
    beside = measure_notebooks(progress, notebooks) if notebooks else None
    found = []
    for number in sizes.split(","):
        found.append(measure(progress, int(number)))
        _tables.show(console, [_scale_numbers.table(found, beside)])
        if write:  # at once: the next size may be too much for this machine
            _scale_numbers.write(found, beside, load)


if __name__ == "__main__":
    main()
