"""Lists that break off, are refused for now, or grow too old between two pages: the operator starts all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from af_operator.model import Kind
from af_operator.world import SESSION
from local_cluster.control_plane import ControlPlane
from local_cluster.processes import poll
from tests.support.faults import PAGE_GONE, Cut, Pages, too_many
from tests.support.many_sessions import NOTEBOOK, RUN, children_of, session
from tests.support.proxied_operator import ProxiedOperator, of_kind, proxied
from tests.support.site import KINDS, WATCHES, Body, Ref, Site

NAMESPACE = "lists"
SESSIONS = 6
PAGE = 3
SERVED_SECONDS = 30
LISTS = 3
"""How often a kind may be listed whose list is answered well only the third time."""


@pytest.fixture(scope="module")
def keys(plane: ControlPlane, site: Site, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A world with more of each kind than fit on a page; the number of sessions and profiles."""
    site.open_namespaces(NAMESPACE)
    with proxied(plane, tmp_path_factory.mktemp("lists")) as operator:
        operator.process.start()
        site.create(session(f"run{number}", NAMESPACE, RUN) for number in range(SESSIONS))
        site.create(session(f"note{number}", NAMESPACE, NOTEBOOK, f"user{number}") for number in range(SESSIONS))
        operator.settle(1 + 2 * SESSIONS)
    return 1 + 2 * SESSIONS


def break_off(operator: ProxiedOperator, kind: Kind) -> Callable[[], int]:
    rule = operator.proxy.rule(Cut(after=300), of_kind("list", kind), times=1)
    return lambda: rule.hits


def refuse(operator: ProxiedOperator, kind: Kind) -> Callable[[], int]:
    rule = operator.proxy.rule(too_many(1), of_kind("list", kind), times=2)
    return lambda: rule.hits


def grow_old(operator: ProxiedOperator, kind: Kind) -> Callable[[], int]:
    operator.proxy.rule(Pages(PAGE), of_kind("list", kind))
    rule = operator.proxy.rule(PAGE_GONE, of_kind("page", kind), times=1)
    return lambda: rule.hits


@pytest.mark.parametrize("wrong", [break_off, refuse, grow_old])
def test_the_world_is_whole_all_the_same(
    plane: ControlPlane,
    site: Site,
    keys: int,
    tmp_path: Path,
    wrong: Callable[[ProxiedOperator, Kind], Callable[[], int]],
) -> None:
    stored = Counter(ref.plural for ref in site.objects())
    expected = {kind.plural for kind in KINDS if wrong is not grow_old or stored[kind.plural] > PAGE}
    with proxied(plane, tmp_path) as operator:
        struck = {kind.plural: wrong(operator, kind) for kind in KINDS}
        operator.process.start()
        operator.settle(keys)
        assert {plural for plural, hits in struck.items() if hits()} == expected
        assert operator.process.get("readyz") == (200, "ok")
        assert [str(write) for write in operator.proxy.writes] == []
        assert operator.process.sessions() == keys - 1
        assert {kind.plural: n for kind in KINDS if (n := len(operator.lists(kind))) > LISTS * WATCHES[kind]} == {}
        serves(site, session(f"late-{wrong.__name__.replace('_', '-')}", NAMESPACE, RUN))


def serves(site: Site, late: Body) -> None:
    """Have a session made, and deleted again."""
    name, made = late["metadata"]["name"], len(children_of(late)) + 1
    site.create([late])
    assert poll(lambda: len(site.of(name)) == made, SERVED_SECONDS, 0.5), sorted(site.of(name))
    site.delete(SESSION, Ref(SESSION.plural, NAMESPACE, name))
    assert poll(lambda: not site.of(name), SERVED_SECONDS, 0.5), sorted(site.of(name))
