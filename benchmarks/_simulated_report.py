"""The numbers of simulated nodes, and of sessions without nodes: as tables and as JSON, beside what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from benchmarks._engines import NATIVE, OWN_WAY
from benchmarks._requests import CONTROLLERS, NODES, OPERATORS, SCHEDULER
from benchmarks._scale_numbers import machine
from benchmarks._sessions import Sessions
from benchmarks._simulated import Growth
from benchmarks._tables import HERE, Numbers, Row, Target, markdown, put_between, ratio, seconds, targets, write_json
from local_cluster.binaries import KUBERNETES_VERSION

END = "<!-- end of the numbers -->"
GROWTH, SESSIONS = (f"<!-- numbers: written by benchmarks.scaling, {part} -->" for part in ("simulated", "sessions"))
GROWTH_HEAD = (
    *("way", "pods are ready after", "pods/s", "requests of operators", "of Kubernetes' controllers"),
    *("of scheduler and nodes", "CPU of operators", f"time by {OWN_WAY}", "requests of operators", "all requests"),
)
SESSIONS_HEAD = ("engine", "operator", "objects", "statuses", "requests", "CPU", "memory that stays")
MOST_CPU, MOST_MEMORY, STATUSES = 0.05, 0.1, 2


def growth_tables(found: Sequence[Growth]) -> list[Numbers]:
    """Return the ways side by side."""
    own = next(growth for growth in found if growth.title == OWN_WAY)
    title = f"0 → {own.workers:,} workers on simulated nodes"
    return [Numbers(title, GROWTH_HEAD, tuple(_growth_row(growth, own) for growth in found))]


def session_tables(found: Sequence[Sessions]) -> list[Numbers]:
    """Return what each operator takes for a session, and what the engine `Native` is to reach."""
    title = f"For each of {found[0].sessions} sessions with 2 pools and 3 workers, without nodes"
    rows = tuple(row for each in found for row in _session_rows(each))
    native = next(each for each in found if each.engine == NATIVE)
    return [Numbers(title, SESSIONS_HEAD, rows), targets(f"What `{NATIVE}` is to reach", goals(native))]


def goals(native: Sessions) -> Iterator[Target]:
    """Yield what a session may cost."""
    other = native.of_all("requests") - native.of_all("objects")
    yield Target("requests but for one for each object made", round(other, 3), STATUSES)
    yield Target("CPU in all, in seconds", native.of_all("cpu"), MOST_CPU)
    yield Target("memory that stays, in MiB in all", native.of_all("memory"), MOST_MEMORY)


def write_growth(found: Sequence[Growth], load: float) -> None:
    """Write ``simulated.json`` and the numbers of the README."""
    _write("simulated.json", GROWTH, {"ways": [growth.body() for growth in found]}, growth_tables(found), load)


def write_sessions(found: Sequence[Sessions], load: float) -> None:
    """Write ``sessions.json`` and the numbers of the README."""
    _write("sessions.json", SESSIONS, {"engines": [asdict(each) for each in found]}, session_tables(found), load)


def _write(file: str, begin: str, numbers: dict[str, Any], tables: Iterable[Numbers], load: float) -> None:
    versions = {name: version(name) for name in ("dask-kubernetes", "kopf")} | {"Kubernetes": KUBERNETES_VERSION}
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions, "load_before": load}
    write_json(HERE / file, about | numbers)
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    put_between(begin, END, f"{about['date']}, {about['machine']}; {said}.\n{markdown(tables)}")


def _growth_row(growth: Growth, own: Growth) -> Row:
    asked, base = growth.requests, own.requests
    numbers = (asked.operators.total, asked.of(CONTROLLERS).total, asked.of(SCHEDULER, NODES).total)
    cpu = sum(spent.cpu for spent in growth.spent.values())
    shares = ((growth.seconds, own.seconds), (asked.operators.total, base.operators.total))
    by_own = (*(ratio(*share) for share in shares), ratio(asked.all.total, base.all.total))
    rate = f"{growth.workers / growth.seconds:.0f}"
    return growth.title, seconds(growth.seconds), rate, *(f"{n:,}" for n in numbers), seconds(cpu), *by_own


def _session_rows(found: Sessions) -> Iterator[Row]:
    for who in OPERATORS:
        if cost := found.costs.get(who):
            counts = (f"{number:.2f}" for number in (cost.objects, cost.statuses, cost.requests))
            yield found.engine, who, *counts, f"{cost.cpu:.3f} s", f"{cost.memory:.2f} MiB"
