"""What TLS costs Dask: many small tasks, and 1 GiB from worker to worker, with and without, in turns.

A scheduler and two workers of one thread each, as processes of this machine; with TLS they have the certificates and
the configuration that a session's have. Each round begins both ways anew.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
from distributed import Client, Security, wait
from matplotlib.figure import Figure
from rich.console import Console

from af_operator import names
from af_operator.components._shared.pki import certificates
from af_operator.components.dask import secret
from af_operator.observed import Observed
from benchmarks import _tables
from benchmarks._inference_numbers import machine
from benchmarks._tables import HERE, Numbers, Row, ratio
from local_cluster.progress import Progress
from tests.support.hubs import free_port
from tests.support.objects import session

BEGIN, END = "<!-- numbers: written by benchmarks.tls -->", "<!-- end of the numbers -->"
PLAIN, TLS = "without TLS", "with TLS"
WAYS = (PLAIN, TLS)
TASKS = 2000
PIECES, PIECE = 16, 64 * 2**20
"""1 GiB in all: bytes of numbers drawn at random, which nothing compresses."""
START_SECONDS = 60

Rates = Mapping[str, Sequence[float]]
"""Way -> what each round has measured."""


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Each with both ways.")
@click.option("--write/--no-write", default=True, help="Write tls.json, tls.png and the numbers of README.md.")
def main(rounds: int, write: bool) -> None:
    """Measure, and print both ways side by side."""
    load = round(os.getloadavg()[0], 1)  # of before anything of ours runs
    console = Console(width=None if sys.stdout.isatty() else 160)
    found = measure(rounds, Progress(console))
    _tables.show(console, [table(found)])
    if write:
        write_numbers(found, (load, round(os.getloadavg()[0], 1)))


def measure(rounds: int, progress: Progress) -> dict[str, Rates]:
    """Return tasks per second and MiB per second of each way, of each round."""
    found: dict[str, dict[str, list[float]]] = {what: {way: [] for way in WAYS} for what in MEASURED}
    for number in range(rounds):
        # Who goes first has a machine that is a little cooler: by turns.
        for way in WAYS if number % 2 else WAYS[::-1]:
            with progress.step(f"round {number + 1}, {way}"), cluster(way) as client:
                for what, measured in MEASURED.items():
                    found[what][way].append(measured(client))
    return dict(found)


def small_tasks(client: Client) -> float:
    """Return how many tasks that do nothing come back in a second."""
    client.gather(client.map(_nothing, range(500), pure=False))  # both workers have met the function
    begin = time.perf_counter()
    client.gather(client.map(_nothing, range(TASKS), pure=False))
    return TASKS / (time.perf_counter() - begin)


def transfers(client: Client) -> float:
    """Return MiB per second from one worker to the other."""
    one, other = client.scheduler_info()["workers"]
    made = client.map(_numbers, range(PIECES), workers=[one], pure=False)
    wait(made)
    begin = time.perf_counter()
    wait(client.map(len, made, workers=[other], pure=False))
    return PIECES * PIECE / 2**20 / (time.perf_counter() - begin)


MEASURED: Mapping[str, Callable[[Client], float]] = {"tasks/s": small_tasks, "MiB/s": transfers}


def _nothing(number: int) -> int:
    return number


def _numbers(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, PIECE, dtype=np.uint8)


@contextmanager
def cluster(way: str) -> Iterator[Client]:
    """Run a scheduler and two workers, and be their client."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        configuration = tls(folder) if way == TLS else {}
        address = f"{'tls' if way == TLS else 'tcp'}://127.0.0.1:{free_port()}"
        run(stack, folder, configuration, "scheduler", "--host", address, "--no-dashboard", "--dashboard-address", ":0")
        for number in range(2):
            limits = (
                "--nthreads",
                "1",
                "--memory-limit",
                "0",
                "--no-dashboard",
                "--dashboard-address",
                ":0",
                "--no-nanny",
                "--name",
                str(number),
            )
            run(stack, folder, configuration, "worker", address, *limits)
        security = own_security(folder) if way == TLS else None
        client = stack.enter_context(Client(address, security=security, timeout=START_SECONDS))
        client.wait_for_workers(2, timeout=START_SECONDS)
        yield client


def tls(folder: Path) -> dict[str, str]:
    """Write a session's certificates, and return the variables by which its programs have them."""
    made = certificates("dask", (os.urandom(32).hex(), os.urandom(32).hex()), datetime.now(UTC))
    for name, text in {secret.CA: made.ca, secret.CERTIFICATE: made.certificate, secret.KEY: made.key}.items():
        (folder / name).write_text(text)
    variables = secret.patch(session(), Observed()).env
    return {each["name"]: str(each["value"]).replace(names.DASK_DIRECTORY, str(folder)) for each in variables}


def own_security(folder: Path) -> Security:
    """Return the same for a client in this process."""
    ca, certificate, key = (str(folder / name) for name in (secret.CA, secret.CERTIFICATE, secret.KEY))
    return Security(require_encryption=True, tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key)


def run(stack: ExitStack, folder: Path, configuration: Mapping[str, str], program: str, *args: str) -> None:
    """Run a program of Dask's as long as the stack lasts."""
    argv = [sys.executable, "-m", f"distributed.cli.dask_{program}", *args]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(argv, cwd=folder, env={**os.environ, **configuration}, stdout=log, stderr=log)

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)


def table(found: Mapping[str, Rates]) -> Numbers:
    """Return the medians, and what is left of them with TLS."""
    return Numbers("Medians of all rounds", ("", PLAIN, TLS, "ratio", "ratio of each round"), tuple(_rows(found)))


def _rows(found: Mapping[str, Rates]) -> Iterator[Row]:
    for what, rates in found.items():
        medians = [statistics.median(rates[way]) for way in WAYS]
        each = sorted(secure / plain for plain, secure in zip(rates[PLAIN], rates[TLS], strict=True))
        said = (f"{median:,.0f} {what}" for median in medians)
        yield TITLES[what], *said, ratio(medians[1], medians[0]), f"{each[0]:.2f} to {each[-1]:.2f}"


TITLES = {"tasks/s": f"{TASKS} tasks that do nothing", "MiB/s": f"{PIECES} pieces of {PIECE // 2**20} MiB"}


def draw(found: Mapping[str, Rates]) -> Figure:
    """Return both numbers of both ways: each round a dot, the median a bar."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, (what, rates) in zip(figure.subplots(1, 2), found.items(), strict=True):
        for place, way in enumerate(WAYS):
            axes.bar(place, statistics.median(rates[way]), width=0.6, color=f"C{place}", alpha=0.4)
            axes.plot([place] * len(rates[way]), rates[way], "o", color=f"C{place}", markersize=4)
        axes.set_xticks(range(2), WAYS)
        axes.set_ylabel(what)
        axes.set_title(TITLES[what], fontsize=10)
        axes.set_ylim(bottom=0)
    return figure


def write_numbers(found: Mapping[str, Rates], load: tuple[float, float]) -> None:
    """Write ``tls.json``, ``tls.png`` and the numbers of the README."""
    said = {name: version(name) for name in ("distributed", "tornado")}
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": said, "load": list(load)}
    _tables.write_json(HERE / "tls.json", about | {"rounds": found})
    draw(found).savefig(HERE / "tls.png", dpi=150)
    versions = ", ".join(f"{name} {number}" for name, number in said.items())
    text = f"{about['date']}, {about['machine']}, load {load[0]} before and {load[1]} after; {versions}.\n"
    _tables.put_between(BEGIN, END, text + _tables.markdown([table(found)]))


if __name__ == "__main__":
    main()
