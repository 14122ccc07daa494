"""What is measured with many sessions, what it should be, and both as a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import psutil

from benchmarks._tables import HERE, Numbers, Row, markdown, put_between, write_json
from tests.support.many_sessions import CHILDREN

BEGIN, END = "<!-- numbers: written by benchmarks.scale -->", "<!-- end of the numbers -->"


@dataclass(frozen=True)
class Empty:
    """An operator without a session."""

    ready_seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Creation:
    """Sessions that come as fast as ``kubectl create`` makes them.

    Attributes
    ----------
    bare, operator
        Sessions for which all children are made, each second.
    writes, reads
        Requests of the operator for each session, until nothing is written any more.
    """

    bare: float
    operator: float
    writes: float
    reads: float

    @property
    def ratio(self) -> float:
        """The operator's rate by the bare client's."""
        return self.operator / self.bare


@dataclass(frozen=True)
class Restart:
    """An operator that is stopped and started again.

    Attributes
    ----------
    list_seconds
        What the bare client takes to list the same objects.
    ready_seconds
        From the start of the process until it is ready.
    passes_seconds
        From then until it has looked at every session.
    cpu_seconds
        What it has computed until then.
    writes, reads
        Its requests until long after that, but for the Lease's and for what is next.
    late_seconds
        How long a session that is created when it is ready waits for its children.
    """

    list_seconds: float
    ready_seconds: float
    passes_seconds: float
    cpu_seconds: float
    writes: int
    reads: int
    late_seconds: float

    @property
    def ratio(self) -> float:
        """The operator's time by the bare client's."""
        return self.ready_seconds / self.list_seconds


@dataclass(frozen=True)
class Idle:
    """A minute in which nothing happens; requests but for the Lease's."""

    requests: int
    cpu_seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Size:
    """All that was measured with so many sessions."""

    sessions: int
    empty: Empty
    creation: Creation
    restart: Restart
    idle: Idle
    highest_mib: float


@dataclass(frozen=True)
class Notebooks:
    """A restart beside a JupyterHub that is slow to answer."""

    sessions: int
    writes: int


Value = Callable[[Size], float]


@dataclass(frozen=True)
class Goal:
    """One number, and what it must be.

    Attributes
    ----------
    limit
        The most that it may be, or where it `is_least` the least; None where it is there to be read.
    sizes
        Where this holds; everywhere if there are none.
    """

    title: str
    value: Value
    unit: str = ""
    limit: float | None = None
    is_least: bool = False
    sizes: tuple[int, ...] = ()

    def ratio(self, sizes: Sequence[Size]) -> str:
        """Return the worst ratio to the goal: at most 1 where it is met."""
        counted = [self.value(size) for size in sizes if not self.sizes or size.sessions in self.sizes]
        if self.limit is None or not counted:
            return ""
        if not self.limit:
            return "met" if not any(counted) else "missed"
        return f"{max(self.limit / v if self.is_least else v / self.limit for v in counted):.2f}"

    def said(self) -> str:
        """Return the goal in words."""
        if self.limit is None:
            return ""
        where = f" at {' and '.join(f'{size:,}' for size in self.sizes)}" if self.sizes else ""
        sign = "≥" if self.is_least else "≤"
        return f"{sign if self.limit else ''} {_number(self.limit, self.unit)}{where}".strip()


GOALS = (
    Goal("creation: sessions/s, bare client", lambda s: s.creation.bare),
    Goal("creation: sessions/s, operator", lambda s: s.creation.operator),
    Goal(
        "creation: operator by bare client", lambda s: s.creation.operator / s.creation.bare, "", 0.5, True, (300, 1000)
    ),
    Goal("writes per created session", lambda s: s.creation.writes, "", CHILDREN + 2),
    Goal("reads per created session", lambda s: s.creation.reads, "", 0),
    Goal("restart: bare client lists the same", lambda s: s.restart.list_seconds, "s"),
    Goal("restart: ready", lambda s: s.restart.ready_seconds, "s"),
    Goal(
        "restart: ready, by the bare client",
        lambda s: s.restart.ready_seconds / s.restart.list_seconds,
        "",
        2.5,
        sizes=(5000,),
    ),
    Goal("restart: then every pass done", lambda s: s.restart.passes_seconds, "s", 60),
    Goal("restart: CPU until then", lambda s: s.restart.cpu_seconds, "s"),
    Goal("restart: writes", lambda s: s.restart.writes, "", 0),
    Goal("restart: reads of single objects", lambda s: s.restart.reads, "", 0),
    Goal("restart: a session created meanwhile is served after", lambda s: s.restart.late_seconds, "s", 5),
    Goal("memory, highest", lambda s: s.highest_mib, "MiB", 512),
    Goal("memory, idle", lambda s: s.idle.memory_mib, "MiB"),
    Goal("memory, idle without a session", lambda s: s.empty.memory_mib, "MiB", 110),
    Goal("idle minute: requests", lambda s: s.idle.requests, "", 0),
    Goal("idle minute: CPU", lambda s: s.idle.cpu_seconds, "s", 1),
)
GROWTH = 1000, 5000, 5.5
"""From so many sessions to so many, the CPU of a start may grow by this factor."""


def table(sizes: Sequence[Size], notebooks: Notebooks | None) -> Numbers:
    """Return all numbers beside their goals."""
    head = ("", *(f"{size.sessions:,} sessions" for size in sizes), "goal", "by the goal")
    return Numbers("Many sessions", head, tuple(_rows(sizes, notebooks)))


def _rows(sizes: Sequence[Size], notebooks: Notebooks | None) -> Iterator[Row]:
    for goal in GOALS:
        values = (_number(goal.value(size), goal.unit) for size in sizes)
        yield goal.title, *values, goal.said(), goal.ratio(sizes)
    few, many, limit = GROWTH
    cpu = {size.sessions: size.restart.cpu_seconds for size in sizes}
    if few in cpu and many in cpu:
        growth = cpu[many] / cpu[few]
        cells = [f"{growth:.2f}" if size.sessions == many else "" for size in sizes]
        yield f"growth of that CPU from {few:,} on", *cells, f"≤ {limit}", f"{growth / limit:.2f}"
    if notebooks:
        said = f"restart with {notebooks.sessions} notebooks beside a slow Hub: writes"
        yield said, *(str(notebooks.writes), *("" for _ in sizes[1:])), "0", "missed" if notebooks.writes else "met"


def write(sizes: Sequence[Size], notebooks: Notebooks | None, load: float) -> None:
    """Write ``scale.json`` and the numbers of the README."""
    said = {"kopf": version("kopf"), "aiohttp": version("aiohttp"), "Python": platform.python_version()}
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": said, "load_before": load}
    found = {"sizes": [asdict(size) for size in sizes], "notebooks": asdict(notebooks) if notebooks else None}
    write_json(HERE / "scale.json", about | found)
    versions = ", ".join(f"{name} {number}" for name, number in said.items())
    text = f"{about['date']}, {about['machine']}; {versions}.\n"
    put_between(BEGIN, END, text + markdown([table(sizes, notebooks)]))


def machine() -> str:
    """Return this machine in words."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores and {memory:.0f} GiB ({platform.system()} {platform.machine()})"


def _number(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.2f}"
    return f"{text} {unit}".strip()
