"""An operator that has seen half of the world does nothing: each kind in turn is listed late, and all else at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from af_operator.model import Kind
from af_operator.world import SESSION
from local_cluster.control_plane import ControlPlane
from local_cluster.processes import poll
from tests.support import played_dask
from tests.support.empty_hub import EmptyHub
from tests.support.faults import Hold, Match
from tests.support.many_sessions import NOTEBOOK, RUN, session
from tests.support.played_dask import GROUP
from tests.support.proxied_operator import ProxiedOperator, of_kind, proxied
from tests.support.site import KINDS, Site

ENGINE = "DaskKubernetes"
"""Sessions under it have something of each kind."""
NAMESPACES = ("half-0", "half-1")
LATE = 3.0
"""Seconds by which a list comes later than all others."""
SIDE_BY_SIDE = 5
SETTINGS = {"everywhere": {}, "named": {"WATCH_NAMESPACES": ",".join(NAMESPACES)}}
# With namespaces that are named a kind is listed in each of them, and late in the first: of these is enough.
LATE_IN_ONE = ("analysissessions", "daskworkergroups", "deployments", "pods", "secrets")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmptyHub]:
    """One for all: its address is part of what notebooks are given."""
    with EmptyHub(tmp_path_factory.mktemp("hub")) as found:
        yield found


@pytest.fixture(scope="module")
def settled(plane: ControlPlane, site: Site, hub: EmptyHub, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Runs and notebooks, of which some compute: as they should be. Their number."""
    directory = tmp_path_factory.mktemp("settled")
    site.open_namespaces(*NAMESPACES)
    runs = [session(f"run{number}", NAMESPACES[number % 2], RUN) for number in range(10)]
    notebooks = [session(f"note{number}", NAMESPACES[number % 2], NOTEBOOK, f"user{number}") for number in range(10)]
    keys = 1 + len(runs + notebooks)
    with proxied(plane, directory, **hub.settings) as operator:
        operator.process.start()
        site.create(runs + notebooks)
        assert poll(lambda: len(site.objects(GROUP)) == 2 * len(runs + notebooks), 60, 1), "two groups for each"
        for each in (*runs[:3], *notebooks[:3]):
            played_dask.play(site, each["metadata"]["namespace"], each["metadata"]["name"])
        operator.settle(keys)
        assert operator.process.stop() == 0
    return keys


def test_the_world_has_something_of_each_kind(settled: int, site: Site) -> None:
    """Or that its list is late would change nothing."""
    there = {ref.plural for ref in site.objects()}
    assert [kind.plural for kind in KINDS if kind.plural not in there] == ["nodes", "resourcequotas"]
    ready = [ref.name for ref, body in site.objects(SESSION).items() if "dask" in body["status"].get("endpoints", ())]
    assert len(ready) == 6, "the others have no workers"


@pytest.mark.parametrize("where", SETTINGS)
def test_no_write_before_everything_is_seen(
    plane: ControlPlane, hub: EmptyHub, settled: int, tmp_path: Path, where: str
) -> None:
    kinds = [kind for kind in KINDS if where == "everywhere" or kind.plural in LATE_IN_ONE]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:

        def wrong(late: Kind) -> list[str]:
            with proxied(plane, tmp_path / late.plural, **hub.settings, **SETTINGS[where]) as operator:
                return restarted(operator, late, settled)

        found = dict(zip((kind.plural for kind in kinds), pool.map(wrong, kinds), strict=True))
    assert {late: told for late, told in found.items() if told} == {}


def restarted(operator: ProxiedOperator, late: Kind, keys: int) -> list[str]:
    """Start an operator to which one kind is told late; return what it does that it should not."""
    hold = Hold()
    held = operator.proxy.rule(hold, first_lists(late))
    operator.process.start()
    others = [kind for kind in KINDS if kind != late]
    operator.proxy.until(lambda: all(listed(operator, kind) for kind in others), "all other kinds are listed", 90)
    threading.Event().wait(LATE)  # it has all that it needs to do wrong
    assert held.hits, f"{late.plural} were not listed"
    early = operator.proxy.writes
    ready = ["ready"] if operator.process.get("readyz")[0] == 200 else []
    hold.release()
    operator.settle(keys)
    afterwards = operator.proxy.writes[len(early) :]
    return ready + [f"early {write}" for write in early] + [f"afterwards {write}" for write in afterwards]


def first_lists(kind: Kind) -> Match:
    """Match the lists of a kind, but those in the second namespace of two."""
    everywhere = of_kind("list", kind)
    return replace(everywhere, path=everywhere.path.replace("[^/]+", NAMESPACES[0]))


def listed(operator: ProxiedOperator, kind: Kind) -> bool:
    """Return whether a kind has been listed, in each namespace where there are several."""
    lists = operator.lists(kind)
    return bool(lists) and all(call.status == 200 for call in lists)
