"""Who connects to a session's pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from af_operator import names
from af_operator.components.network import peers
from af_operator.model import Body, Session
from af_operator.views import ClusterNetwork, Pods

ASKED = (names.DASK_DASHBOARD_PORT, names.SPARK_AGENT_PORT)
"""Where agents are asked by the operator. The operator of dask-kubernetes asks nobody: it is never told to choose
workers itself."""
METRICS = (names.DASK_DASHBOARD_PORT, names.XCACHE_METRICS_PORT)


def rules(session: Session, network: ClusterNetwork) -> list[Body]:
    """Return the rules: the session itself, and each of the others to its one door."""
    return [{"from": [peers.own(session)]}, *_doors(session, network)]


def _doors(session: Session, network: ClusterNetwork) -> Iterator[Body]:
    yield from _door([network.operator], ASKED)
    if session.spec.notebook:
        yield from _door([network.hub, network.proxy], [names.NOTEBOOK_PORT])
    yield from _door([network.metrics], METRICS)


def _door(who: Iterable[Pods | None], numbers: Iterable[int]) -> Iterator[Body]:
    if known := [peers.pods(each) for each in who if each]:
        yield {"from": known, "ports": peers.ports(numbers)}
