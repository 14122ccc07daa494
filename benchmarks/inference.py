"""The inference server beside others and beside TensorFlow without any; one core for a server, one for its clients.

What counts are medians of one run; that all answer as TensorFlow itself does is checked first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmarks import _inference_numbers as numbers
from benchmarks import _inference_servers as servers
from benchmarks import _tables
from benchmarks._inference_load import TFAAS, Case, Load, Server, cores, median, send
from benchmarks._inference_triton import TRITON, triton
from local_cluster.progress import Progress

WARM_SECONDS = 2.0


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Of all measurements in turn; their medians count.")
@click.option("--kserve/--no-kserve", default=True, help="Measure KServe's server too, in an environment of its own.")
@click.option("--triton/--no-triton", default=True, help="Measure pytriton's Triton too, in another one.")
@click.option("--write/--no-write", default=True, help="Write inference.json, inference.png and README.md's numbers.")
def main(seconds: float, rounds: int, **asked: bool) -> None:
    """Measure the servers, and print them beside what ours is to reach."""
    load = round(os.getloadavg()[0], 1)  # before anything of ours runs
    if cores() < 2 or not shutil.which("h2load"):
        raise click.ClickException("needs two cores, and h2load (Debian: nghttp2-client)")
    others, write = {"KServe": asked["kserve"], "Triton": asked["triton"]}, asked["write"]
    console = Console(width=None if sys.stdout.isatty() else 180)
    progress = Progress(console)
    with tempfile.TemporaryDirectory() as folder:
        with progress.step("TensorFlow by itself"):
            direct = servers.direct(servers.environment(progress, servers.TENSORFLOW), Path(folder), seconds, rounds)
        found = []
        for start in _starts(progress, Path(folder), [name for name, wanted in others.items() if wanted]):
            with start as server:
                servers.check(server, direct["answer"])
                found.append(measure(progress, server, seconds, rounds))
    _tables.show(console, numbers.tables(found, direct["calls"] * 100))
    absent = [f"{name} was not measured." for name, wanted in others.items() if not wanted]
    if write:
        numbers.write(found, direct, absent, load)


def measure(progress: Progress, server: Server, seconds: float, rounds: int) -> numbers.Found:
    """Measure a server in all that it speaks, round by round."""
    loads: dict[Case, list[Load]] = {case: [] for case in cases(server)}
    with progress.step(f"{server.title}: {rounds} rounds of {len(loads)} measurements"):
        for case in loads:
            send(server, case, WARM_SECONDS)
        for _ in range(rounds):
            for case, each in loads.items():
                each.append(send(server, case, seconds))
    medians = {case: median(each) for case, each in loads.items()}
    return numbers.Found(server.title, server.ready_seconds, server.resident_mib, medians)


def cases(server: Server) -> Sequence[Case]:
    """Return what a server is asked: others know nothing of TFaaS."""
    spoken = [each for each in numbers.PROTOCOLS if server.token or each != TFAAS]
    return [Case(p, rows, clients) for p in spoken for rows in numbers.ROWS for clients in (numbers.FEW, numbers.MANY)]


def _starts(
    progress: Progress, folder: Path, others: Sequence[str]
) -> Iterator[contextlib.AbstractContextManager[Server]]:
    yield servers.ours(folder)
    if "KServe" in others:
        yield servers.kserve(servers.environment(progress, servers.KSERVE), folder)
    if "Triton" in others:
        yield triton(servers.environment(progress, TRITON), folder)


if __name__ == "__main__":
    main()
