"""An operator that starts over among hundreds of sessions writes and reads nothing, and computes in proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local_cluster.control_plane import ControlPlane
from local_cluster.processes import poll
from tests.support.api_proxy import counted
from tests.support.exchange import Call
from tests.support.many_sessions import CHILDREN, RUN, spread
from tests.support.proxied_operator import ProxiedOperator, proxied
from tests.support.site import WATCHES, Site

pytestmark = pytest.mark.timeout(400)
FEW, MANY = 100, 400
NAMESPACES = [f"restart-{number}" for number in range(10)]
WRITES_PER_SESSION = CHILDREN + 2
"""One for each object that is made, and two statuses."""


@dataclass(frozen=True)
class Start:
    """What one start took."""

    cpu_seconds: float
    calls: list[Call]


@dataclass(frozen=True)
class Grown:
    """What an operator did while its sessions became many, and at its starts among few and many of them."""

    created: list[Call]
    few: Start
    many: Start


@pytest.fixture(scope="module")
def grown(plane: ControlPlane, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    site.open_namespaces(*NAMESPACES)
    sessions = spread(MANY, NAMESPACES, RUN)
    with proxied(plane, tmp_path_factory.mktemp("restart")) as operator:
        operator.process.start()
        assert poll(lambda: operator.process.looked_at(1), 60), "the catalogue has its status, which is no session's"
        before = len(operator.proxy.calls)
        site.create(sessions[:FEW])
        operator.settle(1 + FEW)
        created = operator.proxy.calls[before:]
        few = restart(operator, FEW)
        site.create(sessions[FEW:])
        operator.settle(1 + FEW + MANY, 200)
        yield Grown(created, few, restart(operator, MANY))


def restart(operator: ProxiedOperator, sessions: int) -> Start:
    """Stop it, and start it again; its CPU counts until every session has had its pass."""
    assert operator.process.stop() == 0
    before = len(operator.proxy.calls)
    operator.process.start()
    cpu = operator.process.cpu_until_looked_at(1 + sessions, 120)
    operator.settle(1 + sessions)
    return Start(cpu, operator.proxy.calls[before:])


def test_each_session_is_there_with_what_is_its_own(grown: Grown, site: Site) -> None:
    found = Counter(ref.plural for ref in site.objects())
    assert {k: found[k] for k in ("analysissessions", "jobs", "pods")} == {
        "analysissessions": MANY,
        "jobs": MANY,
        "pods": 2 * MANY,
    }


def test_a_session_costs_few_writes_and_no_read(grown: Grown) -> None:
    writes, reads = asked(grown.created, "write"), asked(grown.created, "get")
    print(f"{len(writes) / FEW:.2f} writes and {len(reads) / FEW:.2f} reads for each session")
    assert len(writes) <= WRITES_PER_SESSION * FEW, Counter((call.verb, call.status) for call in writes)
    assert reads == []


@pytest.mark.parametrize("which", ["few", "many"])
def test_a_restart_writes_and_reads_nothing(grown: Grown, which: str) -> None:
    start: Start = getattr(grown, which)
    assert asked(start.calls, "write") == []
    assert asked(start.calls, "get") == []


def asked(calls: list[Call], kind: str) -> list[Call]:
    """Return the requests of one kind, but for the Lease's: it is renewed by the clock."""
    return [call for call in calls if call.kind == kind and counted(call)]


def test_a_restart_lists_once_for_each_watch(grown: Grown) -> None:
    lists = Counter(c.path.rpartition("/")[2] for c in grown.many.calls if c.kind == "list" and not c.page)
    expected = {kind.plural: watches for kind, watches in WATCHES.items()}
    assert {plural: lists[plural] for plural in expected} == expected


def test_a_start_computes_in_proportion_to_the_sessions(grown: Grown) -> None:
    few, many = grown.few.cpu_seconds, grown.many.cpu_seconds
    print(f"CPU of a start: {few:.1f} s with {FEW} sessions, {many:.1f} s with {MANY}")
    assert many <= 5 * few
